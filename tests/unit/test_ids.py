from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import ulid
from hypothesis import example, given
from hypothesis import strategies as st

from nomad_sessions.clock import ManualClock, SystemClock
from nomad_sessions.ids import IdSource, derive_id, is_ulid, ulid_time

T0 = 1_767_261_600_000
DAY = 86_400_000
MAX_ULID = "7" + "Z" * 25
STEPS = st.lists(st.integers(-7_200_000, 7_200_000) | st.sampled_from([0, 0, 1, 1024]), max_size=60)


@given(STEPS)
def test_ids_go_up_whatever_the_clock_does(steps: list[int]) -> None:
    clock = ManualClock(T0)
    source = IdSource(clock)
    ids = [source.next()]
    for step in steps:
        clock.advance(step)
        ids.append(source.next())
        assert source.last == ids[-1]
    assert ids == sorted(set(ids))
    assert all(map(is_ulid, ids))


@given(st.integers(0, (1 << 48) - 1), st.integers(0, (1 << 80) - 1))
def test_ids_are_what_ulid_py_reads_and_writes(ms: int, low: int) -> None:
    theirs = str(ulid.from_bytes(ms.to_bytes(6, "big") + low.to_bytes(10, "big")))
    assert is_ulid(theirs)
    assert ulid_time(theirs) == ms
    if theirs == MAX_ULID:
        return
    source = IdSource(ManualClock(0), last=theirs)
    assert source.last == theirs
    after = ulid.parse(source.next())
    assert after.int == ulid.parse(theirs).int + 1
    assert str(after) == source.last


def test_an_id_begins_with_the_time_it_was_made() -> None:
    source = IdSource(ManualClock(T0))
    first = source.next()
    assert ulid.parse(first).timestamp().int == ulid_time(first) == T0
    assert ulid_time(source.next(T0 + 5000)) == T0 + 5000


def test_two_that_saw_the_same_last_id_do_not_draw_the_same_after_a_leap() -> None:
    clock = ManualClock(T0)
    last = IdSource(clock).next()
    one, two = IdSource(clock, last), IdSource(clock, last)
    one.leap()
    ahead = [one.next() for _ in range(100)]
    beside = [two.next() for _ in range(100)]
    assert ahead == sorted(set(ahead))
    assert last < ahead[0]
    assert not set(ahead) & set(beside)
    assert (ulid_time(beside[-1]), ulid_time(ahead[-1])) in ((T0, T0), (T0, T0 + 1))


def test_a_leap_ends_where_the_ids_end() -> None:
    source = IdSource(ManualClock(0), last=MAX_ULID)
    source.leap()
    assert source.last == MAX_ULID
    with pytest.raises(OverflowError):
        source.next()


def test_before_the_first_id_there_is_nothing_to_leap_from() -> None:
    source = IdSource(ManualClock(T0))
    source.leap()
    assert ulid_time(source.next()) == T0


def test_ids_of_one_millisecond_count_up_by_one() -> None:
    source = IdSource(ManualClock(T0))
    values = [ulid.parse(source.next()).int for _ in range(1000)]
    assert values == list(range(values[0], values[0] + 1000))


@given(st.integers(0, (1 << 80) - 3000), st.integers(1, 2500))
def test_ids_that_count_up_are_what_ulid_py_writes(low: int, count: int) -> None:
    first = str(ulid.from_bytes(T0.to_bytes(6, "big") + low.to_bytes(10, "big")))
    source = IdSource(ManualClock(0), last=first)
    ids = [source.next() for _ in range(count)]
    value = ulid.parse(first).int
    assert ids[-1] == str(ulid.from_bytes((value + count).to_bytes(16, "big")))
    assert ids == sorted(ids)


@given(st.integers(0, (1 << 80) - 1), st.lists(st.integers(0, 2_100), max_size=3))
@example((1 << 80) - 1, [1, 1_024, 1])
def test_several_at_once_are_those_that_come_one_by_one(low: int, counts: list[int]) -> None:
    first = str(ulid.from_bytes(T0.to_bytes(6, "big") + low.to_bytes(10, "big")))
    single, several = IdSource(ManualClock(0), last=first), IdSource(ManualClock(0), last=first)
    for count in counts:
        assert several.several(count, T0) == [single.next(T0) for _ in range(count)]
        assert several.last == single.last
    assert several.next() == single.next()


