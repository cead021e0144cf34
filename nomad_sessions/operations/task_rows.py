"""Tasks as they are read: the rows of the table `tasks`, as models and as pages.

Invariant: a task is one row, and every row that is a JSON object is a task: nothing is left out of a list or of a total
because of what another program wrote into it. What cannot be a field's value reads as if it were not there, and stays
in the file. Verified by `tests/unit/test_task_lists.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from nomad_sessions.errors import InvalidInputError, TaskNotFoundError
from nomad_sessions.models import TASK_STATUSES, Page, Task, validate
from nomad_sessions.models.task import PENDING
from nomad_sessions.operations.listing import check_count, closed, opened
from nomad_sessions.operations.reading import Looking, check_text
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.rows import TABLES
from nomad_sessions.workspace.state import WORKSPACE, Body

__all__ = [
    "TaskQuery",
    "check_status",
    "last_sign",
    "listed",
    "number",
    "require_task",
    "row_of",
    "status_of",
    "task_model",
    "task_rows",
    "text",
]


class TaskQuery(NamedTuple):
    """Filters of a list of tasks; None is no filter."""

    session_id: str | None = None
    agent_id: str | None = None
    status: str | None = None
    task_type: str | None = None
    updated_since: int | None = None
    orphaned: bool | None = None

    def checked(self) -> TaskQuery:
        """The filters as rows have what they ask for. Raises `InvalidInputError` for one that nothing could match."""
        texts = {field: getattr(self, field) for field in ("session_id", "agent_id", "task_type")}
        texts = {field: check_text(field, value) for field, value in texts.items() if value is not None}
        if self.status is not None:
            check_status(self.status)
        if self.updated_since is not None and type(self.updated_since) is not int:
            raise InvalidInputError(field="updated_since", value=self.updated_since, reason="must be a time in ms")
        if self.orphaned is not None and not isinstance(self.orphaned, bool):
            raise InvalidInputError(field="orphaned", value=self.orphaned, reason="must be True, False or None")
        return self._replace(**texts)

    def keeps(self, row: Body) -> bool:
        """Whether this task matches; whether it is an orphan is not looked at."""
        return (
            (self.session_id is None or text(row, "sessionId") == self.session_id)
            and (self.agent_id is None or row.get("agentId") == self.agent_id)
            and (self.status is None or status_of(row) == self.status)
            and (self.task_type is None or row.get("taskType") == self.task_type)
            and (self.updated_since is None or number(row, "updatedAt") >= self.updated_since)
        )


def check_status(status: object) -> None:
    """Raises `InvalidInputError` for what is no status of a task."""
    if not isinstance(status, str) or status not in TASK_STATUSES:
        reason = f"must be one of {', '.join(sorted(TASK_STATUSES))}"
        raise InvalidInputError(field="status", value=status, reason=reason)


def task_rows(view: Looking) -> dict[str, Body]:
    """The rows of all tasks by id: the view's own, not to be changed nor given away."""
    state = view.session(WORKSPACE)
    rows = state.fields.get(TABLES["task"]) if state is not None else None
    return {key: row for key, row in rows.items() if isinstance(row, dict)} if isinstance(rows, dict) else {}


def row_of(view: Looking, task_id: str) -> Body | None:
    """One task's row, or None; the id is as rows have it."""
    state = view.session(WORKSPACE)
    rows = state.fields.get(TABLES["task"]) if state is not None else None
    row = rows.get(task_id) if isinstance(rows, dict) else None
    return row if isinstance(row, dict) else None


def require_task(view: Looking, task_id: str) -> Body:
    """The row of a task, or `TaskNotFoundError`."""
    row = row_of(view, task_id)
    if row is None:
        raise TaskNotFoundError(task_id=task_id)
    return row


def task_model(task_id: str, row: Body) -> Task:
    """A task as a model of its own."""
    # Nested values are the view's own: they go out as copies.
    fields = {key: decode(encode(value)) if isinstance(value, dict | list) else value for key, value in row.items()}
    fields["id"] = task_id
    while True:
        try:
            return validate(Task, fields)
        except InvalidInputError as error:
            if error.field in fields:
                del fields[error.field]
            else:  # A name with half a character in it, which no field has.
                fields = {key: value for key, value in fields.items() if key.isascii()}


def text(row: Body, field: str) -> str:
    """A text of a row, "" where there is none."""
    value = row.get(field)
    return value if isinstance(value, str) else ""


def status_of(row: Body) -> str:
    """The status of a task, as its model has it: one of a row without any waits to be started."""
    value = row.get("status")
    return value if isinstance(value, str) else PENDING


def number(row: Body, field: str) -> int:
    """A time or a rev of a row, 0 where there is none."""
    value = row.get(field)
    return value if type(value) is int else 0


def last_sign(row: Body) -> int:
    """When a task last showed that it was worked on, in ms."""
    return next((row[each] for each in ("lastActivity", "startTime", "updatedAt") if type(row.get(each)) is int), 0)


def listed(view: Looking, query: TaskQuery, limit: int | None, cursor: str | None) -> Page[Task]:
    """Tasks by `updatedAt`, newest first, ties by seq."""
    check_count("limit", limit)
    query = query.checked()
    found = sorted((_order(key, row), row) for key, row in _matching(view, query))
    total = len(found)
    if cursor is not None:
        after = opened(cursor, "t")
        found = [each for each in found if each[0] > after]
    page = found if limit is None else found[:limit]
    following = closed("t", page[-1][0]) if page and len(page) < len(found) else None
    return Page((task_model(place[2], row) for place, row in page), total=total, next_cursor=following)


def _matching(view: Looking, query: TaskQuery) -> Iterator[tuple[str, Body]]:
    rows: Iterable[tuple[str, Any]] = task_rows(view).items()
    there = view.summaries() if query.orphaned is not None else {}
    for key, row in rows:
        if query.keeps(row) and (query.orphaned is None or _is_orphan(text(row, "sessionId"), there) == query.orphaned):
            yield key, row


def _is_orphan(session_id: str, there: Collection[str]) -> bool:
    """Whether the session of a task is not there (any more)."""
    return session_id == WORKSPACE or session_id not in there


def _order(task_id: str, row: Body) -> tuple[int, int, str]:
    return (-number(row, "updatedAt"), -number(row, "rev"), task_id)
