"""One sync for many: threads that wait for the disk at the same time share the next `fdatasync`.

Invariant: `wait(position)` returns only after a sync that began when everything before `position` had been written. A
failed sync is never retried: the kernel may have dropped the pages and report success the next time (the fsync problem
that PostgreSQL met in 2018), so every waiter and every later caller gets the error. Verified by
`tests/unit/test_group_sync.py` and `tests/faults/`.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from nomad_sessions.errors import DurabilityLostError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.segment import Segment

__all__ = ["GroupSync", "Position"]


class Position(NamedTuple):
    """A place in the journal, in order: first seq of a segment, byte offset in it."""

    segment: int
    offset: int


class GroupSync:
    """The syncs of one workspace handle. Safe for any number of threads."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._changed = threading.Condition(threading.Lock())
        self._written: tuple[Segment, int] | None = None
        self._synced = Position(0, 0)
        self._busy = False
        self.error: DurabilityLostError | None = None

    def wrote(self, segment: Segment, end: int) -> Position:
        """Says that `segment` has been written up to `end`; the position to wait for."""
        self._written = (segment, end)
        return Position(segment.first_seq, end)

    def note(self, position: Position) -> None:
        """Says that somebody synced up to here by other means (a rotation, a checkpoint)."""
        with self._changed:
            self._synced = max(self._synced, position)

    @property
    def synced(self) -> Position:
        """The position up to which everything is known durable."""
        return self._synced

    @property
    def behind(self) -> bool:
        """Whether something has been written that is not synced yet."""
        written = self._written
        return written is not None and self._synced < Position(written[0].first_seq, written[1])

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
                    self._busy = True
                    break
                self._changed.wait()
        assert self._written is not None, "a goal comes from wrote()"
        segment, end = self._written
        try:
            self._fs.datasync(segment.fd)
        except BaseException as error:
            self._finish(None, error if isinstance(error, OSError) else None, segment.path)
            if isinstance(error, OSError) and self.error is not None:
                raise self.error from error
            raise
        self._finish(Position(segment.first_seq, end), None, segment.path)

    def _finish(self, synced: Position | None, error: OSError | None, path: str) -> None:
        with self._changed:
            self._busy = False
            if synced is not None:
                self._synced = max(self._synced, synced)
            if error is not None:
                self.error = DurabilityLostError(path=path, errno=error.errno)
            self._changed.notify_all()
