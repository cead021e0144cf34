"""Entries written to the store and read from it: one row for each id, whatever is inserted twice.

Verified by `tests/unit/test_dualstore.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nomad_sessions.dualstore.entries import (
    Entry,
    Given,
    event_entry,
    message_entry,
    message_fields,
    own_fields,
    read_text,
)
from nomad_sessions.errors import AlreadyExistsError, InvalidInputError
from nomad_sessions.formats.event_documents import event_of
from nomad_sessions.formats.opencode import parse_session, to_export
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.models import Event, Session, dump
from nomad_sessions.storage.codec import encode

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager
    from nomad_sessions.sessions_api import SessionCalls

__all__ = ["Records"]

_FIXED = frozenset({"id", "createdAt", "sessionId", "rev", "workspaceId", "messageIds"})


class Records:
    """The entries of one workspace. Safe for several threads."""

    def __init__(self, manager: NativeSessionManager, workspace_id: str, own_session: str) -> None:
        """`own_session` is the id of the session that entries without one are kept in."""
        self._manager = manager
        self._ws = workspace_id
        self._own = own_session

    # In

    def put_session(self, session_id: str, entry: Given) -> None:
        """Creates or changes a session from its JSON. Durable on return, as the others."""
        info = read_text(entry.text, dict)
        if info.get("id", session_id) != session_id:
            raise InvalidInputError(field="text", value=info["id"], reason=f"is the id of another than {session_id}")
        time = info.get("time") if isinstance(info.get("time"), dict) else {}
        if entry.timestamp is not None and "created" not in time:
            time = {**time, "created": entry.timestamp}
        parsed = parse_session({**info, "id": session_id, "time": time}, [], ImportReport())
        assert parsed is not None, "it has an id"
        fields = parsed.session
        if isinstance(info.get("description"), str):  # OpenCode has none; the original searched it.
            fields["description"] = info["description"]
        if not fields["createdAt"]:
            del fields["createdAt"]
        with self._manager.transaction(self._ws) as tx:
            if tx.get_session(self._ws, session_id) is None:
                tx.create_session(self._ws, {key: value for key, value in fields.items() if key != "updatedAt"})
            changes = {key: value for key, value in fields.items() if key not in _FIXED}
            if not changes["updatedAt"]:
                del changes["updatedAt"]
            if changes:
                tx.update_session(self._ws, session_id, changes)

    def put_messages(self, session_id: str, entry: Given) -> None:
        """Adds or changes the messages of a session, from a JSON array; others that it has stay. All or none."""
        items = [message_fields(each, session_id) for each in read_text(entry.text, list)]
        with self._manager.transaction(self._ws) as tx:
            for each in items:
                self._put(tx, session_id, each)

    def put_message(self, entry: Given) -> str:
        """Adds or changes a message; its id."""
        fields = own_fields(entry)
        with self._manager.transaction(self._ws) as tx:
            known = tx.get_message(self._ws, entry.id) if entry.id is not None else None
            session_id = entry.session_id or (known.session_id if known is not None else self._own)
            if session_id == self._own and tx.get_session(self._ws, session_id) is None:
                tx.create_session(self._ws, id=session_id, title=session_id)
            return self._put(tx, session_id, fields)

    def _put(self, tx: SessionCalls, session_id: str, fields: Mapping[str, Any]) -> str:
        known = tx.get_message(self._ws, fields["id"]) if "id" in fields else None
        if known is None:
            return tx.add_message(self._ws, session_id, fields).id
        if known.session_id != session_id:
            raise AlreadyExistsError(kind="message", id=known.id, current=known)
        changes = {key: value for key, value in fields.items() if key not in _FIXED}
        tx.update_message(self._ws, known.id, {"parts": None, **changes})
        return known.id

    def put_event(self, event_id: str, document: Mapping[str, Any]) -> None:
        """Records an event, once. Cost: the recorded events, looked through for its id. Raises `InvalidInputError` for
        none, and for another of the same id: an event is never changed."""
        report = ImportReport()
        event = event_of("", {**document, "id": event_id}, report)
        if event is None:
            raise InvalidInputError(field="text", value=document.get("text"), reason="; ".join(report.skipped))
        known = self.event(event_id)
        if known is None:
            self._manager.record_events(self._ws, [event])
        elif (known.type, dump(known)["properties"]) != (event["type"], event["properties"]):
            raise InvalidInputError(field="id", value=event_id, reason="is that of another event")

    # Out

    def session(self, session_id: str) -> Entry | None:
        """A session."""
        found = self._manager.get_session(self._ws, session_id)
        return None if found is None else _session_entry(found)

    def messages(self, session_id: str) -> Entry | None:
        """The visible messages of a session, as one entry."""
        session = self._manager.get_session(self._ws, session_id)
        if session is None:
            return None
        page = [dump(each) for each in self._manager.get_session_messages(self._ws, session_id)]
        whole = to_export(dump(session), page, attachment=self._attachment)
        text = encode(whole["messages"]).decode("utf-8", "replace")
        metadata = {"type": "session_messages", "sessionId": session_id}
        return Entry(f"session:{session_id}:messages", text, session.updated_at, metadata)

    def message(self, message_id: str) -> Entry | None:
        """A message."""
        found = self._manager.get_message(self._ws, message_id)
        return None if found is None else message_entry(found)

    def event(self, event_id: str) -> Event | None:
        """A recorded event; the last of this id. Cost: the recorded events."""
        found = self._manager.events(self._ws, recorded=True, newest_first=True)
        return next((each for each in found if each.id == event_id), None)

    def sessions(self) -> Iterator[Entry]:
        """All sessions, the last changed first."""
        return map(_session_entry, self._manager.list_sessions(self._ws))

    def all_messages(self) -> Iterator[Entry]:
        """All visible messages, session by session. Cost: they are read."""
        for session in self._manager.list_sessions(self._ws):
            yield from map(message_entry, self._manager.get_session_messages(self._ws, session.id))

    def events(self) -> Iterator[Entry]:
        """All recorded events, the newest first."""
        return map(event_entry, self._manager.events(self._ws, recorded=True, newest_first=True))

    def _attachment(self, sha256: str) -> bytes:
        return self._manager.read_attachment(self._ws, sha256)


def _session_entry(session: Session) -> Entry:
    info = to_export(dump(session), ())["info"]
    if session.description is not None:
        info["description"] = session.description
    metadata = {"type": "session", "sessionId": session.id, "title": session.title}
    text = encode(info).decode("utf-8", "replace")
    return Entry(f"session:{session.id}", text, session.updated_at, metadata)
