"""Where the time comes from: integer milliseconds since the Unix epoch, behind one method so that tests can turn it.

A clock may jump, backwards too. Nothing in the store may order by it: `seq` does that, and ids have a floor (ids.py).
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Anything with `now()`."""

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        ...


class SystemClock:
    """The machine's wall clock. Costs about 0.1 us a call."""

    __slots__ = ()

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until told otherwise; made for tests, of this package and of its users.

    `start` is in milliseconds since the epoch.
    """

    __slots__ = ("_now",)

    def __init__(self, start: int = 1_700_000_000_000) -> None:
        self._now = start

    def now(self) -> int:
        """The time in milliseconds since the epoch, as last set."""
        return self._now

    def advance(self, ms: int) -> int:
        """Move by `ms` milliseconds, backwards where negative; gives the new time."""
        self._now += ms
        return self._now

    def set(self, ms: int) -> None:
        """Jump to `ms` milliseconds since the epoch."""
        self._now = ms
