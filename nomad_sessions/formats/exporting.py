"""A session in the form that somebody needs it in: to read, for a model, for another tool.

Adding one: a function from what the store has to bytes, and a line in `EXPORTS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nomad_sessions.errors import AttachmentMissingError, InvalidInputError, SessionNotFoundError
from nomad_sessions.formats.html import to_html
from nomad_sessions.formats.markdown import to_markdown
from nomad_sessions.formats.model_messages import ModelFormat, converted
from nomad_sessions.formats.opencode_made import to_opencode
from nomad_sessions.formats.redaction import Redactor
from nomad_sessions.formats.resumable import to_claude_code, to_codex
from nomad_sessions.formats.turns import turns_of
from nomad_sessions.formats.values import mapping, objects
from nomad_sessions.models import dump
from nomad_sessions.operations.files import data_url
from nomad_sessions.storage.codec import encode

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["EXPORTS", "Export", "export_session", "indented"]


class Export(NamedTuple):
    """One form: what it is in a few words, the ending of a file's name, and how it is made."""

    label: str
    ending: str
    make: Callable[[_Whole], bytes]


class _Whole(NamedTuple):
    """A session with all its messages, hidden ones at the end, as JSON."""

    manager: NativeSessionManager
    workspace_id: str
    session: dict[str, Any]
    messages: list[dict[str, Any]]
    visible: int

    def attachment(self, sha256: str) -> bytes:
        return self.manager.read_attachment(self.workspace_id, sha256)

    def with_files(self, count: int | None = None) -> list[dict[str, Any]]:
        """The messages, the first so many, with the bytes of their files in them: who takes them elsewhere has no
        attachments there. Of a file whose bytes are missing here, too, the name stays."""
        return [_with_files(message, self.attachment) for message in self.messages[:count]]


def export_session(
    manager: NativeSessionManager, workspace_id: str, session_id: str, form: str, *, redactor: Redactor | None = None
) -> bytes:
    """The session in one of the forms in `EXPORTS`, as UTF-8.

    What a revert hides is left out, except where the form has a place for it (`opencode`, `nomadarch`). A `redactor`
    takes secrets and home folders out of every text, and counts them; bytes of files it leaves as they are. Raises
    `SessionNotFoundError`, `InvalidInputError` for an unknown form or one that cannot hold this session,
    `AttachmentMissingError`. Cost: the session is read once and held in memory.
    """
    if form not in EXPORTS:
        raise InvalidInputError(field="format", value=form, reason=f"must be one of {', '.join(EXPORTS)}")
    session = manager.get_session(workspace_id, session_id)
    if session is None:
        raise SessionNotFoundError(session_id=session_id)
    page = manager.get_session_messages(workspace_id, session_id, include_reverted=True)
    record, messages = dump(session), [dump(message) for message in page]
    if redactor is not None:
        redactor.learn(session.directory)
        record, messages = redactor.value(record), redactor.value(messages)
    return EXPORTS[form].make(_Whole(manager, workspace_id, record, messages, len(session.message_ids)))


def _markdown(whole: _Whole) -> bytes:
    return to_markdown(whole.session, whole.messages[: whole.visible]).encode("utf-8", "replace")


def _html(whole: _Whole) -> bytes:
    return to_html(whole.session, whole.messages[: whole.visible], whole.attachment).encode("utf-8")


def _jsonl(whole: _Whole) -> bytes:
    lines = [{"session": whole.session}, *({"message": message} for message in whole.with_files(whole.visible))]
    return b"".join(encode(line) + b"\n" for line in lines)


def _with_files(message: dict[str, Any], attachment: Callable[[str], bytes]) -> dict[str, Any]:
    if "parts" not in message:
        return message
    return {**message, "parts": [_with_file(part, attachment) for part in objects(message["parts"])]}


def _with_file(part: Mapping[str, Any], attachment: Callable[[str], bytes]) -> Mapping[str, Any]:
    file = mapping(part.get("file"))
    if not file.get("sha256"):
        return part
    try:
        url = data_url(file.get("mime") or "", attachment(file["sha256"]))
    except AttachmentMissingError:  # What there is of the session is not to stay here for it.
        return part
    kept = {key: value for key, value in file.items() if key != "sha256"}
    return {**part, "file": {**kept, "url": url}}


def _nomadarch(whole: _Whole) -> bytes:
    messages = {message["id"]: message for message in whole.with_files()}
    return indented({"sessions": {whole.session["id"]: whole.session}, "messages": messages})


def _opencode(whole: _Whole) -> bytes:
    return indented(to_opencode(whole.session, whole.messages, visible=whole.visible, attachment=whole.attachment))


def _for_model(form: ModelFormat, whole: _Whole) -> bytes:
    return indented(converted(whole.messages[: whole.visible], whole.attachment, form, "full"))


def _resumable(make: Callable[..., bytes], whole: _Whole) -> bytes:
    turns = turns_of(whole.messages[: whole.visible], "model")
    if not turns:
        raise InvalidInputError(field="session", value=whole.session["id"], reason="says nothing to go on with")
    return make(whole.session, turns, whole.attachment)


def indented(value: Any) -> bytes:
    """JSON to be read by people too; what such JSON cannot have, as one line."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"
    except (UnicodeEncodeError, RecursionError):  # lone surrogates, deep nesting
        return encode(value) + b"\n"


EXPORTS: dict[str, Export] = {
    "markdown": Export("to read, share, attach to a pull request", ".md", _markdown),
    "html": Export("a page of its own to read, no network needed", ".html", _html),
    "jsonl": Export("the session and its messages, one a line", ".jsonl", _jsonl),
    "openai": Export("messages for OpenAI chat completions", ".json", partial(_for_model, "openai")),
    "anthropic": Export("messages for Anthropic", ".json", partial(_for_model, "anthropic")),
    "responses": Export("input items for OpenAI Responses", ".json", partial(_for_model, "responses")),
    "opencode": Export("an OpenCode export, for `opencode import`", ".json", _opencode),
    "claude-code": Export("a file that Claude Code goes on with", ".jsonl", partial(_resumable, to_claude_code)),
    "codex": Export("a file that Codex goes on with", ".jsonl", partial(_resumable, to_codex)),
    "nomadarch": Export("a NomadArch sessions.json", ".json", _nomadarch),
}
