from __future__ import annotations

import time

from nomad_sessions.clock import Clock, ManualClock, SystemClock


def test_the_system_clock_gives_milliseconds_since_the_epoch() -> None:
    before = int(time.time() * 1000)
    now = SystemClock().now()
    assert isinstance(now, int)
    assert before - 1 <= now <= int(time.time() * 1000) + 1


def test_a_manual_clock_stands_still_until_told_otherwise() -> None:
    clock = ManualClock(1000)
    assert (clock.now(), clock.now()) == (1000, 1000)
    assert clock.advance(500) == 1500
    assert clock.advance(-1500) == 0
    clock.set(42)
    assert clock.now() == 42


def test_both_are_clocks() -> None:
    clocks: list[Clock] = [SystemClock(), ManualClock()]
    assert all(clock.now() > 1_600_000_000_000 for clock in clocks)
