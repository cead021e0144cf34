"""Moving a session to another workspace: what leaves here, what arrives there.

Invariant: what arrives is the whole session, ids, times, its tasks and what a revert hid included, in one atomic group;
it leaves only when it has arrived as it is. So after a crash it is in both or in one, and the same call finishes the
move. Verified by `tests/unit/test_move.py` and `tests/unit/test_task_sessions.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from nomad_sessions.errors import AlreadyExistsError, ConflictError
from nomad_sessions.models import Session
from nomad_sessions.operations.plain import same, without
from nomad_sessions.operations.reading import Looking, Stamping, check_rev, require_session, session_model
from nomad_sessions.operations.task_rows import number, task_model, task_rows, text
from nomad_sessions.operations.whole import records_of
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.state import WORKSPACE, Body, SessionState
from nomad_sessions.workspace.store import Operation

__all__ = ["Luggage", "arrive", "leave", "pack"]


class Luggage(NamedTuple):
    """A session with all that it has. The first `kept` of `messages` are visible, a revert hid the others; `tasks` are
    rows."""

    fields: Body
    rev: int
    messages: list[Body]
    kept: int
    detached: list[Body]
    tasks: list[Body]


def pack(session_id: str) -> Callable[[Looking], Luggage]:
    """Reads everything of a session. Raises `SessionNotFoundError`."""

    def look(view: Looking) -> Luggage:
        session = require_session(view, session_id)
        fields: Body = decode(encode(session.fields))
        bodies = _bodies(session, [*session.order, *session.hidden])
        tasks: list[Body] = decode(encode([{**row, "id": key} for key, row in _tasks(view, session.id).items()]))
        return Luggage(fields, session.rev, bodies, len(session.order), _bodies(session, session.detached), tasks)

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
        changes = _tasks_arriving(view, luggage.tasks, session_id, there)
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


def leave(luggage: Luggage) -> Operation[None]:
    """Takes away what has arrived. Raises `ConflictError` where the session or a task of it is not as it was packed."""
    session_id: str = luggage.fields["id"]

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        check_rev(session.rev, luggage.rev, lambda: session_model(session))
        packed = {row["id"]: number(row, "rev") for row in luggage.tasks}
        tasks = _tasks(view, session_id)
        for key, row in tasks.items():
            if packed.get(key) != number(row, "rev"):
                raise ConflictError(current=task_model(key, row), expected_rev=packed.get(key, 0))
        gone = [_task_record("deleted", key, session_id) for key in tasks]
        return [*gone, {"type": "session.deleted", "sessionId": session_id}], lambda _: None

    return operation


def _tasks(view: Looking, session_id: str) -> dict[str, Body]:
    return {key: row for key, row in task_rows(view).items() if text(row, "sessionId") == session_id}


def _task_record(what: str, task_id: str, session_id: str, **more: Body) -> Body:
    return {"type": f"task.{what}", "sessionId": WORKSPACE, "rowId": task_id, "about": session_id, **more}


def _tasks_arriving(view: Looking, tasks: list[Body], session_id: str, there: SessionState | None) -> list[Body]:
    """The records of the tasks of a session that arrives. They come before its own: so what is older than the copy that
    an earlier attempt left is of that attempt, and is replaced.

    Raises `AlreadyExistsError` for a task that is another's, or was changed since; one that is there just so is not.
    """
    known = task_rows(view)
    earlier = {
        key for key, row in _tasks(view, session_id).items() if there is not None and number(row, "rev") < there.created
    }
    coming = {row["id"]: without(row, "rev") for row in tasks}
    for key, row in coming.items():
        if key in known and key not in earlier and not same(without(known[key], "rev"), row):
            raise AlreadyExistsError(kind="task", id=key, current=task_model(key, known[key]))
    changes = [_task_record("deleted", key, session_id) for key in sorted(earlier - coming.keys())]
    return changes + [_task_record("created", key, session_id, row=row) for key, row in coming.items()]


def _bodies(session: SessionState, ids: list[str]) -> list[Body]:
    states = map(session.message, ids)
    return [without(state.body(), "rev") for state in states if state is not None]


def _check_copy(there: SessionState, origin: str, created_at: int) -> None:
    """Whether what is there is what an earlier attempt left, untouched: its last change is the last record of that."""
    last = there.created + len(there.ids()) + bool(there.hidden) + 1
    came_from_here = there.fields.get("movedFrom") == origin and there.fields.get("createdAt") == created_at
    if not came_from_here or there.rev != last:
        raise AlreadyExistsError(kind="session", id=there.id, current=session_model(there))
