"""Leases and retries under a clock that jumps: over too early at the worst, never unreachable for ever."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nomad_sessions.clock import Clock, ManualClock, SystemClock, monotonic_of
from nomad_sessions.mail.timing import LONGEST_BACKOFF, Moment, backoff, is_over, lease_left, left_of

NOW, STEADY, MS = 1_750_000_000_000, 5_000, 30_000
LEASE = {"id": "l", "ms": MS, "until": NOW + MS, "steady": STEADY + MS, "holder": "h"}
HOUR = 3_600_000


def left(passed: int, jumped: int, alive: bool | None) -> int | None:
    known = {} if alive is None else {"h": alive}
    return lease_left(LEASE, Moment(NOW + passed + jumped, STEADY + passed, known))


@pytest.mark.parametrize("alive", [True, False, None])
def test_with_a_clock_that_goes_right_nobody_is_asked_who_lives(alive: bool | None) -> None:
    assert left(0, 0, alive) == MS
    assert left(MS - 1, 0, alive) == 1
    assert left(MS, 0, alive) == 0
    assert left(HOUR, 0, alive) == 0


@pytest.mark.parametrize("jumped", [HOUR, -HOUR, 1_000 * HOUR])
def test_while_the_holder_lives_its_lease_lasts_just_as_long_whatever_the_clock_does(jumped: int) -> None:
    assert left(MS - 1, jumped, True) == 1
    assert left(MS, jumped, True) == 0


@pytest.mark.parametrize("jumped", [HOUR, -HOUR])
def test_whether_it_lives_must_be_known_when_the_clock_jumped(jumped: int) -> None:
    assert left(10, jumped, None) is None


@pytest.mark.parametrize("jumped", [HOUR, -HOUR, -MS - 11])
def test_what_a_dead_holder_had_comes_back_after_a_jump_in_either_direction(jumped: int) -> None:
    assert left(10, jumped, False) == 0


@given(passed=st.integers(0, 10 * MS), jumped=st.integers(-10 * HOUR, 10 * HOUR), alive=st.booleans())
@example(passed=2 * MS, jumped=-MS - 1, alive=False)
@example(passed=2 * MS, jumped=-2 * MS, alive=False)
def test_no_lease_lasts_longer_than_twice_its_time(passed: int, jumped: int, alive: bool) -> None:
    now = left(passed, jumped, alive)
    assert now is not None
    assert now <= MS
    assert passed < 2 * MS or now == 0


def test_after_the_machine_was_started_again_the_clock_decides() -> None:
    """Its own count began anew, and the holder is dead."""
    for steady in (0, 100, STEADY + MS - 1, STEADY + 10 * MS):
        assert lease_left(LEASE, Moment(NOW + 2 * MS, steady, {"h": False})) == 0


def test_of_no_span_more_is_left_than_all_of_it() -> None:
    assert left_of(NOW + 10, 10, NOW) == 10
    assert left_of(NOW + 11, 10, NOW) == 0
    assert left_of(NOW, 10, NOW) == 0
    assert (is_over(None, NOW), is_over(NOW, NOW), is_over(NOW + 1, NOW)) == (False, True, False)


@given(st.integers(0, 10**7), st.integers(1, 10_000), st.text())
def test_a_retry_waits_twice_as_long_each_time_and_by_chance_up_to_half_less(first: int, attempts: int, t: str) -> None:
    whole = min(first * 2 ** min(attempts - 1, 60), max(first, LONGEST_BACKOFF))
    assert whole // 2 <= backoff(first, attempts, t) <= whole
    assert backoff(first, attempts, t) == backoff(first, attempts, t)


def test_chance_spreads_those_that_failed_together() -> None:
    waits = [backoff(10_000, 1, f"lease {number}") for number in range(1_000)]
    assert min(waits) < 5_500
    assert max(waits) > 9_500
    assert len(set(waits)) > 800


def test_a_manual_clock_counts_what_passes_and_not_what_it_is_set_to() -> None:
    clock = ManualClock(NOW)
    clock.advance(10)
    clock.set(NOW + HOUR)
    clock.advance(-5)
    assert clock.monotonic() == monotonic_of(clock) == 10


def test_any_clock_has_a_count() -> None:
    class OnlyNow:
        def now(self) -> int:
            return 0

    clocks: list[Clock] = [SystemClock(), OnlyNow()]
    one, other = map(monotonic_of, clocks)
    assert 0 <= other - one < 5_000
