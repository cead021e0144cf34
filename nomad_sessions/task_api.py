"""The calls on tasks, in terms of two: read and commit. Manager and transaction share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import Page, Task
from nomad_sessions.operations.reading import Looking, check_text
from nomad_sessions.workspace.store import Operation

__all__ = ["TaskCalls"]

T = TypeVar("T")


class TaskCalls:
    """The calls on tasks; `docs/api.md` has them in a table, `docs/tasks.md` says what there is to know.

    A task is one row, changed in place. Asked to change what is not there they raise `TaskNotFoundError`, for a step
    that a task cannot take `IllegalTransitionError`, which names both states; nothing is written then.
    """

    # A program that only adds messages starts faster without the operations: they are loaded by the first call.

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        raise NotImplementedError

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        raise NotImplementedError

    def create_task(
        self, workspace_id: str, session_id: str, data: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Task:
        """Creates a task of a session, `pending` unless a `status` is given. Durable on return.

        With an `id` that the session has a task of already, the task that is there is returned, unchanged: a repeated
        call is harmless. A task that is told of afterwards may begin in any status, and have its times given. Raises
        `SessionNotFoundError`, `InvalidInputError`, `ProtectedFieldError`, `AlreadyExistsError` (another session's id).
        """
        from nomad_sessions.operations import tasks

        return self._commit(workspace_id, tasks.create(session_id, data, fields))

    def get_task(self, workspace_id: str, task_id: str) -> Task | None:
        """One task, or None."""
        from nomad_sessions.operations.task_rows import row_of, task_model

        known = check_text("task_id", task_id)

        def look(view: Looking) -> Task | None:
            row = row_of(view, known)
            return task_model(known, row) if row is not None else None

        return self._read(workspace_id, look)

    def list_tasks(
        self,
        workspace_id: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        session_id: str | None = None,
        agent_id: str | None = None,
        status: str | None = None,
        task_type: str | None = None,
        updated_since: int | None = None,
        orphaned: bool | None = None,
    ) -> Page[Task]:
        """Tasks by `updated_at`, newest first, ties by their last change. Everything, unless `limit` says less.

        `orphaned` True keeps only those whose session is not there, False only the others; `updated_since` is in ms,
        inclusive. `cursor` is a page's `next_cursor`: rows that stay where they are come exactly once. `total` counts
        all that match. Cost: a look at each task's row, and the models of those returned.
        """
        from nomad_sessions.operations.task_rows import TaskQuery, listed

        query = TaskQuery(session_id, agent_id, status, task_type, updated_since, orphaned)
        return self._read(workspace_id, lambda view: listed(view, query, limit, cursor))

    def update_task(
        self,
        workspace_id: str,
        task_id: str,
        changes: Mapping[str, Any] | None = None,
        /,
        *,
        if_rev: int | None = None,
        **fields: Any,
    ) -> Task:
        """Changes fields of a task; None removes one. With `if_rev`, only if it is at that `rev`. Durable on return.

        A `status` is a step, as `start_task` and the others take it; the same status again is none. What changes
        nothing writes nothing. Only status and progress count as activity; a completed task is at 100, and another
        `progress` beside that status is refused. Raises `ConflictError` (with `.current`),
        `IllegalTransitionError`, `ProtectedFieldError`, `InvalidInputError`.
        """
        from nomad_sessions.operations import tasks

        return self._commit(workspace_id, tasks.update(task_id, changes, fields, if_rev))

    def start_task(self, workspace_id: str, task_id: str) -> Task:
        """From `pending` to `running`: of several who start one task, one gets it. Durable on return."""
        from nomad_sessions.operations import tasks

        return self._commit(workspace_id, tasks.step(task_id, "running"))

    def progress_task(self, workspace_id: str, task_id: str, progress: float) -> Task:
        """Says how far a running task is, 0 to 100, and that it is worked on. Durable on return."""
        from nomad_sessions.operations import tasks

        return self._commit(workspace_id, tasks.step(task_id, "alive", progress=progress))

    def touch_task(self, workspace_id: str, task_id: str) -> Task:
        """Says that a running task is worked on. Durable on return. Cost: one record of some 150 bytes."""
        from nomad_sessions.operations import tasks

        return self._commit(workspace_id, tasks.step(task_id, "alive"))

    def complete_task(self, workspace_id: str, task_id: str, output_data: Any = None) -> Task:
        """From `running` to `completed`, which is final, with what came out. Durable on return."""
        from nomad_sessions.operations import tasks

        output = {} if output_data is None else {"outputData": output_data}
        return self._commit(workspace_id, tasks.step(task_id, "completed", **output))

    def fail_task(self, workspace_id: str, task_id: str, error_message: str) -> Task:
        """From `pending` or `running` to `failed`, which is final, with the reason. Durable on return."""
        from nomad_sessions.operations import tasks

        if not isinstance(error_message, str):
            raise InvalidInputError(field="errorMessage", value=error_message, reason="must be a str: why it failed")
        return self._commit(workspace_id, tasks.step(task_id, "failed", errorMessage=error_message))

    def delete_task(self, workspace_id: str, task_id: str) -> None:
        """Deletes a task, whatever its status. Durable on return."""
        from nomad_sessions.operations import tasks

        self._commit(workspace_id, tasks.delete(task_id))
