"""Gives up running tasks that nobody works on any more: what a monitor has seen, by a clock that cannot jump.

Invariant: a task is failed only when one and the same row of it has been looked at over the whole time that it may be
idle, counted by the monotonic clock. So the wall clock may jump forwards (no task that was just touched is failed) and
backwards (none lives on for it), and what was touched in another process, or between two looks, is not failed: the
row has another `rev` then, and that is compared under the lock. Verified by `tests/unit/test_task_monitor.py` and
`tests/processes/test_tasks.py`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from nomad_sessions.errors import InvalidInputError, NomadSessionsError, StoreClosedError
from nomad_sessions.models import Task
from nomad_sessions.operations import tasks

if TYPE_CHECKING:
    from nomad_sessions.overview_api import OverviewCalls

__all__ = ["TaskMonitor"]

Seen = dict[tuple[str, str], tuple[int, float]]
_LOG = logging.getLogger("nomad_sessions")


class TaskMonitor:
    """Looks at the running tasks at intervals, on a thread of its own; `manager.monitor_tasks(…)` makes and starts it.

    Any number of monitors, in any number of processes, may watch one workspace. A context manager.
    """

    def __init__(
        self,
        manager: OverviewCalls,
        workspace_id: str | None,
        *,
        idle_ms: int,
        every_ms: int,
        monotonic: Callable[[], float],
    ) -> None:
        """Raises `InvalidInputError` for a time that is no whole number of ms, 1 or more. Starts no thread."""
        for field, value in (("idle_ms", idle_ms), ("every_ms", every_ms)):
            if type(value) is not int or value < 1:
                raise InvalidInputError(field=field, value=value, reason="must be a whole number of ms, 1 or more")
        self._manager = manager
        self._workspace_id = workspace_id
        self._idle_ms = idle_ms
        self._every_ms = every_ms
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._looked: float | None = None
        # What each running task was at the last look: its rev, and for how many ms it has been seen at that.
        self._seen: Seen = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look, on a thread. Does nothing the second time, and after `close`."""
        with self._mutex:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="nomad-sessions task monitor", daemon=True)
                self._thread.start()

    def look(self) -> list[Task]:
        """One look, now: fails what has been idle for too long, durably, and returns it. The thread does just this."""
        with self._mutex:
            passed = self._passed()
            ids = self._manager.list_workspaces() if self._workspace_id is None else [self._workspace_id]
            before, self._seen = self._seen, {}
            failed: list[Task] = []
            errors: list[Exception] = []
            for workspace_id in ids:
                try:
                    failed += self._look_at(workspace_id, passed, before)
                except StoreClosedError:
                    raise
                except (NomadSessionsError, OSError) as error:  # Of one workspace: the others are looked at.
                    errors.append(error)
                    self._seen |= {key: seen for key, seen in before.items() if key[0] == workspace_id}
            if len(errors) == len(ids) and errors:
                raise errors[0]
            for each in errors:
                _LOG.warning("the monitor of tasks could not look everywhere, and goes on: %s", each)
            return failed

    def _passed(self) -> float:
        """How many ms were watched since the last look. A gap much longer than the interval was not: the machine slept,
        or this process was stopped, and so perhaps were those who work on the tasks."""
        now = self._monotonic()
        last, self._looked = self._looked, now
        return 0.0 if last is None else min(max(0.0, now - last) * 1000, 2.0 * self._every_ms)

    def _look_at(self, workspace_id: str, passed: float, before: Seen) -> list[Task]:
        due: dict[str, int] = {}
        for task_id, rev in self._manager._read(workspace_id, tasks.running).items():
            known, watched = before.get((workspace_id, task_id), (rev, -passed))
            watched = watched + passed if known == rev else 0.0
            self._seen[workspace_id, task_id] = (rev, watched)
            if watched >= self._idle_ms:
                due[task_id] = rev
        if not due:
            return []
        return self._manager._commit(workspace_id, tasks.fail_overdue(self._idle_ms, due))

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except StoreClosedError:
                return
            except (NomadSessionsError, OSError) as error:
                _LOG.warning("the monitor of tasks could not look, and goes on: %s", error)
            if self._closing.wait(self._every_ms / 1000):
                return

    def after_fork(self) -> None:
        """In a forked child, where its thread is not: it has ended here, and goes on in the parent."""
        self._mutex = threading.Lock()
        self._closing = threading.Event()
        self._closing.set()
        self._thread = None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def close(self) -> None:
        """Ends it, after the look that is under way. Safe to call twice."""
        self._closing.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> TaskMonitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
