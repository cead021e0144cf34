"""The calls on tasks and on the activity of sessions as coroutines, for `AsyncSessionManager`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Page, Task
from nomad_sessions.overview_api import IDLE_MS

if TYPE_CHECKING:
    from nomad_sessions.session_info import SessionInfo, SessionInfoList
    from nomad_sessions.task_monitor import TaskMonitor

__all__ = ["AsyncTaskCalls"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTaskCalls:
    """What `AsyncSessionManager` has of the calls on tasks: the docstrings of `NativeSessionManager` say the rest."""

    _manager: NativeSessionManager

    async def _run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `call` on a thread."""
        raise NotImplementedError

    async def create_task(
        self, workspace_id: str, session_id: str, data: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Task:
        """Creates a task of a session, `pending` unless a `status` is given. Durable on return."""
        return await self._run(self._manager.create_task, workspace_id, session_id, data, **fields)

    async def get_task(self, workspace_id: str, task_id: str) -> Task | None:
        """One task, or None."""
        return await self._run(self._manager.get_task, workspace_id, task_id)

    async def list_tasks(
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
        """Tasks by `updated_at`, newest first, ties by their last change. Everything, unless `limit` says less."""
        return await self._run(
            self._manager.list_tasks,
            workspace_id,
            limit=limit,
            cursor=cursor,
            session_id=session_id,
            agent_id=agent_id,
            status=status,
            task_type=task_type,
            updated_since=updated_since,
            orphaned=orphaned,
        )

    async def update_task(
        self,
        workspace_id: str,
        task_id: str,
        changes: Mapping[str, Any] | None = None,
        /,
        *,
        if_rev: int | None = None,
        **fields: Any,
    ) -> Task:
        """Changes fields of a task; None removes one. With `if_rev`, only if it is at that `rev`. Durable on return."""
        return await self._run(self._manager.update_task, workspace_id, task_id, changes, if_rev=if_rev, **fields)

    async def start_task(self, workspace_id: str, task_id: str) -> Task:
        """From `pending` to `running`: of several who start one task, one gets it. Durable on return."""
        return await self._run(self._manager.start_task, workspace_id, task_id)

    async def progress_task(self, workspace_id: str, task_id: str, progress: float) -> Task:
        """Says how far a running task is, 0 to 100, and that it is worked on. Durable on return."""
        return await self._run(self._manager.progress_task, workspace_id, task_id, progress)

    async def touch_task(self, workspace_id: str, task_id: str) -> Task:
        """Says that a running task is worked on. Durable on return."""
        return await self._run(self._manager.touch_task, workspace_id, task_id)

    async def complete_task(self, workspace_id: str, task_id: str, output_data: Any = None) -> Task:
        """From `running` to `completed`, which is final, with what came out. Durable on return."""
        return await self._run(self._manager.complete_task, workspace_id, task_id, output_data)

    async def fail_task(self, workspace_id: str, task_id: str, error_message: str) -> Task:
        """From `pending` or `running` to `failed`, which is final, with the reason. Durable on return."""
        return await self._run(self._manager.fail_task, workspace_id, task_id, error_message)

    async def delete_task(self, workspace_id: str, task_id: str) -> None:
        """Deletes a task, whatever its status. Durable on return."""
        return await self._run(self._manager.delete_task, workspace_id, task_id)

    async def overdue_tasks(self, workspace_id: str, *, idle_ms: int = IDLE_MS) -> list[Task]:
        """The running tasks whose last activity was `idle_ms` ago or longer, by the clock; the longest silent first."""
        return await self._run(self._manager.overdue_tasks, workspace_id, idle_ms=idle_ms)

    async def fail_overdue_tasks(self, workspace_id: str, *, idle_ms: int = IDLE_MS) -> list[Task]:
        """Makes the overdue tasks `failed`, with an `error_message` that says so; returns them. Durable on return."""
        return await self._run(self._manager.fail_overdue_tasks, workspace_id, idle_ms=idle_ms)

    async def monitor_tasks(
        self, workspace_id: str | None = None, *, idle_ms: int = IDLE_MS, every_ms: int = 30_000
    ) -> TaskMonitor:
        """Makes running tasks `failed` that it has seen without activity for `idle_ms`, on a thread, until closed."""
        return await self._run(self._manager.monitor_tasks, workspace_id, idle_ms=idle_ms, every_ms=every_ms)

    async def session_info(self, workspace_id: str, session_id: str) -> SessionInfo | None:
        """What a session is doing, from its times, its open streams and its tasks; None for an unknown session."""
        return await self._run(self._manager.session_info, workspace_id, session_id)

    async def list_session_info(
        self,
        workspace_id: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        activity_status: str | None = None,
        is_agent_task: bool | None = None,
        archived: bool | None = None,
        updated_since: int | None = None,
    ) -> SessionInfoList:
        """A page of what sessions are doing, by `updated_at`, newest first: `limit` of them (None: all) after
        `offset`."""
        return await self._run(
            self._manager.list_session_info,
            workspace_id,
            limit=limit,
            offset=offset,
            activity_status=activity_status,
            is_agent_task=is_agent_task,
            archived=archived,
            updated_since=updated_since,
        )
