"""One sync for many: threads that wait for the disk at the same time share the next `fdatasync`.

Invariant: `wait(position)` returns only after a sync that began when everything before `position` had been written. A
failed sync is never retried: the kernel may have dropped the pages and report success the next time (the fsync problem
that PostgreSQL met in 2018), so every waiter and every later caller gets the error. Verified by
`tests/unit/test_group_sync.py` and `tests/faults/`.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from typing import NamedTuple

from nomad_sessions.errors import DurabilityLostError, StoreClosedError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.counters import Counters
from nomad_sessions.storage.segment import Segment

__all__ = ["GroupSync", "Position"]


class Position(NamedTuple):
    """A place in the journal, in order: first seq of a segment, byte offset in it."""

    segment: int
    offset: int


class GroupSync:
    """The syncs of one workspace handle. Safe for any number of threads."""

    def __init__(self, fs: FileSystem, counters: Counters) -> None:
        self._fs = fs
        self._counters = counters
        self._changed = threading.Condition(threading.Lock())
        self._written: tuple[Segment, int] | None = None
        self._synced = Position(0, 0)
        self._busy = False
        self._closed = ""
        self.error: DurabilityLostError | None = None

    def wrote(self, segment: Segment, end: int) -> Position:
        """Says that `segment` has been written up to `end`; the position to wait for."""
        self._written = (segment, end)
        return Position(segment.first_seq, end)

    def forget(self) -> None:
        """Lets go of the segment, so that its descriptor can be given back. Who still waits gets `StoreClosedError`."""
        with self._changed:
            if self._written is not None:
                self._closed = self._written[0].path
                self._written = None

    def note(self, position: Position) -> None:
        """Says that somebody synced up to here by other means (a rotation, a checkpoint)."""
        with self._changed:
            self._synced = max(self._synced, position)

    def start(self, segment: Segment, end: int, durable: int) -> None:
        """Says that `segment`, of which `durable` bytes are known to be synced, is what is written to from now on.

        Where the journal was read afresh nothing else may count as synced: it may be another one, begun again at seq 1,
        or a backup that was put back into the same file.
        """
        with self._changed:
            before = self._written[0] if self._written is not None else None
            known = Position(segment.first_seq, durable)
            same = before is not None and before.identity == segment.identity
            whole = self._synced <= Position(segment.first_seq, end)
            self._synced = max(self._synced, known) if same and whole else known
            self._written = (segment, end)

    @property
    def synced(self) -> Position:
        """The position up to which everything is known durable."""
        return self._synced

    def fail(self, error: DurabilityLostError) -> None:
        """Says that a sync of something else failed: nothing can be promised through this handle any more."""
        with self._changed:
            # A fresh one: the traceback of `error` would keep the view, and so every descriptor, alive.
            self.error = self.error or DurabilityLostError(path=error.path, errno=error.errno or errno.EIO)
            self._changed.notify_all()

    def wait(self, goal: Position) -> None:
        """Returns when everything before `goal` is durable; the first to ask syncs for all that is written by then.

        Raises `DurabilityLostError` when the sync fails, for everybody that it was for.
        """
        with self._changed:
            while True:
                if self.error is not None:
                    raise self.error
                if self._synced >= goal:
                    return
                if not self._busy:
                    if self._written is None:
                        raise StoreClosedError(path=self._closed)
                    segment, end = self._written
                    self._busy = True
                    break
                self._changed.wait()
        began = self._fs.monotonic()
        try:
            self._fs.datasync(segment.fd)
        except BaseException as error:
            if isinstance(error, OSError):
                self._write_again(segment, end)
            self._finish(None, error if isinstance(error, OSError) else None, segment.path)
            if isinstance(error, OSError) and self.error is not None:
                raise self.error from error
            raise
        self._counters.syncs += 1
        self._counters.sync_seconds += self._fs.monotonic() - began
        self._finish(Position(segment.first_seq, end), None, segment.path)

    def _write_again(self, segment: Segment, end: int) -> None:
        """After a failed sync the kernel takes the pages for clean: the next sync, of whoever opens the store again,
        would succeed without writing them, and acknowledge records that lie behind a hole. Written once more, the same
        bytes are dirty again, and that sync is honest. It is not done here, and nothing is called a success."""
        start = self._synced.offset if self._synced.segment == segment.first_seq else 0
        with contextlib.suppress(OSError):
            self._fs.pwrite_all(segment.fd, self._fs.pread(segment.fd, end - start, start), start)

    def _finish(self, synced: Position | None, error: OSError | None, path: str) -> None:
        with self._changed:
            self._busy = False
            if synced is not None:
                self._synced = max(self._synced, synced)
            if error is not None:
                self.error = DurabilityLostError(path=path, errno=error.errno or errno.EIO)
            self._changed.notify_all()
