"""A server's sessions in the store: what the server has is made so here, whole sessions or one event at a time.

Invariant: after `everything`, and then `event` of all that happened since the stream was opened, in order, the store
has what the server has; to be told something twice, or of a state that was passed since, does no harm. What was added
here by others stays. Verified against the real program by `tests/contract/test_capture_program.py`.

A record is mapped by the importers (`formats/opencode.py`), from the same JSON whichever way it comes: an event changes
the one that the store gives back, part by part, and the whole is mapped again. Text of an answer that is being written
is appended as it comes; the message is marked as open until its part is closed, and is then read again whatever
happened.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nomad_sessions.errors import InvalidInputError, NotFoundError, SourceUnavailableError
from nomad_sessions.formats.importing import changeable, mark_of, source_of, stamped, store_session
from nomad_sessions.formats.opencode import message_to_export, parse_session
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.models import Message, Session, dump
from nomad_sessions.sources.opencode_client import OpenCodeEvent

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager
    from nomad_sessions.sources.opencode_client import OpenCodeClient

__all__ = ["FORM", "Mirror", "Mirrored", "own_record", "place_of", "whole_session"]

_LOG = logging.getLogger("nomad_sessions")
FORM = "opencode"
_STREAMED = ("text", "reasoning")
"""The parts whose text comes in pieces."""
_PLACE = "event"
_REMEMBERED = 10_000
_TODOS = "opencodeTodos"
_RESIDUE = ("error", "opencode", "opencodeAbsent", "usage")


def place_of(directory: str) -> str:
    """What the sessions of a server's directory name as their source. Ports change, directories do not."""
    return f"opencode://{directory}"


