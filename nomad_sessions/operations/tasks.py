"""Operations on tasks: create, update, the steps of a task's life, delete, and giving up those that show no life.

Invariant: a task is one row, changed in place by the record of one call; its status goes only where `TASK_TRANSITIONS`
lets it, decided under the lock against the newest state, so that of two who take the same step one gets it and the
other `IllegalTransitionError`. Verified by `tests/unit/test_task_transitions.py` and `tests/processes/test_tasks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nomad_sessions.errors import AlreadyExistsError, IllegalTransitionError, InvalidInputError
from nomad_sessions.models import (
    PROTECTED_TASK,
    TASK_STATUSES,
    TASK_TRANSITIONS,
    Task,
    dump,
    normalise_fields,
    refuse_protected,
    validate,
)
from nomad_sessions.operations.plain import plain, same
from nomad_sessions.operations.reading import (
    Looking,
    Stamping,
    check_new_id,
    check_rev,
    check_rev_type,
    check_text,
    require_session,
)
from nomad_sessions.operations.task_rows import (
    check_status,
    last_sign,
    number,
    require_task,
    row_of,
    status_of,
    task_model,
    task_rows,
    text,
)
from nomad_sessions.workspace.rows import TABLES
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.store import Operation

__all__ = ["create", "delete", "fail_overdue", "overdue", "running", "step", "update"]

_TIMES = ("createdAt", "updatedAt", "startTime", "lastActivity")
_TOO_LATE = 1 << 53  # JavaScript's numbers end there.
_FILLED_IN = ("id", "sessionId", "status", "progress", *_TIMES)


def create(session_id: str, data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Operation[Task]:
    """A new task of a session. A given `id` that the session has already gives the task that is there, unchanged."""
    session_id = check_text("session_id", session_id)
    body = _prepared(session_id, normalise_fields("task", data, fields))

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        task_id = body.get("id") or stamp.id()
        there = row_of(view, task_id)
        if there is not None:
            if text(there, "sessionId") != session_id:
                raise AlreadyExistsError(kind="task", id=task_id, current=task_model(task_id, there))
            return [], _result(task_id)
        require_session(view, session_id)
        _check_table(view, task_id)
        row = _complete(body, task_id, session_id, stamp.now)
        change = {"type": "task.created", "sessionId": WORKSPACE, "rowId": task_id, "about": session_id, "row": row}
        return [change], _result(task_id)

    return operation


def _prepared(session_id: str, given: Body) -> Body:
    """The fields of a new task as they are stored, from what was given."""
    refuse_protected(given, frozenset({"rev"}))
    body = _checked({key: value for key, value in given.items() if value is not None or key not in _FILLED_IN})
    if body.get("sessionId", session_id) != session_id:
        raise InvalidInputError(field="sessionId", value=body["sessionId"], reason=f"is not {session_id!r}")
    if "id" in body:
        check_new_id(body["id"])
    return body


def _complete(body: Body, task_id: str, session_id: str, now: int) -> Body:
    created = body.get("createdAt", now)
    row: Body = {"id": task_id, "sessionId": session_id, "status": "pending", "progress": 0}
    row |= {"createdAt": created, "updatedAt": created, **body}
    if row["status"] == "running":
        row.setdefault("startTime", now)
        row.setdefault("lastActivity", now)
    elif row["status"] == "completed":
        row["progress"] = 100
    return row


def _check_table(view: Looking, task_id: str) -> None:
    """Refuses to write where another program keeps something else: it would be lost, or the task would."""
    state = view.session(WORKSPACE)
    kept = state.fields.get(TABLES["task"], {}) if state is not None else {}
    if not isinstance(kept, dict):
        reason = "sessions.json has something of another program under this key, which stays: no task can be kept here"
        raise InvalidInputError(field=TABLES["task"], value=kept, reason=reason)
    if task_id in kept and not isinstance(kept[task_id], dict):
        reason = "sessions.json has something of another program under this id, which stays"
        raise InvalidInputError(field="id", value=task_id, reason=reason)


def update(
    task_id: str, changes: Mapping[str, Any] | None, fields: Mapping[str, Any], if_rev: int | None
) -> Operation[Task]:
    """Changes fields of a task; None removes one. A new status is a step, and has to be a legal one."""
    task_id = check_text("task_id", task_id)
    given = normalise_fields("task", changes, fields)
    refuse_protected(given, PROTECTED_TASK)
    check_rev_type(if_rev)
    for field in ("status", "progress"):
        if field in given and given[field] is None:
            raise InvalidInputError(field=field, value=None, reason="cannot be removed")
    new = _checked({key: value for key, value in given.items() if value is not None})
    gone = [key for key, value in given.items() if value is None]

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        row = require_task(view, task_id)
        check_rev(number(row, "rev"), if_rev, lambda: task_model(task_id, row))
        different = {key: value for key, value in new.items() if key not in row or not same(row[key], value)}
        if new.get("status") == status_of(row):
            different.pop("status", None)
        unset = [key for key in gone if key in row]
        if "status" in different:
            different |= _moved(task_id, row, different["status"], stamp.now)
        elif "progress" in different:
            different |= _alive(task_id, row, stamp.now)
        if not (different or unset):
            return [], _result(task_id)
        return [_change(task_id, row, different, stamp.now, unset)], _result(task_id)

    return operation


def step(task_id: str, status: str, **fields: Any) -> Operation[Task]:
    """A step of a task's life: to a status, with what comes with it; "alive" is no step, but says that it runs."""
    task_id = check_text("task_id", task_id)
    set_now = _checked(fields)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        row = require_task(view, task_id)
        moved = _alive(task_id, row, stamp.now) if status == "alive" else _moved(task_id, row, status, stamp.now)
        return [_change(task_id, row, moved | set_now, stamp.now)], _result(task_id)

    return operation


