"""A session, and then what happens to it: a subscription that begins with the whole, from exactly that seq on.

Invariant: whoever takes in what this gives, in order, has the session as the store has it at the seq of the last event.
Where the events do not say enough (they were pruned, another program's file was merged), the whole comes again instead,
as an event `session.snapshot`. Verified by `tests/properties/test_replicas.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nomad_sessions.connections.replica import SNAPSHOT, tells_all
from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.events import EventFilter, Subscription
from nomad_sessions.events.feed import Step
from nomad_sessions.events.reading import Reading
from nomad_sessions.models import Event
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.log import LogPosition
from nomad_sessions.workspace.state import Body, SessionState
from nomad_sessions.workspace.view import View

if TYPE_CHECKING:
    from nomad_sessions.events.hub import Hub

__all__ = ["SessionSubscription", "snapshot_of"]


class SessionSubscription(Subscription):
    """The events of one session, with the whole of it before the first, and wherever they alone do not tell all."""

    def __init__(
        self, hub: Hub, workspace_id: str, session_id: str, since: int | None, read: Callable[[], Event]
    ) -> None:
        """`read` gives the whole, as an event. With `since` the whole comes only if what followed that is gone."""
        self._session_id = session_id
        self._read = read
        self._owed = False
        first = read() if since is None else None
        self._told = first.seq if first is not None else since or 0
        super().__init__(hub, EventFilter(session_id=session_id), workspace_id, LogPosition(self._told))
        if first is not None:
            self._ready.append((first, ""))

    def _step(self, reading: Reading) -> Step:
        while not self._owed:
            try:
                step = super()._step(reading)
            except EventsPrunedError as error:
                reading.go_on(error)
                self._owed = True
                break
            ours = [each for each in step.events if each.seq > self._told and each.session_id == self._session_id]
            if all(map(tells_all, ours)) and (ours or not step.events):
                return Step(ours, [""] * len(ours), step.position)
            self._owed = bool(ours)
            reading.position = step.position
        # Owed until it was read: the events that it stands for will not come again.
        whole = self._read()
        self._owed, self._told = False, whole.seq
        return Step([whole], [""], reading.position)


def snapshot_of(workspace_id: str, session_id: str) -> Callable[[View], Event]:
    """Looks at a session, and gives it as an event: `session` (None where there is none), `messages`, `reverted`."""

    def look(view: View) -> Event:
        session = view.session(session_id) if session_id else None
        told: Body = {"session": None, "messages": [], "reverted": []}
        if session is not None:
            told["session"] = decode(encode(session.record()))
            told["messages"] = _bodies(session, session.order)
            told["reverted"] = _bodies(session, session.hidden)
        return Event.model_construct(
            # The end of the log: a file of another program, seen but not merged yet, is in the view and in no record.
            seq=view.journal.last_seq,
            type=SNAPSHOT,
            session_id=session_id,
            properties=told,
            workspace_id=workspace_id,
        )

    return look


def _bodies(session: SessionState, ids: list[str]) -> list[Body]:
    return [state.body() for state in map(session.message, ids) if state is not None]
