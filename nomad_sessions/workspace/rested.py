"""What a workspace that went to rest knows of its files, until it reads them again.

Invariant: what was known to be durable, and what another program had written, is known when it wakes; and where the
files are as they were nobody needs to wake it to hear so. Verified by `tests/unit/test_rested.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.journal import Journal
from nomad_sessions.workspace.foreign import ForeignFile
from nomad_sessions.workspace.recovery import Identity, Opened, identity

__all__ = ["Rested"]

_KNOWN_BY = 512


class Rested(NamedTuple):
    """`seq` is the log's; `live` the path of the live segment, and `segment` what it was when it ended where it was
    read up to; `durable` is the offset in it up to which all is synced, and `before` the bytes that end there."""

    seq: int
    seen: Identity | None
    foreign: ForeignFile | None
    unreadable: bool
    live: str
    segment: Identity | None
    durable: int
    before: bytes

    @classmethod
    def of(cls, fs: FileSystem, opened: Opened) -> Rested:
        """What is known now. Raises `OSError`."""
        journal, live = opened.view.journal, opened.view.journal.live
        found = (journal.last_seq, opened.seen, opened.foreign, opened.unreadable is not None)
        if live is None:
            return cls(*found, "", None, 0, b"")
        begin = max(0, journal.durable - _KNOWN_BY)
        before = fs.pread(live.fd, journal.durable - begin, begin)
        stat = fs.fstat(live.fd)
        # Not the size that it has by now: what another process appended since the last look was not read.
        segment = (stat.dev, stat.ino, journal.end, stat.mtime_ns)
        return cls(*found, live.path, segment, journal.durable, before)

    def is_as_it_was(self, fs: FileSystem, snapshot: str) -> bool:
        """Whether the files are what they were, and say all that there is. Cost: two looks at the folder."""
        if self.foreign is not None or self.unreadable or self.segment is None:
            return False
        return identity(fs.stat(self.live)) == self.segment and identity(fs.stat(snapshot)) == self.seen

    def vouch(self, fs: FileSystem, journal: Journal) -> None:
        """Says what is durable, where the live segment is still the same: the next record is to tell of it. Without
        that, damage in it would pass for the tail of a write that was never acknowledged."""
        live = journal.live
        if live is None or self.segment is None or live.identity != self.segment[:2] or journal.end < self.durable:
            return
        if fs.pread(live.fd, len(self.before), self.durable - len(self.before)) == self.before:
            journal.durable = max(journal.durable, self.durable)
