"""Several processes start, work on and give up the same tasks, are killed, and have clocks that jump."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nomad_sessions import ManualClock, NativeSessionManager
from tests.processes.children import Child
from tests.processes.node import sound

pytestmark = pytest.mark.processes


def make(data_dir: Path, prefix: str, count: int, status: str, **fields: int) -> None:
    with NativeSessionManager(data_dir) as manager, manager.transaction("ws") as tx:
        for number in range(count):
            tx.create_task("ws", "shared", id=f"{prefix}{number}", status=status, **fields)


def failures(manager: NativeSessionManager) -> list[str]:
    """The task of each event that made one fail."""
    events = manager.events("ws", types="task.updated")
    return [event.properties["id"] for event in events if event.properties["set"].get("status") == "failed"]


def test_of_three_processes_that_start_the_same_tasks_one_gets_each(data_dir: Path) -> None:
    make(data_dir, "t", 60, "pending")
    with Child("claim_tasks", data_dir) as a, Child("claim_tasks", data_dir) as b, Child("claim_tasks", data_dir) as c:
        for child in (a, b, c):
            child.go()
        said = [child.hear() for child in (a, b, c)]
    got = [task_id for ids, _ in said for task_id in ids]
    assert sorted(got) == sorted(f"t{number}" for number in range(60))
    assert sum(lost for _, lost in said) == 120
    with sound(data_dir) as manager:
        assert manager.list_tasks("ws", status="running").total == 60


def test_of_three_processes_that_give_up_the_same_tasks_one_fails_each(data_dir: Path) -> None:
    make(data_dir, "dead", 50, "running", last_activity=1)
    make(data_dir, "alive", 50, "running")
    children = [Child("give_up_tasks", data_dir) for _ in range(3)]
    try:
        for child in children:
            child.go()
        said = [task_id for child in children for task_id in child.hear()]
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert sorted(said) == sorted(f"dead{number}" for number in range(50))
    with sound(data_dir) as manager:
        assert sorted(failures(manager)) == sorted(said)
        assert manager.list_tasks("ws", status="running").total == 50


def test_what_a_killed_process_had_said_of_its_tasks_is_there(data_dir: Path) -> None:
    make(data_dir, "t", 5, "running")
    for turn in range(6):
        with Child("work_on_tasks", data_dir, "t", 5) as one, Child("work_on_tasks", data_dir, "t", 5) as two:
            acked = [tuple(one.first), *(tuple(one.hear()) for _ in range(10 + turn * 3))]
            acked += [tuple(json.loads(line)) for line in two.kill().splitlines(keepends=True) if line.endswith("\n")]
            acked += [tuple(json.loads(line)) for line in one.kill().splitlines(keepends=True) if line.endswith("\n")]
        with sound(data_dir) as manager:
            tasks = manager.list_tasks("ws")
            assert {task.id for task in tasks} == {f"t{number}" for number in range(5)}, "one row each"
            assert {task.status for task in tasks} == {"running"}
            assert len({task.rev for task in tasks}) == 5
            events = [event.properties for event in manager.events("ws", types="task.updated")]
            written = [(each["id"], each["set"]["progress"]) for each in events if "progress" in each["set"]]
            assert set(acked) <= set(written), "what was acknowledged was written"
            assert {task.id: task.progress for task in tasks} == dict(written), "and the last of each stands"


def test_monitors_with_clocks_that_jump_fail_what_is_dead_once_and_nothing_that_is_worked_on(data_dir: Path) -> None:
    make(data_dir, "dead", 20, "running")
    make(data_dir, "alive", 3, "running")
    with (
        Child("work_on_tasks", data_dir, "alive", 3),
        Child("monitor_tasks", data_dir, 2000, 100),
        Child("monitor_tasks", data_dir, 2000, 100) as killed,
        NativeSessionManager(data_dir) as manager,
    ):
        until = time.monotonic() + 30
        while manager.list_tasks("ws", status="failed").total < 20 and time.monotonic() < until:
            time.sleep(0.05)
            if killed.process.poll() is None and time.monotonic() > until - 29.5:
                killed.kill()
        assert killed.process.poll() is not None
    with sound(data_dir) as after:
        assert sorted(failures(after)) == sorted(f"dead{number}" for number in range(20))
        for task in after.list_tasks("ws", status="failed"):
            assert task.error_message == "timed out: no activity for 2 s"
        assert {task.id for task in after.list_tasks("ws", status="running")} == {"alive0", "alive1", "alive2"}


def test_a_process_whose_clock_is_a_day_ahead_gives_up_by_it_and_one_that_is_behind_does_not(data_dir: Path) -> None:
    now = time.time_ns() // 1_000_000
    make(data_dir, "t", 3, "running")
    for ahead, count in ((-86_400_000, 0), (0, 0), (86_400_000, 3)):
        with NativeSessionManager(data_dir, clock=ManualClock(now + ahead)) as manager:
            assert len(manager.fail_overdue_tasks("ws")) == count
