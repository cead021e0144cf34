"""Moving a session to another workspace: what leaves here, what arrives there.

Invariant: what arrives is the whole session, ids, times and what a revert hid included, in one atomic group; it leaves
only when it has arrived as it is. So after a crash it is in both or in one, and the same call finishes the move.
Verified by `tests/unit/test_move.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nomad_sessions.errors import AlreadyExistsError
from nomad_sessions.models import Session
from nomad_sessions.operations.reading import Looking, Stamping, require_session, session_model
from nomad_sessions.operations.whole import records_of
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.state import Body, SessionState
from nomad_sessions.workspace.store import Operation

__all__ = ["Luggage", "arrive", "pack"]


class Luggage(NamedTuple):
    """A session with all that it has. The first `kept` of `visible` and hidden messages are visible."""

    fields: Body
    rev: int
    messages: list[Body]
    kept: int
    detached: list[Body]


def pack(session_id: str) -> Callable[[Looking], Luggage]:
    """Reads everything of a session. Raises `SessionNotFoundError`."""

    def look(view: Looking) -> Luggage:
        session = require_session(view, session_id)
        fields: Body = decode(encode(session.fields))
        bodies = _bodies(session, [*session.order, *session.hidden])
        return Luggage(fields, session.rev, bodies, len(session.order), _bodies(session, session.detached))

    return look


def arrive(origin: str, workspace_id: str, luggage: Luggage, directory: str | None) -> Operation[Session]:
    """Puts a packed session of workspace `origin` into another. What a move that was cut short had put there before is
    replaced; `movedFrom` tells it from another session.

    Raises `AlreadyExistsError` where another session has its id, or the copy was changed since.
    """
    fields = {**luggage.fields, "workspaceId": workspace_id, "movedFrom": origin}
    if directory is not None:
        fields["directory"] = directory
    session_id: str = fields["id"]

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        there = view.session(session_id)
        changes: list[Body] = []
        if there is not None:
            _check_copy(there, origin, fields["createdAt"])
            changes.append({"type": "session.deleted", "sessionId": session_id})
        for body in [*luggage.messages, *luggage.detached]:
            found = view.message(body["id"])
            if found is not None and found[0].id != session_id:
                raise AlreadyExistsError(kind="message", id=body["id"])
        changes += records_of(fields, luggage.messages, luggage.kept, luggage.detached)
        return changes, lambda after: session_model(require_session(after, session_id))

    return operation


def _bodies(session: SessionState, ids: list[str]) -> list[Body]:
    states = map(session.message, ids)
    return [_without_rev(state.body()) for state in states if state is not None]


def _without_rev(body: Body) -> Body:
    return {key: value for key, value in body.items() if key != "rev"}


def _check_copy(there: SessionState, origin: str, created_at: int) -> None:
    """Whether what is there is what an earlier attempt left, untouched: its last change is the last record of that."""
    last = there.created + len(there.ids()) + bool(there.hidden) + 1
    came_from_here = there.fields.get("movedFrom") == origin and there.fields.get("createdAt") == created_at
    if not came_from_here or there.rev != last:
        raise AlreadyExistsError(kind="session", id=there.id, current=session_model(there))
