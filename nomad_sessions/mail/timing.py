"""When the time of a lease, of a retry or of a message is over, whatever the clock did meanwhile. Pure.

A span of time is written down by its length and by the clock's time at its end. Whoever judges it has only the clock as
it is now, so:

- No more of a span is ever left than all of it. Where more seems left the clock was set back, and the span is over: it
  ends too early rather than never.
- The clock that was set forward ends a span too early as well. For a retry that is an attempt made sooner. For a lease
  it would be a message handed out that somebody is at work on; so a lease names its holder, and while the holder lives
  the machine's own count of milliseconds decides alone, which no clock moves. (It began when the machine did: that of a
  holder that lives is ours, for no process outlives its machine's restart.) What a dead process held is over where the
  clock and that count do not agree: nobody works on it any more.

Verified by `tests/unit/test_mail_timing.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["LONGEST_BACKOFF", "Moment", "backoff", "is_over", "lease_left", "left_of"]

LONGEST_BACKOFF = 5 * 60_000


class Moment(NamedTuple):
    """Now: the clock's time in ms, the machine's own count of ms, and which holders are known to live or not."""

    now: int
    steady: int
    alive: Mapping[str, bool]


def left_of(until: int, span: int, now: int) -> int:
    """How much of a span of `span` ms that ends at `until` is left, in ms; 0 when it is over."""
    left = until - now
    return left if 0 < left <= span else 0


def is_over(until: int | None, now: int) -> bool:
    """Whether a moment that has no length, such as the end of a message's life, has come."""
    return until is not None and until <= now


def lease_left(lease: Mapping[str, Any], moment: Moment) -> int | None:
    """How much of a lease is left, in ms; None where that hangs on whether its holder lives, and nobody asked yet."""
    by_clock = left_of(lease["until"], lease["ms"], moment.now)
    by_count = left_of(lease["steady"], lease["ms"], moment.steady)
    if by_clock and by_count:
        return min(by_clock, by_count)
    if not by_clock and not by_count:
        return 0
    alive = moment.alive.get(lease["holder"])
    if alive is None:
        return None
    return by_count if alive else 0


def backoff(first: int, attempts: int, token: str) -> int:
    """How long to wait after attempt number `attempts`, in ms: `first`, and twice as long each time, up to five
    minutes; of which a part, up to the half, is left out by chance, so that those that failed together do not come back
    together. `token` is what chance is drawn from: the same gives the same."""
    whole = min(first << min(max(attempts - 1, 0), 32), max(first, LONGEST_BACKOFF))
    return whole - whole * (zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0xFFFF) // 0x20000