def test_a_full_millisecond_carries_into_the_next() -> None:
    source = IdSource(ManualClock(T0), last=str(ulid.from_bytes(T0.to_bytes(6, "big") + b"\xff" * 10)))
    carried = source.next()
    assert carried > IdSource(ManualClock(T0)).next()
    assert (ulid_time(carried), carried[10:]) == (T0 + 1, "0" * 16)


def test_the_last_ulid_of_all_has_no_successor() -> None:
    source = IdSource(ManualClock(T0), last=MAX_ULID)
    with pytest.raises(OverflowError):
        source.next()
    assert source.last == MAX_ULID


@pytest.mark.parametrize("ms", [-1, 0, 1 << 48, 1 << 60])
def test_a_clock_outside_of_the_range_of_ulids_still_gives_ids_that_go_up(ms: int) -> None:
    source = IdSource(ManualClock(ms), last="")
    ids = [source.next() for _ in range(3)]
    assert ids == sorted(set(ids))
    assert all(map(is_ulid, ids))


def test_a_followed_id_raises_the_floor_and_a_lower_one_does_not() -> None:
    source = IdSource(ManualClock(T0))
    seen = IdSource(ManualClock(T0 + 400 * DAY)).next()
    source.follow(seen)
    assert source.last == seen
    after = source.next()
    assert after > seen
    source.follow(seen)
    assert source.last == after


@pytest.mark.parametrize(
    "foreign",
    ["", "ses_abc", "zzz", "Z" * 26, "8" + "0" * 25, "7" + "z" * 25, "7" + "U" * 25, "7" + "Z" * 26, "٣" * 26],
)
def test_ids_that_are_no_ulids_are_ignored(foreign: str) -> None:
    source = IdSource(ManualClock(T0))
    first = source.next()
    source.follow(foreign)
    assert source.last == first
    assert not is_ulid(foreign)
    assert IdSource(ManualClock(T0), last=foreign).last == ""


def test_our_own_last_id_is_a_floor_however_far_ahead_it_lies() -> None:
    last = IdSource(ManualClock(T0 + 400 * DAY)).next()
    assert IdSource(ManualClock(T0), last=last).next() > last


def test_two_sources_make_different_ids_in_the_same_millisecond() -> None:
    assert IdSource(ManualClock(T0)).next() != IdSource(ManualClock(T0)).next()


FORK = f"""
import os
from nomad_sessions.clock import ManualClock
from nomad_sessions.ids import IdSource
source = IdSource(ManualClock({T0}))
source.next()
child = os.fork()
os.write(1, source.next({T0 + 1}).encode() + b" ")
if child:
    raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_repeat_the_ids_of_its_parent() -> None:
    # In a process of its own: pytest's has threads, and forking those is warned about.
    ids = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True).stdout.split()
    assert len(set(ids)) == 2
    assert all(map(is_ulid, ids))


def test_a_derived_id_is_the_same_each_time_and_for_these_parts_only() -> None:
    assert derive_id(T0, "claude", "m1") == derive_id(T0, "claude", "m1")
    assert ulid_time(derive_id(T0, "x")) == T0
    ids = [derive_id(T0, *parts) for parts in [(), ("",), ("ab", "c"), ("a", "bc"), ("abc",), ("\ud83d",), ("?",)]]
    assert len(set(ids)) == len(ids)
    assert all(str(ulid.parse(each)) == each for each in ids)


def test_a_derived_id_stays_what_earlier_versions_made() -> None:
    # Imported again, a record must be found under the id that it got the first time.
    assert derive_id(T0, "claude", "m1") == "01KDWFZY807VRG10654SQ6F2MZ"
    assert derive_id(T0, "x" * 255, "y" * 256, "é" * 300, "z") == "01KDWFZY80MAKKAGNZFPXPM45G"


@pytest.mark.parametrize("ms", [-1, 1 << 48])
def test_a_time_that_fits_no_ulid_is_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        derive_id(ms, "x")


def test_the_time_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="not a ULID"):
        ulid_time("ses_abc")


def test_an_id_costs_a_small_multiple_of_asking_the_kernel_for_its_random_bytes() -> None:
    # A ratio of two measurements of one run, since machines vary; 1.8 us beside 0.5 us where this was written.
    source, now = IdSource(SystemClock()), iter(range(T0, T0 + 1_000_000))

    def best_of(call: object) -> float:
        assert callable(call)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(2000):
                call()
            times.append(time.perf_counter() - start)
        return min(times)

    assert best_of(lambda: source.next(next(now))) < 8 * best_of(lambda: os.urandom(10))
