"""What a workspace handle has done since it was opened, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Counts, bytes and seconds. Each is raised by one thread at a time: by who has the lock, the sync or the view.

    `commits` are groups of `records` that were appended; `body_…` is what became of
    messages that had to be put together from pieces.
    """

    commits: int = 0
    records: int = 0
    bytes_appended: int = 0
    syncs: int = 0
    sync_seconds: float = 0.0
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    lock_waits: int = 0
    lock_wait_seconds: float = 0.0
    body_hits: int = 0
    body_misses: int = 0
    body_evictions: int = 0

    def appended(self, records: int, size: int) -> None:
        """A group of records was written."""
        self.commits += 1
        self.records += records
        self.bytes_appended += size
