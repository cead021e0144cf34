"""Where the time comes from: integer milliseconds since the Unix epoch, behind one method so that tests can turn it.

A clock may jump, backwards too. Nothing in the store may order by it: `seq` does that, and ids have a floor (ids.py).
How long something took is asked of `monotonic`, which does not jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Anything with `now()`."""

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        ...


def monotonic_of(clock: Clock) -> int:
    """Milliseconds that only go forward, from a beginning that all processes of this machine share until it restarts.

    Those of the clock itself where it has them, as ours do; else the machine's.
    """
    own: Callable[[], int] | None = getattr(clock, "monotonic", None)
    return own() if own is not None else time.monotonic_ns() // 1_000_000


class SystemClock:
    """The machine's wall clock. Costs about 0.1 us a call."""

    __slots__ = ()

    def monotonic(self) -> int:
        """The milliseconds that the machine has been running: whatever is done to its clock, they pass."""
        return time.monotonic_ns() // 1_000_000

    def now(self) -> int:
        """The time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until told otherwise; made for tests, of this package and of its users.

    `start` is in milliseconds since the epoch. `advance` lets time pass; `set`, and going back, make the clock jump.
    """

    __slots__ = ("_now", "_passed")

    def __init__(self, start: int = 1_700_000_000_000) -> None:
        self._now = start
        self._passed = 0

    def monotonic(self) -> int:
        """The milliseconds that passed: those that it was advanced by."""
        return self._passed

    def now(self) -> int:
        """The time in milliseconds since the epoch, as last set."""
        return self._now

    def advance(self, ms: int) -> int:
        """Move by `ms` milliseconds, backwards where negative; gives the new time."""
        self._now += ms
        self._passed += max(ms, 0)
        return self._now

    def set(self, ms: int) -> None:
        """Jump to `ms` milliseconds since the epoch."""
        self._now = ms
