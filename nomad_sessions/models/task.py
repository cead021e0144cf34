"""Task: a piece of work that an agent of a session was given, and how far it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from .base import Millis, Model, NullAs, Text

TaskStatus = Literal["pending", "running", "completed", "failed"]

PENDING: TaskStatus = "pending"
"""What a task is of which nothing is said."""
TASK_STATUSES: frozenset[str] = frozenset(get_args(TaskStatus))
TASK_TRANSITIONS: dict[str, frozenset[str]] = {
    # One that could never be started must be able to end; it cannot have been done.
    "pending": frozenset({"running", "failed"}),
    "running": frozenset({"completed", "failed"}),
    "completed": frozenset(),
    "failed": frozenset(),
}
"""Where a task may go from each of its states; the two that lead nowhere are final."""

PROTECTED_TASK = frozenset({"id", "sessionId", "createdAt", "updatedAt", "startTime", "lastActivity", "rev"})


class Task(Model):
    """An agent's task. Times are milliseconds since the epoch; `progress` is 0 to 100.

    `input_data` and `output_data` are free-form; `rev` is the seq of the last change. `start_time` is when it began to
    run, `last_activity` its last sign of life: a start, a progress, a touch, an end.
    """

    id: Text = ""
    session_id: Text = ""
    agent_id: Text | None = None
    task_type: Text | None = None
    status: Annotated[Text, NullAs(lambda: PENDING)] = PENDING
    progress: int | float = 0
    input_data: Any = None
    output_data: Any = None
    error_message: Text | None = None
    start_time: int | None = None
    last_activity: int | None = None
    created_at: Millis = 0
    updated_at: Millis = 0
    rev: int = 0
