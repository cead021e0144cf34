"""Tasks: one row each, created once, changed in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    AlreadyExistsError,
    ConflictError,
    ManualClock,
    NativeSessionManager,
    SessionNotFoundError,
    TaskNotFoundError,
)
from tests.unit.conftest import START

WS = "ws"


@pytest.fixture
def s(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


def seq(m: NativeSessionManager) -> int:
    return m.status(WS).seq


def test_a_new_task_is_pending_and_has_what_it_was_given(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s", {"agentId": "a", "x-own": [1, {"k": None}]}, task_type="review", input_data={"n": 1})
    assert (task.session_id, task.agent_id, task.task_type, task.status) == ("s", "a", "review", "pending")
    assert (task.progress, task.input_data, task.created_at, task.updated_at) == (0, {"n": 1}, START, START)
    assert (task.start_time, task.last_activity, task.rev) == (None, None, seq(s))
    assert (task.model_extra or {})["x-own"] == [1, {"k": None}]
    assert s.get_task(WS, task.id) == task


def test_what_does_not_exist_reads_as_none_and_is_not_changed(s: NativeSessionManager) -> None:
    before = seq(s)
    assert s.get_task(WS, "none") is None
    assert s.list_tasks(WS) == []
    calls: list[Callable[[], Any]] = [
        lambda: s.update_task(WS, "none", agent_id="a"),
        lambda: s.start_task(WS, "none"),
        lambda: s.progress_task(WS, "none", 1),
        lambda: s.touch_task(WS, "none"),
        lambda: s.complete_task(WS, "none"),
        lambda: s.fail_task(WS, "none", "why"),
        lambda: s.delete_task(WS, "none"),
    ]
    for call in calls:
        with pytest.raises(TaskNotFoundError, match="'none'"):
            call()
    with pytest.raises(SessionNotFoundError, match="'nobody'"):
        s.create_task(WS, "nobody")
    with pytest.raises(SessionNotFoundError):
        s.create_task(WS, "")
    assert seq(s) == before


def test_reading_makes_no_workspace(m: NativeSessionManager) -> None:
    assert m.list_tasks("new") == []
    assert m.overdue_tasks("new") == m.fail_overdue_tasks("new") == []
    assert m.session_info("new", "s") is None
    assert m.list_session_info("new").total_count == 0
    assert not Path(m.data_dir).exists()


def test_a_given_id_makes_the_creation_harmless_to_repeat(s: NativeSessionManager) -> None:
    first = s.create_task(WS, "s", id="mine", agent_id="a")
    s.start_task(WS, "mine")
    before = seq(s)
    again = s.create_task(WS, "s", id="mine", agent_id="another")
    assert (again.agent_id, again.status, again.created_at) == ("a", "running", first.created_at)
    assert seq(s) == before
    s.create_session(WS, id="other")
    with pytest.raises(AlreadyExistsError) as raised:
        s.create_task(WS, "other", id="mine")
    assert raised.value.current == again
    s.delete_session(WS, "s")
    assert s.create_task(WS, "s", id="mine").status == "running", "it is there, though its session is not"
    s.delete_task(WS, "mine")
    assert s.create_task(WS, "other", id="mine").status == "pending", "the id is free again"


def test_work_that_is_told_of_afterwards_keeps_its_times(s: NativeSessionManager) -> None:
    done = s.create_task(WS, "s", status="completed", created_at=5, updated_at=9, start_time=6, last_activity=8)
    assert (done.created_at, done.updated_at, done.start_time, done.last_activity) == (5, 9, 6, 8)
    assert done.progress == 100
    assert s.create_task(WS, "s", created_at=5).updated_at == 5
    running = s.create_task(WS, "s", status="running", created_at=5, id=None)
    assert (running.start_time, running.last_activity) == (START, START)


def test_an_update_changes_one_row_in_place(s: NativeSessionManager, clock: ManualClock) -> None:
    task = s.create_task(WS, "s", agent_id="a", own=1, input_data={"n": 1})
    clock.advance(10)
    changed = s.update_task(WS, task.id, {"own": 2}, agent_id=None, inputData={"n": 2})
    assert (changed.agent_id, changed.input_data, (changed.model_extra or {})["own"]) == (None, {"n": 2}, 2)
    assert (changed.rev, changed.updated_at, changed.created_at) == (seq(s), START + 10, START)
    assert s.list_tasks(WS) == [changed]
    assert s.update_task(WS, task.id, own=2) == changed
    assert s.update_task(WS, task.id, {}) == changed
    assert s.update_task(WS, task.id, nothing=None) == changed
    assert seq(s) == changed.rev, "what changes nothing writes nothing"


def test_if_rev_changes_only_what_was_read(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s")
    newer = s.update_task(WS, task.id, agent_id="a", if_rev=task.rev)
    with pytest.raises(ConflictError) as raised:
        s.update_task(WS, task.id, agent_id="b", if_rev=task.rev)
    assert raised.value.current == newer
    assert s.get_task(WS, task.id) == newer


def test_what_goes_in_and_what_comes_out_is_nobody_else_s(s: NativeSessionManager) -> None:
    given = {"list": [1]}
    task = s.create_task(WS, "s", input_data=given)
    given["list"].append(2)
    task.input_data["list"].append(3)
    read = s.get_task(WS, task.id)
    assert read is not None
    assert read.input_data == {"list": [1]}
    read.input_data["list"].append(4)
    (listed,) = s.list_tasks(WS)
    assert listed.input_data == {"list": [1]}


def test_any_text_and_ten_megabytes_are_kept_through_folding_and_reopening(s: NativeSessionManager) -> None:
    odd = "a\r\n\x00\u2028 \ud83d half"
    task = s.create_task(WS, "s", status="running", input_data={"big": "x" * 10_000_000, odd: [odd]})
    failed = s.fail_task(WS, task.id, odd)
    for _ in range(2):
        with NativeSessionManager(s.data_dir) as other:
            assert other.get_task(WS, task.id) == failed
            assert other.check(WS).ok
        s.checkpoint(WS)
    assert failed.error_message == odd


def test_updated_at_never_goes_back(s: NativeSessionManager, clock: ManualClock) -> None:
    task = s.create_task(WS, "s", status="running")
    clock.advance(-3_600_000)
    touched = s.touch_task(WS, task.id)
    assert (touched.updated_at, touched.last_activity) == (START, START - 3_600_000)
    assert touched.rev > task.rev


def test_a_touch_is_written_even_when_the_clock_stands_still(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s", status="running")
    assert s.touch_task(WS, task.id).rev > task.rev
