"""An import by several processes at once: each takes all sessions of a workspace, then those of the next.

A workspace is one process's alone, so that nobody waits for a lock or reads what another has just appended. The one
that asked is one of them; the others are spawned, which every system knows. All open managers of their own.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING

from nomad_sessions.errors import CorruptionError, LockTimeoutError, UnsupportedFormatError
from nomad_sessions.formats import sqlite
from nomad_sessions.formats.garbage import rarely_collected
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.source import Found
from nomad_sessions.workspace.options import Options

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["UNUSABLE", "Job", "import_by_several"]

UNUSABLE = (CorruptionError, UnsupportedFormatError, LockTimeoutError, PermissionError)
"""What is wrong with one workspace alone, and says nothing of others."""
_LOG = logging.getLogger("nomad_sessions")
_LOOK_EVERY = 0.1  # seconds between two looks at how far the others are

Take = Callable[["NativeSessionManager", Found, str, ImportReport], None]
"""Imports one session into a workspace."""


class _ElsewhereError(Exception):
    def __init__(self, error: Exception) -> None:
        self.error = error


@dataclass(frozen=True)
class Job:
    """The sessions of one workspace, and what to do with each."""

    workspace_id: str
    sessions: Sequence[Found]
    take: Take

    @sqlite.copied_once()
    def do(self, manager: NativeSessionManager, report: ImportReport, advance: Callable[[int], bool]) -> None:
        """Imports one session after the other; `advance` gets the size of each, and says whether to go on. A workspace
        that cannot be used is in the report, and no reason not to go on with others. Raises what `advance` does."""
        left, read, size = len(self.sessions), 0, max(1, self.size)
        try:
            with rarely_collected(), manager.workspace(self.workspace_id).bulk() as bulk:
                for found in self.sessions:
                    left -= 1
                    read += found.size
                    bulk.share = read / size
                    self.take(manager, found, self.workspace_id, report)
                    try:
                        goes_on = advance(found.size)
                    except UNUSABLE as error:  # Not of this workspace.
                        raise _ElsewhereError(error) from error
                    if not goes_on:
                        break
        except UNUSABLE as error:
            report.fail(self.workspace_id, str(error), left)
        except _ElsewhereError as error:
            raise error.error from None

    @property
    def size(self) -> int:
        """In bytes of the source."""
        return sum(found.size for found in self.sessions)


class _Told:
    """What a process of the pool hears from its parent and says to it; set when the process begins."""

    stop: Event
    done: Synchronized[int]


class _Waiting:
    """The jobs that nobody has begun: for this process to take, and for the others, each of which gets its next one as
    soon as it is done with one. Safe for the threads that hear of that."""

    def __init__(
        self, jobs: Sequence[Job], begin: Callable[[Job], Future[ImportReport]], end: Callable[[], None]
    ) -> None:
        self._jobs = deque(sorted(jobs, key=lambda job: job.size, reverse=True))
        self._begin = begin
        self._end = end
        self._guard = threading.Lock()
        self.begun: list[Future[ImportReport]] = []

    def take(self) -> Job | None:
        """The largest that is left."""
        with self._guard:
            return self._jobs.popleft() if self._jobs else None

    def give(self) -> None:
        """Gives the largest that is left to another process. Where none takes it, it is left."""
        with self._guard:
            if not self._jobs:
                return
            try:
                future = self._begin(self._jobs[0])
            except BrokenProcessPool:  # Another one was killed: what it was at says so.
                return
            except (OSError, RuntimeError) as error:
                _LOG.warning("an import goes on in this process alone: %s", error)
                self._end()  # It may stand in a queue already, from which another one would take it.
                return
            self._jobs.popleft()
            self.begun.append(future)
        future.add_done_callback(self._go_on)

    def _go_on(self, done: Future[ImportReport]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.give()

    def clear(self) -> None:
        """Nobody begins another one from now on."""
        with self._guard:
            self._jobs.clear()


def import_by_several(
    manager: NativeSessionManager,
    jobs: Sequence[Job],
    processes: int,
    report: ImportReport,
    advance: Callable[[int], object],
) -> None:
    """Does all jobs, in this process and so many less one beside it, and adds to the report; `advance` is called with
    the bytes of the source that were done meanwhile.

    Raises what the manager raises, and `ChildProcessError` when a process was killed: what it had imported stays, and
    an import that is started again goes on from there. An exception here, Ctrl-C too, ends the others after the session
    that they are at.
    """
    context = multiprocessing.get_context("spawn")
    stop, done = context.Event(), context.Value("q", 0)
    others = min(processes, len(jobs)) - 1
    pool = ProcessPoolExecutor(others, context, _begin, (stop, done))
    work = partial(_work, manager.data_dir, manager._options)
    blank = ImportReport(report.source, report.format)  # Each of the others fills a copy.
    end = partial(pool.shutdown, wait=False, cancel_futures=True)
    waiting = _Waiting(jobs, lambda job: pool.submit(work, job, blank, _advance), end)
    told = 0

    def look(size: int = 0) -> bool:
        """Tells of this process's bytes and the others', and raises what has happened to them."""
        nonlocal told
        now = done.get_obj().value  # Without its lock: one that is killed may hold it.
        size, told = size + now - told, now
        if size:
            advance(size)
        for future in waiting.begun:
            if future.done():
                future.result()
        return True

    try:
        for _ in range(others):
            waiting.give()
        while (job := waiting.take()) is not None:
            work(job, report, look)
        while wait(waiting.begun, _LOOK_EVERY).not_done:
            look()
        look()
        for future in waiting.begun:
            report.add(future.result())
    except BrokenProcessPool as error:
        raise ChildProcessError("a process of the import was killed: start it again, it goes on from there") from error
    finally:
        waiting.clear()
        stop.set()
        pool.shutdown(cancel_futures=True)


def _begin(stop: Event, done: Synchronized[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent hears it too, and says when to stop.
    _Told.stop, _Told.done = stop, done


def _work(
    data_dir: str, options: Options, job: Job, report: ImportReport, advance: Callable[[int], bool]
) -> ImportReport:
    from nomad_sessions.manager import NativeSessionManager

    with NativeSessionManager(data_dir, **options._asdict()) as manager:
        job.do(manager, report, advance)
    return report


def _advance(size: int) -> bool:
    with _Told.done.get_lock():
        _Told.done.value += size
    return not _Told.stop.is_set()