def own_record(client: OpenCodeClient | None, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """A session's own record, as an import keeps it; with its todos, where a client is given to ask for them."""
    report = ImportReport(format=FORM)
    parsed = parse_session(_ordered(info), [], report)
    if parsed is None:
        raise SourceUnavailableError(source=FORM, reason="a session has no id")
    todos = client.todos(parsed.session["id"]) if client is not None else []
    return {**parsed.session, _TODOS: todos} if todos else parsed.session


def whole_session(client: OpenCodeClient, info: Mapping[str, Any], report: ImportReport) -> ParsedSession | None:
    """A session as the importers give one, with all its messages; None where it is gone, or has no id."""
    session_id = str(info.get("id"))
    messages = client.messages(session_id)
    if messages is None:
        return None
    placed = [(f"message {number}", _sorted(each)) for number, each in enumerate(messages)]
    parsed = parse_session(_ordered(info), placed, report)
    todos = client.todos(session_id)
    if parsed is not None and todos:
        parsed.session[_TODOS] = todos
    return parsed


class Mirrored(NamedTuple):
    """What a look at the whole server did: how many sessions it has, how many of them were new here, how many messages
    had changed, how many sessions were deleted there, and how many that it lacks were kept."""

    sessions: int
    new: int
    changed_messages: int
    deleted: int
    kept: int


class Mirror:
    """One directory of a server, in one workspace. Not for several threads at once."""

    def __init__(
        self, manager: NativeSessionManager, workspace_id: str, client: OpenCodeClient, *, keep_deleted: bool = False
    ) -> None:
        """With `keep_deleted`, sessions that are deleted there stay here; messages do not."""
        self._manager = manager
        self._ws = workspace_id
        self._client = client
        self._keep = keep_deleted
        self._infos: dict[str, Mapping[str, Any]] = {}
        self._open: dict[str, tuple[str, int]] = {}
        self._done: dict[str, None] = {}

    def everything(self) -> Mirrored:
        """Makes the store what the server is now. Durable as the manager's setting says, session by session. Raises
        `SourceUnavailableError`, and what writing does. Cost: every session of the directory is read from the server,
        for its times do not tell of a part that was changed or a message that was deleted."""
        self._infos.clear()
        self._open.clear()
        there = self._client.sessions()
        before = [each.id for each in self._manager.list_sessions(self._ws) if self._is_from_here(each)]
        report = self._report()
        for info in reversed(there):  # The oldest first, as they were made.
            self._store(info, report)
        deleted, kept = self._drop_others(before, {str(info.get("id")) for info in there})
        _tell(report)
        return Mirrored(len(there), report.sessions.imported, report.messages.updated, deleted, kept)

    def event(self, event: OpenCodeEvent) -> None:
        """Does here what an event says. Durable as the manager's setting says, pieces of text a little later."""
        properties = event.properties
        session_id = properties.get("sessionID")
        if not isinstance(session_id, str) or self._is_repeated(event.id):
            return  # Of the server's own life, or told once more.
        try:
            handler = _HANDLERS.get(event.type)
            if handler is not None:
                handler(self, session_id, properties)
            elif self._known(session_id):
                self._record(event, session_id)
        except (InvalidInputError, NotFoundError) as error:  # One record that cannot be kept keeps no other out.
            _LOG.warning("%s: %s cannot be kept: %s", self._client.name, event.type, error)

    def _is_repeated(self, event_id: str) -> bool:
        """Whether an event was here already, among the last ones: pieces and what is recorded would be there twice."""
        if event_id in self._done:
            return True
        if event_id:
            self._done[event_id] = None
        if len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]
        return False

    # Sessions

    def _store(self, info: Mapping[str, Any], report: ImportReport) -> None:
        """A session as it is on the server, with its messages."""
        parsed = whole_session(self._client, info, report)
        if parsed is None:
            return
        session_id = parsed.session["id"]
        self._infos[session_id] = info
        self._claim(parsed, source_of(report))
        ids = {message["id"] for message in parsed.messages}
        store_session(self._manager, self._ws, parsed, report)
        for message in self._messages(session_id):
            if message.id not in ids and mark_of(message.model_extra or {}).get("format") == FORM:
                self._manager.delete_message(self._ws, message.id)
        self._keep_time(session_id)

    def _claim(self, parsed: ParsedSession, source: str) -> None:
        """What came in from the program's files is now the server's, and no longer older or newer than another copy."""
        stored = self._manager.get_session(self._ws, parsed.session["id"])
        if stored is None:
            return
        extra = stored.model_extra or {}
        if extra.get(_TODOS):
            parsed.session.setdefault(_TODOS, [])
        if mark_of(extra).get("source") not in (None, source):
            mark = {**mark_of(extra), "source": source}
            self._manager.update_session(self._ws, stored.id, imported=mark, updatedAt=stored.updated_at)

    def _again(self, session_id: str) -> bool:
        """Reads a session from the server afresh; False where it has none, or one of another directory."""
        info = self._client.session(session_id)
        if info is None or info.get("directory") != self._client.directory:
            return False
        report = self._report()
        self._store(info, report)
        _tell(report)
        return session_id in self._infos

    def _known(self, session_id: str) -> bool:
        """Whether it is one of ours, now at the latest."""
        return session_id in self._infos or self._again(session_id)

    def _session_changed(self, session_id: str, properties: Mapping[str, Any]) -> None:
        info = properties.get("info")
        before = self._infos.get(session_id)
        if not isinstance(info, dict) or info.get("directory") != self._client.directory:
            return
        if before is None or "revert" in before or "revert" in info:
            self._again(session_id)  # What is hidden is decided with the messages at hand.
            return
        self._infos[session_id] = info
        self._write_session(session_id, None)

    def _write_session(self, session_id: str, todos: list[Any] | None) -> None:
        """A session's own fields; its todos too, where they are given."""
        report = self._report()
        parsed = parse_session(_ordered(self._infos[session_id]), [], report)
        stored = self._manager.get_session(self._ws, session_id)
        if parsed is None or stored is None:
            return
        extra = stored.model_extra or {}
        known = extra.get(_TODOS) if todos is None else todos
        if known is not None:
            parsed.session[_TODOS] = known
        session = stamped(parsed.session, FORM)
        session["imported"] = {**mark_of(extra), **session["imported"], "source": source_of(report)}
        self._manager.update_session(self._ws, session_id, {**changeable(session), "updatedAt": session["updatedAt"]})

    def _session_deleted(self, session_id: str, properties: Mapping[str, Any]) -> None:
        self._infos.pop(session_id, None)
        stored = self._manager.get_session(self._ws, session_id)
        if stored is not None and not self._keep and self._is_from_here(stored):
            self._manager.delete_session(self._ws, session_id)

    def _is_from_here(self, stored: Session) -> bool:
        """Whether it came from the server's directory."""
        return mark_of(stored.model_extra or {}).get("source") == place_of(str(self._client.directory))

    def _drop_others(self, before: list[str], there: set[str]) -> tuple[int, int]:
        """Deletes what was deleted there while nobody listened. A server that has nothing of what came from its
        directory is taken for another, with an empty store of its own: then all of it stays."""
        gone = [each for each in before if each not in there]
        if self._keep or not gone:
            return 0, len(gone)
        if len(gone) == len(before):
            text = "%s has none of the %d sessions that came from its directory: they are kept"
            _LOG.warning(text, self._client.name, len(gone))
            return 0, len(gone)
        for each in gone:
            self._manager.delete_session(self._ws, each)
        return len(gone), 0

    # Messages

    def _message_changed(self, session_id: str, properties: Mapping[str, Any]) -> None:
        info = properties.get("info")
        if isinstance(info, dict) and isinstance(info.get("id"), str) and self._can_change(session_id):
            raw = self._raw(session_id, info["id"]) or {"parts": []}
            self._write(session_id, {**raw, "info": info})

    def _message_removed(self, session_id: str, properties: Mapping[str, Any]) -> None:
        stored = self._message(session_id, properties.get("messageID")) if self._can_change(session_id) else None
        if stored is not None:
            self._manager.delete_message(self._ws, stored.id)
            self._keep_time(session_id)

    def _part_changed(self, session_id: str, properties: Mapping[str, Any]) -> None:
        part = properties.get("part")
        if not isinstance(part, dict) or not self._can_change(session_id):
            return
        message_id = str(part.get("messageID"))
        raw = self._raw(session_id, message_id)
        if raw is None:
            whole = self._client.message(session_id, message_id)
            if whole is not None:
                self._write(session_id, whole)
            return
        parts = [each for each in raw["parts"] if each.get("id") != part.get("id")]
        parts = sorted([*parts, part], key=lambda each: str(each.get("id")))
        self._write(session_id, {**raw, "parts": parts})
        self._open.pop(str(part.get("id")), None)
        for number, each in enumerate(parts):
            if (each is part and _is_open(part)) or str(each.get("id")) in self._open:
                self._open[str(each.get("id"))] = message_id, number

    def _part_removed(self, session_id: str, properties: Mapping[str, Any]) -> None:
        raw = self._raw(session_id, properties.get("messageID")) if self._can_change(session_id) else None
        if raw is not None:
            parts = [each for each in raw["parts"] if each.get("id") != properties.get("partID")]
            self._open.clear()  # They are counted anew: what is missing until a part is closed comes with its end.
            self._write(session_id, {**raw, "parts": parts})

    def _piece(self, session_id: str, properties: Mapping[str, Any]) -> None:
        """Text of a part whose beginning this connection has seen; others come whole when they are closed."""
        place = self._open.get(str(properties.get("partID")))
        delta, field = properties.get("delta"), properties.get("field")
        if place is not None and isinstance(delta, str) and field == "text":
            message_id, number = place
            self._manager.append_to_message(self._ws, message_id, delta, part=number, sync=False)

    def _write(self, session_id: str, raw: Mapping[str, Any]) -> None:
        """Makes a message what the server says it is, whole."""
        report = self._report()
        parsed = parse_session({"id": session_id}, [(_PLACE, _sorted(raw))], report)
        if parsed is None or not parsed.messages:
            _tell(report)
            return
        message = stamped(parsed.messages[0], FORM)
        if any(_is_open(part) for part in raw["parts"]):
            message["imported"]["digest"] = ""  # No whole message has this one.
        stored = self._manager.get_message(self._ws, message["id"])
        with self._manager.transaction(self._ws) as tx:
            if stored is None:
                tx.add_messages(self._ws, session_id, [message])
            elif stored.session_id != session_id:
                return
            elif mark_of(stored.model_extra or {}) != message["imported"] or not message["imported"]["digest"]:
                bare = dict.fromkeys(("parts", *_RESIDUE))
                tx.update_message(self._ws, message["id"], {**bare, **changeable(message)})
            tx.update_session(self._ws, session_id, updatedAt=_updated(self._infos[session_id]))

    def _can_change(self, session_id: str) -> bool:
        """Whether an event alone tells how a session is now. With a revert in force the whole is needed: it was read,
        and is read again."""
        if not self._known(session_id):
            return False
        if "revert" in self._infos[session_id]:
            self._again(session_id)
            return False
        return True

    def _message(self, session_id: str, message_id: Any) -> Message | None:
        found = self._manager.get_message(self._ws, message_id) if isinstance(message_id, str) and message_id else None
        return found if found is not None and found.session_id == session_id else None

    def _raw(self, session_id: str, message_id: Any) -> dict[str, Any] | None:
        """A message as the server has it, from the store; None where it is not there."""
        stored = self._message(session_id, message_id)
        if stored is None:
            return None
        return message_to_export(
            dump(stored), session_id, lambda sha256: self._manager.read_attachment(self._ws, sha256)
        )

    def _messages(self, session_id: str) -> list[Message]:
        return list(self._manager.get_session_messages(self._ws, session_id, include_reverted=True))

    # What is said beside

    def _todos(self, session_id: str, properties: Mapping[str, Any]) -> None:
        if self._can_change(session_id) and isinstance(properties.get("todos"), list):
            self._write_session(session_id, properties["todos"])

    def _record(self, event: OpenCodeEvent, session_id: str) -> None:
        given = {"type": event.type, "session_id": session_id, "properties": event.properties}
        message_id = event.properties.get("messageID")
        if isinstance(message_id, str) and message_id:
            given["message_id"] = message_id
        self._manager.record_events(self._ws, [{**given, "id": event.id} if event.id else given])

    def _keep_time(self, session_id: str) -> None:
        """The store counts any change as one of the session: its time is the server's."""
        info = self._infos.get(session_id)
        if info is not None and self._manager.get_session(self._ws, session_id) is not None:
            self._manager.update_session(self._ws, session_id, updatedAt=_updated(info))

    def _report(self) -> ImportReport:
        return ImportReport(source=place_of(str(self._client.directory)), format=FORM)


