"""Entries written to the store and read from it: one row for each id, whatever is inserted twice.

Verified by `tests/unit/test_dualstore.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nomad_sessions.dualstore.entries import (
    Collection,
    Entry,
    Given,
    Place,
    event_entry,
    message_entry,
    message_fields,
    own_fields,
    read_text,
    session_entry,
)
from nomad_sessions.dualstore.recent import Batch, recent_events, recent_messages, recent_sessions
from nomad_sessions.dualstore.recorded import RecordedEvents
from nomad_sessions.errors import AlreadyExistsError, InvalidInputError
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.formats.event_documents import event_of
from nomad_sessions.formats.opencode import parse_session, to_export
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.models import Event, dump
from nomad_sessions.search import Searcher
from nomad_sessions.storage.codec import encode
from nomad_sessions.sync.changes import current
from nomad_sessions.sync.host import looked
from nomad_sessions.sync.target import Change, Key

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager
    from nomad_sessions.sessions_api import SessionCalls

__all__ = ["Records"]

_PAGE = 100
_WORD = re.compile(r"\w+")
_WORDS = 100
_FIXED = frozenset({"id", "createdAt", "sessionId", "rev", "workspaceId", "messageIds"})


class Records:
    """The entries of one workspace. Safe for several threads."""

    def __init__(self, manager: NativeSessionManager, workspace_id: str, own_session: str) -> None:
        """`own_session` is the id of the session that entries without one are kept in."""
        self._manager = manager
        self._ws = workspace_id
        self._own = own_session
        self._recorded = RecordedEvents(manager, workspace_id)
        self._searcher = Searcher(manager)

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
        """Records an event, once. Raises `InvalidInputError` for none, and for another of the same id: an event is
        never changed."""
        report = ImportReport()
        event = event_of("", {**document, "id": event_id}, report)
        if event is None:
            raise InvalidInputError(field="text", value=document.get("text"), reason="; ".join(report.skipped))
        said = (event["type"], event["properties"])

        def check(known: Change) -> None:
            body = known.body or {}
            if (body.get("type"), body.get("properties")) != said:
                raise InvalidInputError(field="id", value=event_id, reason="is that of another event")

        self._recorded.record_once(event, check)

    # Out

    def session(self, session_id: str) -> Entry | None:
        """A session."""
        found = self._manager.get_session(self._ws, session_id)
        return None if found is None else session_entry(found)

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

    def event(self, event_id: str) -> Entry | None:
        """A recorded event; the last of this id."""
        found = self._recorded.find(event_id)
        return None if found is None else event_entry(Event.model_validate(found.body))

    def changes(self, place: Place) -> list[Change]:
        """The records that a key names, as targets are told of them. Cost: they are read."""
        if place.kind == "event":
            found = self._recorded.find(place.id)
            return [] if found is None else [found]
        keys = [Key("session" if place.kind == "messages" else place.kind, place.id)]
        if place.kind == "messages":
            keys += [Key("message", each.id) for each in self._manager.get_session_messages(self._ws, place.id)]
        return looked(self._manager, self._ws, lambda view: current(view, self._ws, keys))

    # What is looked through

    def recent(self, collection: Collection) -> Iterator[Batch]:
        """All entries of a collection, the newest first as far as their batches say."""
        if collection == "sessions":
            return recent_sessions(self._manager, self._ws)
        if collection == "opencode_events":
            return recent_events(self._searcher, self._ws)
        return recent_messages(self._manager, self._ws)

    def visible(self, collection: Collection, identifier: str) -> Entry | None:
        """A session or a message by its id; None where there is none, and for what a revert hides."""
        if collection == "sessions":
            return self.session(identifier)
        found = self._manager.get_message(self._ws, identifier)
        session = None if found is None else self._manager.get_session(self._ws, found.session_id)
        if found is None or session is None or identifier not in session.message_ids:
            return None
        return message_entry(found)

    def by_words(self, collection: Collection, text: str) -> Iterator[Entry]:
        """What has the words of a text, best first; events the newest first. Through the search index."""
        # A text, not a query: nothing in it excludes, and "or" is a word.
        query = " ".join(list(dict.fromkeys(_WORD.findall(text.lower())))[:_WORDS])
        offset: int | None = 0 if query else None
        while offset is not None:
            if collection == "opencode_events":
                events = self._searcher.events(
                    self._ws, EventFilter(recorded=True), query=query, limit=_PAGE, offset=offset
                )
                yield from map(event_entry, events.events)
                offset = events.next_offset
                continue
            page = self._searcher.find(query, workspace_id=self._ws, limit=_PAGE, offset=offset)
            for hit in page.hits:
                wanted = hit.session_id if collection == "sessions" else hit.message_id
                found = None
                if (hit.message_id is None) == (collection == "sessions") and wanted is not None:
                    found = self.visible(collection, wanted)
                if found is not None:
                    yield found
            offset = page.next_offset

    def close(self) -> None:
        """Gives files back. May be called twice."""
        self._recorded.close()
        self._searcher.close()

    def _attachment(self, sha256: str) -> bytes:
        return self._manager.read_attachment(self._ws, sha256)
