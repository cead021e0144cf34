"""Streaming a model's answer into a message: a token costs one small journal record, not the message again.

Invariant: what was passed to `text`, `thinking` and `tool_call` before a crash is a prefix of what is found afterwards,
with status `streaming` and nobody writing; after a clean end the message is complete and synced. Verified by
`tests/unit/test_streaming.py` and `tests/processes/`.

A live stream is known by a lock (`workspace/living.py`), and the message names its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nomad_sessions.errors import AlreadyExistsError, InvalidInputError, SessionNotFoundError, TransactionError
from nomad_sessions.models import Message, Usage, dump, normalise_fields, validate
from nomad_sessions.operations import listing, messages
from nomad_sessions.operations.plain import plain
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.living import Living, everybody, lives
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.view import View

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["MessageStream", "interrupted", "streaming_sessions"]

WRITER = "writer"


def interrupted(view: View, fs: FileSystem, workspace: str) -> list[Message]:
    """The messages with status `streaming` whose writer is gone."""
    found = []
    for message in listing.with_status(view, "streaming"):
        name = (message.model_extra or {}).get(WRITER)
        if not (isinstance(name, str) and lives(fs, workspace, name)):
            found.append(message)
    return found


def streaming_sessions(fs: FileSystem, workspace: str) -> set[str]:
    """The sessions into which a message is being streamed, by a writer that lives. Cost: the open streams."""
    return set(filter(None, everybody(fs, workspace)))


class MessageStream:
    """A message while it is written; `manager.stream_message(…)` makes it, as a context manager.

    Each call appends at once and is synced soon (within `batch_interval`). The end of the block completes and syncs; an
    exception gives status `error` with its name, and goes on; cancellation, Ctrl-C and `abort()` give
    `error{name: "aborted"}`. The text is kept in every case. Not for several threads at once.
    """

    def __init__(
        self, manager: NativeSessionManager, workspace_id: str, session_id: str, fields: dict[str, Any]
    ) -> None:
        self._manager = manager
        self._workspace_id = workspace_id
        self._session_id = session_id
        self._fields = fields
        self._alive: Living | None = None
        self._message: Message | None = None
        self._calls: dict[str, int] = {}
        self._part: tuple[str, int] | None = None
        self._usage: Body | None = None
        self._aborted: str | None = None
        self._ended = False

    @property
    def message(self) -> Message:
        """The message as it was added, and after the end as it is."""
        if self._message is None:
            raise TransactionError(message="this stream has not begun: use it as a context manager")
        return self._message

    def __enter__(self) -> MessageStream:
        """Adds the message, with status `streaming`, durably. Raises as `add_message` does, and `AlreadyExistsError`
        where a given `id` is taken."""
        if self._message is not None or self._alive is not None:
            raise TransactionError(message="a stream is used once: begin another")
        session = self._manager.get_session(self._workspace_id, self._session_id)
        if session is None:
            raise SessionNotFoundError(session_id=self._session_id)
        workspace = self._manager.workspace(self._workspace_id)
        # Locked before the message names it: a message that says `streaming` has a writer from the first moment.
        self._alive = Living(workspace.fs, workspace.folder, session.id)
        try:
            self._message = self._added(self._alive.name)
        except BaseException:
            self._alive.end()
            raise
        return self

    def _added(self, writer: str) -> Message:
        body = normalise_fields("message", {"role": "assistant", "status": "streaming"}, self._fields) | {
            WRITER: writer
        }
        content, parts = body.get("content"), body.get("parts")
        if content and not parts:  # What is streamed goes to parts, which then are the content.
            body["parts"] = [{"type": "text", "content": content}]
            self._part = ("text", 0)
        message = self._manager.add_message(self._workspace_id, self._session_id, body)
        if (message.model_extra or {}).get(WRITER) != writer:
            raise AlreadyExistsError(kind="message", id=message.id, current=message)
        return message

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Completes the message, or says why it is not complete; synced on return."""
        self._ended = True
        changes: Body = {"status": "completed", WRITER: None}
        if kind is not None or self._aborted is not None:
            changes["status"] = "error"
            changes["error"] = self._reason(kind, error)
        if self._usage is not None:
            changes["usage"] = self._usage
        try:
            self._message = self._manager.update_message(self._workspace_id, self.message.id, changes)
        finally:
            if self._alive is not None:
                self._alive.end()

    def _reason(self, kind: type[BaseException] | None, error: BaseException | None) -> Body:
        cancelled = kind is not None and not issubclass(kind, Exception)
        if kind is None or cancelled:
            return {"name": "aborted", "message": self._aborted or (kind.__name__ if kind else "")}
        return {"name": kind.__name__, "message": str(error)}

    def text(self, delta: str) -> None:
        """More of the answer."""
        self._append("text", delta)

    def thinking(self, delta: str) -> None:
        """More of the model's reasoning."""
        self._append("thinking", delta)

    def tool_call(self, id: str, name: str, arguments_delta: str = "") -> None:
        """A call of a tool, or more of its arguments (a piece of JSON text); calls may be interleaved."""
        known = self._calls.get(id)
        if known is not None:
            self._send(arguments_delta, known, None)
            return
        call = {"id": id, "type": "function", "function": {"name": name, "arguments": ""}}
        self._calls[id] = self._send(arguments_delta, None, {"type": "tool_call", "toolCall": call})
        self._part = None

    def usage(self, usage: Mapping[str, Any] | None = None, /, **tokens: Any) -> None:
        """What the answer cost: `input`, `output`, … tokens; the last word counts. Written at the end.

        Raises `InvalidInputError` at once for what is no usage.
        """
        try:
            given = {**(self._usage or {}), **dump(validate(Usage, {**(usage or {}), **tokens}))}
        except TypeError as error:
            raise InvalidInputError(field="usage", value=usage, reason="must be a mapping of numbers") from error
        self._usage = plain(given)

    def abort(self, reason: str = "") -> None:
        """Says that the answer ends here, incomplete; to be called before the block ends."""
        self._aborted = reason or "abort() was called"

    def _append(self, kind: str, delta: str) -> None:
        if self._part is not None and self._part[0] == kind:
            self._send(delta, self._part[1], None)
        else:
            self._part = (kind, self._send(delta, None, {"type": kind, "content": ""}))

    def _send(self, delta: str, part: int | None, new: Body | None) -> int:
        if self._ended or self._aborted is not None:
            raise TransactionError(message="this stream has ended: begin another, or add to the message itself")
        operation = messages.append(self.message.id, delta, part, new)
        index = self._manager._commit(self._workspace_id, operation, lazy=True)
        assert index is not None, "a part was named or begun"
        return index