def delete(task_id: str) -> Operation[None]:
    """Deletes a task, whatever its status."""
    task_id = check_text("task_id", task_id)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        about = text(require_task(view, task_id), "sessionId")
        gone = {"type": "task.deleted", "sessionId": WORKSPACE, "rowId": task_id, "about": about}
        return [gone], lambda _: None

    return operation


def overdue(idle_ms: int, now: int) -> Callable[[Looking], list[Task]]:
    """The running tasks whose last sign of life is so long ago, by the clock; the longest silent first."""
    _check_idle(idle_ms)

    def look(view: Looking) -> list[Task]:
        rows = task_rows(view)
        return [task_model(key, rows[key]) for key in _overdue(rows, idle_ms, now)]

    return look


def running(view: Looking) -> dict[str, int]:
    """The running tasks: the rev of each, by id."""
    return {key: number(row, "rev") for key, row in task_rows(view).items() if status_of(row) == "running"}


def fail_overdue(idle_ms: int, seen: Mapping[str, int] | None = None) -> Operation[list[Task]]:
    """Gives up the running tasks whose last sign of life is `idle_ms` ago by the clock; with `seen`, instead of those,
    these tasks, as far as they are still at this rev. In one group."""
    _check_idle(idle_ms)
    reason = f"timed out: no activity for {_spelt(idle_ms)}"

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        rows = task_rows(view)
        if seen is None:
            due = _overdue(rows, idle_ms, stamp.now)
        else:
            now_running = running(view)
            due = [key for key, rev in seen.items() if now_running.get(key) == rev]
        failed = {"status": "failed", "errorMessage": reason}
        changes = [_change(key, rows[key], failed, stamp.now) for key in due]
        return changes, lambda after: [task_model(key, require_task(after, key)) for key in due]

    return operation


def _change(task_id: str, row: Body, set_now: Body, now: int, unset: list[str] | None = None) -> Body:
    """The record of a change of a task. Its `updatedAt` never goes back, though the clock may."""
    time = {"updatedAt": max(now, number(row, "updatedAt"))}
    record: Body = {"type": "task.updated", "sessionId": WORKSPACE, "rowId": task_id, "about": text(row, "sessionId")}
    return record | {"set": {**set_now, **time}} | ({"unset": unset} if unset else {})


def _moved(task_id: str, row: Body, status: str, now: int) -> Body:
    """What a step to this status sets. Raises `IllegalTransitionError`."""
    before = status_of(row)
    # Of a status that only another program knows nobody can say where it leads.
    allowed = TASK_TRANSITIONS.get(before, TASK_STATUSES)
    if status not in allowed:
        hint = f"it may become {' or '.join(sorted(allowed))}" if allowed else f"{before} is final; create another task"
        raise IllegalTransitionError(kind="task", id=task_id, before=before, after=status, hint=hint)
    moved: Body = {"status": status, "lastActivity": now}
    if status == "running":
        moved["startTime"] = now
    elif status == "completed":
        moved["progress"] = 100
    return moved


def _alive(task_id: str, row: Body, now: int) -> Body:
    """What a sign of life sets. Raises `IllegalTransitionError` where the task does not run."""
    before = status_of(row)
    if before != "running":
        hint = "start it first" if "running" in TASK_TRANSITIONS.get(before, TASK_STATUSES) else f"{before} is final"
        raise IllegalTransitionError(kind="task", id=task_id, before=before, after="running", hint=hint)
    return {"lastActivity": now}


def _checked(given: Body) -> Body:
    """Fields as JSON of our own. Raises `InvalidInputError`: what a model would make fit is not guessed at."""
    if "status" in given:
        check_status(given["status"])
    progress = given.get("progress", 0)
    if type(progress) not in (int, float) or not 0 <= progress <= 100:  # NaN is not, either.
        raise InvalidInputError(field="progress", value=progress, reason="must be a number from 0 to 100")
    if given.get("status") == "completed" and given.get("progress", 100) != 100:
        raise InvalidInputError(field="progress", value=progress, reason="a completed task is at 100")
    for field in _TIMES:
        value = given.get(field, 0)
        if type(value) is not int or not 0 <= value < _TOO_LATE:
            raise InvalidInputError(field=field, value=value, reason="must be a time in ms since the epoch")
    return plain(dump(validate(Task, given)))


def _overdue(rows: Mapping[str, Body], idle_ms: int, now: int) -> list[str]:
    silent = {key: last_sign(row) for key, row in rows.items() if status_of(row) == "running"}
    return sorted((key for key, last in silent.items() if now - last >= idle_ms), key=lambda key: (silent[key], key))


def _check_idle(idle_ms: object) -> None:
    if type(idle_ms) is not int or idle_ms < 1:
        raise InvalidInputError(field="idle_ms", value=idle_ms, reason="must be a whole number of ms, 1 or more")


def _spelt(ms: int) -> str:
    for unit, length in (("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms % length == 0:
            return f"{ms // length} {unit}"
    return f"{ms} ms"


def _result(task_id: str) -> Any:
    return lambda view: task_model(task_id, require_task(view, task_id))
