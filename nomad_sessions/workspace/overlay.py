"""A view with changes on top that are not committed: what a transaction reads."""

from __future__ import annotations

from typing import Any

from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.live import index_record
from nomad_sessions.workspace.places import Summary
from nomad_sessions.workspace.state import Body, MessageState, Ref, SessionState, apply
from nomad_sessions.workspace.view import View

__all__ = ["Overlay"]


class _Pending:
    """A record that is not written yet; each read gives a fresh copy, as reading a file does."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def record(self, offset: int, length: int) -> dict[str, Any]:
        value: Body = decode(self._data)
        return value


class Overlay:
    """Answers as a view does, and takes changes in without touching it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._sessions: dict[str, SessionState | None] = {}
        self._owners: dict[str, str] = {}
        self._tombstones: dict[str, int] = {}
        self._seq = view.seq

    def session(self, session_id: str) -> SessionState | None:
        """A session with the pending changes."""
        return self._sessions[session_id] if session_id in self._sessions else self._view.session(session_id)

    def session_json(self, session_id: str) -> bytes | None:
        """A session that only the snapshot knows, as it stands there."""
        return None if session_id in self._sessions else self._view.session_json(session_id)

    def message(self, message_id: str) -> tuple[SessionState, MessageState] | None:
        """A message with its session."""
        session = self.session(self._owners.get(message_id) or self._view.owner(message_id) or "")
        state = session.message(message_id) if session is not None else None
        return (session, state) if session is not None and state is not None else None

    def message_body(self, message_id: str) -> Body | None:
        """A message as JSON."""
        found = self.message(message_id)
        return found[1].body() if found is not None else None

    def summaries(self) -> dict[str, Summary]:
        """The summaries with the pending changes."""
        merged = dict(self._view.summaries())
        for session_id, state in self._sessions.items():
            if state is None:
                merged.pop(session_id, None)
            else:
                merged[session_id] = Summary.of(state)
        return merged

    def take(self, changes: list[Body], now: int) -> None:
        """Applies one call's changes, each as it will read when it is written."""
        for change in changes:
            self._seq += 1
            data = encode({"seq": self._seq, "ts": now, **change})
            record: Body = decode(data)
            session_id = record["sessionId"]
            if session_id not in self._sessions:
                known = self._view.session(session_id)
                self._sessions[session_id] = known.copy() if known is not None else None
            ref = Ref(_Pending(data), 0, len(data))
            self._sessions[session_id] = apply(self._sessions[session_id], record, ref, self.session)
            index_record(record, self._owners, self._tombstones)
