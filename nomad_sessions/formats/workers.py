"""An import by several processes at once: each takes all sessions of a workspace, then those of the next.

A workspace is one process's alone, so that nobody waits for a lock or reads what another has just appended. The
processes are spawned, which every system knows, and open managers of their own.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING

from nomad_sessions.errors import CorruptionError, LockTimeoutError, UnsupportedFormatError
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.source import Found
from nomad_sessions.workspace.options import Options

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["UNUSABLE", "Job", "import_by_several"]

UNUSABLE = (CorruptionError, UnsupportedFormatError, LockTimeoutError)
"""What is wrong with one workspace alone, and says nothing of others."""
_GARBAGE = 5_000_000  # containers made, and not freed, between two looks for cycles: more than a session has
_LOOK_EVERY = 0.1  # seconds between two looks at how far the others are

Take = Callable[["NativeSessionManager", Found, str, ImportReport], None]
"""Imports one session into a workspace."""


@dataclass(frozen=True)
class Job:
    """The sessions of one workspace, and what to do with each."""

    workspace_id: str
    sessions: Sequence[Found]
    take: Take

    def do(self, manager: NativeSessionManager, report: ImportReport, advance: Callable[[int], bool]) -> None:
        """Imports one session after the other; `advance` gets the size of each, and says whether to go on. A workspace
        that cannot be used is in the report, and no reason not to go on with others."""
        left = len(self.sessions)
        try:
            with manager.workspace(self.workspace_id).bulk():
                for found in self.sessions:
                    left -= 1
                    self.take(manager, found, self.workspace_id, report)
                    if not advance(found.size):
                        break
        except UNUSABLE as error:
            report.fail(self.workspace_id, str(error), left)

    @property
    def size(self) -> int:
        """In bytes of the source."""
        return sum(found.size for found in self.sessions)


class _Told:
    """What a process of the pool hears from its parent and says to it; set when the process begins."""

    stop: Event
    done: SimpleQueue[int]


def import_by_several(
    manager: NativeSessionManager,
    jobs: Sequence[Job],
    processes: int,
    report: ImportReport,
    advance: Callable[[int], object],
) -> None:
    """Does all jobs, and adds to the report; `advance` is called with the bytes of the source that were done meanwhile.

    Raises what the manager raises, and `ChildProcessError` when a process was killed: what it had imported stays, and
    an import that is started again goes on from there. An exception here, Ctrl-C too, ends the others after the session
    that they are at.
    """
    context = multiprocessing.get_context("spawn")
    stop, done = context.Event(), context.SimpleQueue()
    pool = ProcessPoolExecutor(min(processes, len(jobs)), context, _begin, (stop, done))
    try:
        blank = ImportReport(report.source, report.format)
        largest_first = sorted(jobs, key=lambda job: job.size, reverse=True)
        left = {pool.submit(_work, manager.data_dir, manager._options, blank, job) for job in largest_first}
        while left:
            ended, left = wait(left, _LOOK_EVERY, FIRST_COMPLETED)
            while not done.empty():
                advance(done.get())
            for future in ended:
                report.add(future.result())
    except BrokenProcessPool as error:
        raise ChildProcessError("a process of the import was killed: start it again, it goes on from there") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _begin(stop: Event, done: SimpleQueue[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent hears it too, and says when to stop.
    # Records by the thousand, and hardly a cycle among them: looking for cycles as often as usual takes a tenth of all
    # the time. What is loaded is not looked at again.
    gc.freeze()
    gc.set_threshold(_GARBAGE, 5, 5)
    _Told.stop, _Told.done = stop, done


def _work(data_dir: str, options: Options, report: ImportReport, job: Job) -> ImportReport:
    from nomad_sessions.manager import NativeSessionManager

    with NativeSessionManager(data_dir, **options._asdict()) as manager:
        job.do(manager, report, _advance)
    return report


def _advance(size: int) -> bool:
    _Told.done.put(size)
    return not _Told.stop.is_set()
