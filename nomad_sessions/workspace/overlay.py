"""A view with changes on top that are not committed: what a transaction reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.live import index_record
from nomad_sessions.workspace.places import Summary
from nomad_sessions.workspace.state import Body, MessageState, Ref, SessionState, Span, apply
from nomad_sessions.workspace.view import View

__all__ = ["Overlay"]


class _Pending:
    """A record that is not written yet; each read gives a fresh copy, as reading a file does."""

    __slots__ = ("_change", "_now", "_seq")

    def __init__(self, change: Body, seq: int, now: int) -> None:
        self._change = change
        self._seq = seq
        self._now = now

    def record(self, offset: int, length: int) -> dict[str, Any]:
        value: Body = decode(encode({"seq": self._seq, "ts": self._now, **self._change}))
        return value

    def span(self, offset: int, length: int) -> Span | None:
        """It is nowhere written."""
        return None


class Overlay:
    """Answers as a view does, and takes changes in without touching it."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._sessions: dict[str, SessionState | None] = {}
        self._owners: dict[str, str] = {}
        self._tombstones: dict[str, int] = {}
        self._seq = self._began = view.seq

    def fits(self, view: View) -> bool:
        """Whether this is the view that it was laid over, and nothing has happened since: what was decided stands."""
        return view is self._view and view.seq == self._began

    def session(self, session_id: str) -> SessionState | None:
        """A session with the pending changes."""
        return self._sessions[session_id] if session_id in self._sessions else self._view.session(session_id)

    def prepare(self, ids: Iterable[str]) -> None:
        """Builds at once what will be asked for singly."""
        self._view.prepare(each for each in ids if each not in self._sessions)

    def session_json(self, session_id: str) -> bytes | None:
        """A session that only the snapshot knows, as it stands there."""
        return None if session_id in self._sessions else self._view.session_json(session_id)

    def message(self, message_id: str) -> tuple[SessionState, MessageState] | None:
        """A message with its session."""
        session = self.session(self._owners.get(message_id) or self._view.owner(message_id) or "")
        state = session.message(message_id) if session is not None else None
        return (session, state) if session is not None and state is not None else None

    def owners(self, ids: Collection[str]) -> dict[str, str]:
        """The owner of each of these messages."""
        known = self._view.owners([each for each in ids if each not in self._owners])
        return known | {each: self._owners[each] for each in ids if each in self._owners}

    def message_body(self, message_id: str) -> Body | None:
        """A message as JSON."""
        found = self.message(message_id)
        return found[1].body() if found is not None else None

    def message_json(self, state: MessageState) -> bytes:
        """A message of this overlay as JSON."""
        raw = state.json()
        return encode(state.body()) if raw is None else raw

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
            pending = _Pending(change, self._seq, now)
            # Of a message that is added nothing is kept that could be changed.
            is_added = change["type"] == "message.added"
            record = {"seq": self._seq, "ts": now, **change} if is_added else pending.record(0, 0)
            session_id = record["sessionId"]
            if session_id not in self._sessions:
                known = self._view.session(session_id)
                self._sessions[session_id] = known.copy() if known is not None else None
            ref = Ref(pending, 0, 0)
            self._sessions[session_id] = apply(self._sessions[session_id], record, ref, self.session)
            index_record(record, self._owners, self._tombstones)