_HANDLERS = {
    "session.created": Mirror._session_changed,
    "session.updated": Mirror._session_changed,
    "session.deleted": Mirror._session_deleted,
    "message.updated": Mirror._message_changed,
    "message.removed": Mirror._message_removed,
    "message.part.updated": Mirror._part_changed,
    "message.part.removed": Mirror._part_removed,
    "message.part.delta": Mirror._piece,
    "todo.updated": Mirror._todos,
}


def _is_open(part: Mapping[str, Any]) -> bool:
    """Whether its text is still being written."""
    time = part.get("time")
    return part.get("type") in _STREAMED and isinstance(time, dict) and "start" in time and "end" not in time


def _sorted(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A message as it is always spelt: an event has its fields in another order than an answer."""
    info, parts = raw.get("info"), raw.get("parts")
    found = dict(raw)
    if isinstance(info, dict):
        found["info"] = _ordered(info)
    if isinstance(parts, list):
        found["parts"] = [_ordered(each) if isinstance(each, dict) else each for each in parts]
    return found


def _ordered(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: fields[key] for key in sorted(fields)}


def _updated(info: Mapping[str, Any]) -> int:
    time = info.get("time")
    found = time.get("updated") if isinstance(time, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _tell(report: ImportReport) -> None:
    for each in report.warnings:
        _LOG.warning("%s: %s", report.source, each)
