"""The calls that look at sessions and tasks as a whole: what each session is doing, and tasks that nobody works on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from nomad_sessions.clock import Clock
from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import StoreClosedError
from nomad_sessions.models import Task
from nomad_sessions.operations.reading import Looking
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.store import Operation, Workspace

# A program that only adds messages starts faster without them.
if TYPE_CHECKING:
    from nomad_sessions.session_info import SessionInfo, SessionInfoList
    from nomad_sessions.task_monitor import TaskMonitor

__all__ = ["IDLE_MS", "OverviewCalls"]

T = TypeVar("T")
IDLE_MS = 30 * 60_000
"""How long a running task may show no activity before it is overdue, in ms, where a call does not say."""


class OverviewCalls:
    """The calls on the activity of a workspace; `docs/tasks.md` says what there is to know."""

    data_dir: str
    _fs: FileSystem
    _clock: Clock
    _mutex: threading.Lock
    _monitors: list[TaskMonitor]
    _closed: bool

    def list_workspaces(self) -> list[str]:
        """The ids of all workspaces in the data folder, sorted."""
        raise NotImplementedError

    def workspace(self, workspace_id: str) -> Workspace:
        """The open workspace of this id, opened when it is first asked for."""
        raise NotImplementedError

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        raise NotImplementedError

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        raise NotImplementedError

    def session_info(self, workspace_id: str, session_id: str) -> SessionInfo | None:
        """What a session is doing, from its times, its open streams and its tasks; None for an unknown session.

        `active`: a message is being streamed into it, or something happened to it or its tasks less than 5 minutes
        ago. `waiting_for_input`: a task of it runs, silent for longer, or it was changed less than 30 minutes ago.
        `idle`: the rest, and what is closed or archived, unless one of its tasks runs or a message is being streamed:
        then it is what it would be if it were open. A time that lies 5 minutes or more ahead of the clock is none: it
        was set back since, and the newest of the other times decides, of the session's creation, its last message and
        its tasks. Raises `InvalidInputError`. Cost: a look at each task's row.
        """
        from nomad_sessions.session_info import info_of

        live = self._streaming(workspace_id)
        return self._read(workspace_id, lambda view: info_of(view, session_id, live, self._clock.now()))

    def list_session_info(
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
        """A page of what sessions are doing, by `updated_at`, newest first: `limit` of them (None: all) after `offset`.

        `total_count` and `pagination` are of all that match the filters, `summary` of all sessions there are. Pages by
        offset shift when sessions change between them; the cursors of `list_sessions` do not. Cost: a look at each
        session's and each task's row; only the sessions of the page are read, and those whose time lies ahead of the
        clock. Raises `InvalidInputError`.
        """
        from nomad_sessions.session_info import InfoQuery, list_of

        query = InfoQuery(activity_status, is_agent_task, archived, updated_since)
        live = self._streaming(workspace_id)
        now = self._clock.now()
        return self._read(workspace_id, lambda view: list_of(view, query, limit, offset, live, now))

    def _streaming(self, workspace_id: str) -> set[str]:
        from nomad_sessions.streaming import streaming_sessions

        return streaming_sessions(self._fs, self.workspace(workspace_id).folder)

    def overdue_tasks(self, workspace_id: str, *, idle_ms: int = IDLE_MS) -> list[Task]:
        """The running tasks whose last activity was `idle_ms` ago or longer, by the clock; the longest silent first."""
        from nomad_sessions.operations import tasks

        return self._read(workspace_id, tasks.overdue(idle_ms, self._clock.now()))

    def fail_overdue_tasks(self, workspace_id: str, *, idle_ms: int = IDLE_MS) -> list[Task]:
        """Makes the overdue tasks `failed`, with an `error_message` that says so; returns them. Durable on return.

        Decided at once under the lock: a task that somebody touches or ends meanwhile is not failed, and of several
        processes that call this one gets each task. It believes the clock; `monitor_tasks` does not. Without an overdue
        task nothing is written, and nothing is locked.
        """
        from nomad_sessions.operations import tasks

        if not self.overdue_tasks(workspace_id, idle_ms=idle_ms):
            return []
        return self._commit(workspace_id, tasks.fail_overdue(idle_ms))

    def monitor_tasks(
        self, workspace_id: str | None = None, *, idle_ms: int = IDLE_MS, every_ms: int = 30_000
    ) -> TaskMonitor:
        """Makes running tasks `failed` that it has seen without activity for `idle_ms`, until it is closed.

        Of one workspace, or of all. A thread of the library looks every `every_ms`; it ends with the manager.
        It counts by the monotonic clock what it has seen itself, so that a jump of the clock fails nothing, and a task
        is failed by a monitor that has watched for `idle_ms` at the least, two intervals later at the most. What it
        fails is durable, and an event like any other change. Raises `InvalidInputError`.
        """
        from nomad_sessions.task_monitor import TaskMonitor

        if workspace_id is not None:
            validate_workspace_id(workspace_id)
        monitor = TaskMonitor(self, workspace_id, idle_ms=idle_ms, every_ms=every_ms, monotonic=self._fs.monotonic)
        with self._mutex:
            if self._closed:
                raise StoreClosedError(path=self.data_dir)
            self._monitors = [*(each for each in self._monitors if not each.closed), monitor]
        monitor.start()
        return monitor
