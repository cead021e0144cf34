"""Overdue tasks: what the clock says, what a monitor has seen, and clocks that jump."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from nomad_sessions import (
    DiskFullError,
    IllegalTransitionError,
    InvalidInputError,
    ManualClock,
    NativeSessionManager,
    StoreClosedError,
    Task,
    TaskMonitor,
)
from tests.support.together import together
from tests.unit.conftest import START

WS = "ws"
MINUTE = 60_000
IDLE = 30 * MINUTE


class Ticks:
    """A monotonic clock that a test turns, in ms."""

    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> float:
        return self.ms / 1000


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def t(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    m.create_task(WS, "s", id="t")
    m.start_task(WS, "t")
    return m


def monitor(m: NativeSessionManager, ticks: Ticks, ws: str | None = WS, idle_ms: int = IDLE) -> TaskMonitor:
    return TaskMonitor(m, ws, idle_ms=idle_ms, every_ms=MINUTE, monotonic=ticks)


def watched(each: TaskMonitor, ticks: Ticks, minutes: int) -> list[str]:
    """The ids of what it failed while it looked once a minute."""
    failed = []
    for _ in range(minutes):
        ticks.ms += MINUTE
        failed += [task.id for task in each.look()]
    return failed


# By the clock


def test_a_running_task_is_overdue_after_thirty_minutes(t: NativeSessionManager, clock: ManualClock) -> None:
    clock.advance(IDLE - 1)
    assert t.overdue_tasks(WS) == t.fail_overdue_tasks(WS) == []
    clock.advance(1)
    assert [each.id for each in t.overdue_tasks(WS)] == ["t"]
    (failed,) = t.fail_overdue_tasks(WS)
    assert (failed.status, failed.error_message) == ("failed", "timed out: no activity for 30 min")
    assert (failed.last_activity, failed.updated_at) == (START, START + IDLE)
    assert t.get_task(WS, "t") == failed
    assert t.fail_overdue_tasks(WS) == []
    with pytest.raises(IllegalTransitionError, match="from failed to completed"):
        t.complete_task(WS, "t")


@pytest.mark.parametrize("sign", ["touch", "progress", "progress by an update"])
def test_a_sign_of_life_begins_the_time_anew(t: NativeSessionManager, clock: ManualClock, sign: str) -> None:
    clock.advance(IDLE - 1)
    if sign == "touch":
        t.touch_task(WS, "t")
    elif sign == "progress":
        t.progress_task(WS, "t", 1)
    else:
        t.update_task(WS, "t", progress=1)
    clock.advance(IDLE - 1)
    t.update_task(WS, "t", note="this is none")
    assert t.fail_overdue_tasks(WS) == []
    clock.advance(1)
    assert len(t.fail_overdue_tasks(WS)) == 1


def test_only_running_tasks_are_ever_overdue_the_longest_silent_first(
    t: NativeSessionManager, clock: ManualClock
) -> None:
    for status in ("pending", "completed", "failed"):
        t.create_task(WS, "s", status=status, created_at=1)
    t.create_task(WS, "s", id="older", status="running", last_activity=START - 1)
    clock.advance(IDLE)
    assert [each.id for each in t.overdue_tasks(WS)] == ["older", "t"]
    seq = t.status(WS).seq
    assert [each.id for each in t.fail_overdue_tasks(WS)] == ["older", "t"]
    assert t.status(WS).seq == seq + 2


@pytest.mark.parametrize(("idle_ms", "said"), [(90_000, "90 s"), (1, "1 ms"), (60_000, "1 min"), (7_200_000, "2 h")])
def test_the_time_is_the_caller_s_and_is_said(
    t: NativeSessionManager, clock: ManualClock, idle_ms: int, said: str
) -> None:
    clock.advance(idle_ms)
    assert t.overdue_tasks(WS, idle_ms=idle_ms + 1) == []
    (failed,) = t.fail_overdue_tasks(WS, idle_ms=idle_ms)
    assert failed.error_message == f"timed out: no activity for {said}"


def test_an_orphan_is_given_up_too(t: NativeSessionManager, clock: ManualClock) -> None:
    t.delete_session(WS, "s")
    clock.advance(IDLE)
    assert len(t.fail_overdue_tasks(WS)) == 1


def test_without_an_overdue_task_nothing_is_written_nor_locked(t: NativeSessionManager, clock: ManualClock) -> None:
    with NativeSessionManager(t.data_dir, lock_timeout=0.0, clock=clock) as other, t.workspace(WS).locked():
        assert other.fail_overdue_tasks(WS) == []


def test_by_the_clock_a_jump_backwards_fails_nothing(t: NativeSessionManager, clock: ManualClock) -> None:
    clock.advance(-24 * 60 * MINUTE)
    assert t.overdue_tasks(WS) == []


# What a monitor has seen


def test_a_monitor_fails_what_it_has_seen_silent_for_the_whole_time(
    t: NativeSessionManager, clock: ManualClock, ticks: Ticks
) -> None:
    each = monitor(t, ticks)
    assert each.look() == []
    assert watched(each, ticks, 29) == []
    clock.advance(IDLE)
    assert watched(each, ticks, 1) == ["t"]
    failed = t.get_task(WS, "t")
    assert failed is not None
    assert (failed.status, failed.error_message) == ("failed", "timed out: no activity for 30 min")
    assert watched(each, ticks, 60) == []


def test_a_jump_forwards_fails_no_task_that_was_just_touched(
    t: NativeSessionManager, clock: ManualClock, ticks: Ticks
) -> None:
    each = monitor(t, ticks)
    each.look()
    for _ in range(5):
        clock.advance(365 * 24 * 60 * MINUTE)
        assert watched(each, ticks, 5) == []
    t.touch_task(WS, "t")
    assert watched(each, ticks, 30) == [], "the first of these looks sees that it was touched"
    assert watched(each, ticks, 1) == ["t"]


def test_a_jump_backwards_keeps_nothing_alive(t: NativeSessionManager, clock: ManualClock, ticks: Ticks) -> None:
    each = monitor(t, ticks)
    each.look()
    clock.advance(-365 * 24 * 60 * MINUTE)
    assert watched(each, ticks, 30) == ["t"]


def test_a_task_that_was_touched_while_the_clock_was_wrong_is_given_up_all_the_same(
    t: NativeSessionManager, clock: ManualClock, ticks: Ticks
) -> None:
    clock.advance(10 * 365 * 24 * 60 * MINUTE)
    t.touch_task(WS, "t")
    clock.set(START)
    each = monitor(t, ticks)
    each.look()
    assert t.fail_overdue_tasks(WS) == []
    assert watched(each, ticks, 30) == ["t"]


def test_a_new_monitor_watches_for_the_whole_time_first(
    t: NativeSessionManager, clock: ManualClock, ticks: Ticks
) -> None:
    clock.advance(24 * 60 * MINUTE)
    ticks.ms = 1_000_000_000
    each = monitor(t, ticks)
    each.look()
    assert watched(each, ticks, 29) == []
    assert watched(each, ticks, 1) == ["t"]


def test_while_the_machine_slept_nothing_was_watched(t: NativeSessionManager, ticks: Ticks) -> None:
    each = monitor(t, ticks)
    each.look()
    for _ in range(10):
        ticks.ms += 10 * 60 * MINUTE  # Ten hours between two looks: two minutes of them count.
        assert each.look() == []
    ticks.ms -= 5 * MINUTE  # It may not do that; then it counts for nothing.
    assert each.look() == []
    assert watched(each, ticks, 9) == []


def test_a_touch_between_the_look_and_the_commit_saves_the_task(
    t: NativeSessionManager, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = monitor(t, ticks)
    each.look()
    watched(each, ticks, 29)
    commit = t._commit

    def slow_commit(*arguments: object, **more: object) -> object:
        monkeypatch.undo()
        t.touch_task(WS, "t")
        return commit(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(t, "_commit", slow_commit)
    seq = t.status(WS).seq
    assert watched(each, ticks, 1) == []
    assert t.status(WS).seq == seq + 1, "the touch"
    assert watched(each, ticks, 31) == ["t"]


def test_two_monitors_fail_each_task_once(t: NativeSessionManager, ticks: Ticks) -> None:
    t.create_task(WS, "s", id="u", status="running")
    with NativeSessionManager(t.data_dir) as other:
        each, beside = monitor(t, ticks), monitor(other, ticks)
        each.look()
        beside.look()
        failed: list[Task] = []
        for _ in range(35):
            ticks.ms += MINUTE
            together(lambda: failed.extend(each.look()), lambda: failed.extend(beside.look()))
    assert sorted(task.id for task in failed) == ["t", "u"]
    changes = [event for event in t.events(WS, types="task.updated") if event.properties["set"].get("status")]
    assert [event.properties["set"]["status"] for event in changes].count("failed") == 2


def test_one_monitor_watches_all_workspaces_and_new_ones(t: NativeSessionManager, ticks: Ticks) -> None:
    each = monitor(t, ticks, ws=None)
    each.look()
    watched(each, ticks, 10)
    t.create_session("later", id="s")
    t.create_task("later", "s", id="t", status="running")
    assert watched(each, ticks, 20) == ["t"]
    assert t.list_tasks("later", status="running").total == 1
    assert watched(each, ticks, 11) == ["t"]
    assert t.list_tasks("later", status="failed").total == 1


def test_a_task_that_is_deleted_or_ended_is_forgotten(t: NativeSessionManager, ticks: Ticks) -> None:
    each = monitor(t, ticks)
    each.look()
    watched(each, ticks, 29)
    t.delete_task(WS, "t")
    assert watched(each, ticks, 1) == []
    t.create_task(WS, "s", id="t", status="running")
    assert watched(each, ticks, 30) == []
    t.complete_task(WS, "t")
    assert watched(each, ticks, 40) == []


# Its thread


def test_the_thread_gives_up_tasks_and_ends_with_close(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.create_task(WS, "s", id="t", status="running")
    with m.subscribe(WS, types="task.updated") as changes, m.monitor_tasks(WS, idle_ms=20, every_ms=5) as each:
        event = changes.next(10)
        assert event is not None
        assert event.properties["set"]["status"] == "failed"
        each.start()  # A second time does nothing.
        assert [thread.name for thread in threading.enumerate()].count("nomad-sessions task monitor") == 1
    each.close()
    assert each.closed
    each.start()
    assert "nomad-sessions task monitor" not in [thread.name for thread in threading.enumerate()]


def test_it_ends_with_its_manager(tmp_path: Path) -> None:
    manager = NativeSessionManager(tmp_path)
    each = manager.monitor_tasks(every_ms=1)
    manager.close()
    assert each.closed
    with pytest.raises(StoreClosedError):
        manager.monitor_tasks()


def test_a_manager_keeps_no_monitor_that_was_closed(m: NativeSessionManager) -> None:
    for _ in range(5):
        m.monitor_tasks().close()
    assert len(m._monitors) == 1


def test_an_error_is_said_and_the_monitor_goes_on(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    m.create_session(WS, id="s")
    m.create_task(WS, "s", id="t", status="running")
    commit = m._commit
    refused = threading.Event()

    def full(*arguments: object, **more: object) -> object:
        if not refused.is_set():
            refused.set()
            raise DiskFullError(path="the disk")
        return commit(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(m, "_commit", full)
    with (
        caplog.at_level(logging.WARNING, "nomad_sessions"),
        m.subscribe(WS, types="task.updated") as changes,
        m.monitor_tasks(WS, idle_ms=10, every_ms=5),
    ):
        assert changes.next(10) is not None
    assert refused.is_set()
    assert "no room to write the disk" in caplog.text


@pytest.mark.parametrize("wrong", [{"idle_ms": 0}, {"every_ms": 0}, {"idle_ms": 1.5}, {"every_ms": True}])
def test_a_wrong_time_is_refused(m: NativeSessionManager, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError) as raised:
        m.monitor_tasks(**wrong)  # type: ignore[arg-type]
    assert raised.value.field == next(iter(wrong))
    with pytest.raises(InvalidInputError):
        m.monitor_tasks("../up")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_has_no_monitor_and_closes_its_manager(t: NativeSessionManager) -> None:
    with t.monitor_tasks(WS, every_ms=1):
        child = os.fork()
        if not child:
            ended = 1
            try:
                t.touch_task(WS, "t")
                t.close()
                ended = 0
            finally:
                os._exit(ended)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert t.status(WS).seq == 4
