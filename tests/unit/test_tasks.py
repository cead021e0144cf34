"""Tasks: one row each, created once, changed in place, listed whole; and what becomes of them without their session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    AlreadyExistsError,
    ConflictError,
    InvalidCursorError,
    InvalidInputError,
    ManualClock,
    NativeSessionManager,
    ProtectedFieldError,
    SessionNotFoundError,
    TaskNotFoundError,
)
from nomad_sessions.models import PROTECTED_TASK, dump
from nomad_sessions.operations import movement
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


BAD: dict[str, Any] = {
    "status": ["done", None, 5, ["running"], ""],
    "progress": [-1, 100.5, True, "50", float("nan"), float("inf"), None, [1]],
    "createdAt": ["2025-01-01", -1, 1.5, True, float("nan"), 1 << 60],
    "startTime": ["yesterday", -1],
    "lastActivity": [1.0, {}],
    "id": ["", "x" * 513, "\ud800", 5],
    "sessionId": ["other", 5],
    "agentId": [5, ["a"]],
    "errorMessage": [b"bytes", 7],
    "inputData": [object(), {1: 2}, float("nan")],
    "outputData": [{"deep": {"set": {1}}}],
    "rev": [7],
    "own": [object()],
    "\ud800": [1],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_bad_input_is_named_and_writes_nothing(s: NativeSessionManager, field: str, value: Any) -> None:
    task = s.create_task(WS, "s", id="t", status="running")
    before = seq(s)
    if value is not None:  # Left out, or a field that is not there.
        with pytest.raises(InvalidInputError) as raised:
            s.create_task(WS, "s", {field: value})
        assert raised.value.field in (field, "data")
    with pytest.raises(InvalidInputError) as refused:
        s.update_task(WS, "t", {field: value})
    assert refused.value.field in (field, "data")
    assert (seq(s), s.get_task(WS, "t")) == (before, task)


def test_calls_with_a_wrong_value_name_it(s: NativeSessionManager) -> None:
    s.create_task(WS, "s", id="t", status="running")
    before = seq(s)
    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("progress", lambda: s.progress_task(WS, "t", 101)),
        ("errorMessage", lambda: s.fail_task(WS, "t", None)),  # type: ignore[arg-type]
        ("outputData", lambda: s.complete_task(WS, "t", object())),
        ("session_id", lambda: s.create_task(WS, None)),  # type: ignore[arg-type]
        ("task_id", lambda: s.get_task(WS, 5)),  # type: ignore[arg-type]
        ("task_id", lambda: s.touch_task(WS, None)),  # type: ignore[arg-type]
        ("if_rev", lambda: s.update_task(WS, "t", agent_id="a", if_rev="1")),  # type: ignore[arg-type]
        ("data", lambda: s.create_task(WS, "s", [1])),  # type: ignore[arg-type]
        ("limit", lambda: s.list_tasks(WS, limit=0)),
        ("status", lambda: s.list_tasks(WS, status="done")),
        ("agent_id", lambda: s.list_tasks(WS, agent_id=5)),  # type: ignore[arg-type]
        ("updated_since", lambda: s.list_tasks(WS, updated_since="now")),  # type: ignore[arg-type]
        ("orphaned", lambda: s.list_tasks(WS, orphaned=1)),  # type: ignore[arg-type]
        ("idle_ms", lambda: s.overdue_tasks(WS, idle_ms=0)),
        ("idle_ms", lambda: s.fail_overdue_tasks(WS, idle_ms=1.5)),  # type: ignore[arg-type]
    ]
    for field, call in wrong:
        with pytest.raises(InvalidInputError) as raised:
            call()
        assert raised.value.field == field
    for cursor in ("x", s_cursor(s)):
        with pytest.raises(InvalidCursorError):
            s.list_tasks(WS, cursor=cursor)
    assert seq(s) == before


def s_cursor(m: NativeSessionManager) -> str:
    m.create_session("two", id="a")
    m.create_session("two", id="b")
    cursor = m.list_sessions("two", limit=1).next_cursor
    assert cursor is not None
    return cursor


@pytest.mark.parametrize("field", sorted(PROTECTED_TASK))
def test_a_field_of_the_store_s_is_not_changed_by_an_update(s: NativeSessionManager, field: str) -> None:
    task = s.create_task(WS, "s", status="running")
    with pytest.raises(ProtectedFieldError) as raised:
        s.update_task(WS, task.id, {field: dump(task).get(field)})
    assert raised.value.field == field
    assert s.get_task(WS, task.id) == task


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


def fill(m: NativeSessionManager, clock: ManualClock, count: int) -> list[str]:
    made = []
    for number in range(count):
        clock.advance(number % 3)  # Some share a millisecond.
        made.append(m.create_task(WS, "s", id=f"t{number % 7}-{number}", agent_id=f"a{number % 2}").id)
    return made


def test_lists_are_newest_first_and_pages_give_each_row_once(s: NativeSessionManager, clock: ManualClock) -> None:
    made = fill(s, clock, 25)
    everything = s.list_tasks(WS)
    assert [each.id for each in everything] == made[::-1]
    assert (everything.total, everything.next_cursor) == (25, None)
    seen: list[str] = []
    cursor = None
    while True:
        page = s.list_tasks(WS, limit=4, cursor=cursor)
        assert page.total == 25
        seen += [each.id for each in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == made[::-1]


def test_pages_stay_put_while_rows_come_go_and_change(s: NativeSessionManager, clock: ManualClock) -> None:
    made = fill(s, clock, 12)
    first = s.list_tasks(WS, limit=4)
    s.create_task(WS, "s", id="new")
    s.delete_task(WS, first[1].id)
    s.delete_task(WS, first[3].id)  # The one that the cursor names.
    clock.advance(5)
    s.update_task(WS, made[2], agent_id="moved to the front")
    rest = s.list_tasks(WS, cursor=first.next_cursor)
    assert [each.id for each in rest] == [each for each in made[7::-1] if each != made[2]]
    assert rest.total == 11


def test_the_filters(s: NativeSessionManager, clock: ManualClock) -> None:
    s.create_session(WS, id="two")
    s.create_task(WS, "s", id="1", agent_id="a", task_type="x")
    s.create_task(WS, "two", id="2", agent_id="a", task_type="y", status="running")
    clock.advance(100)
    s.create_task(WS, "two", id="3", agent_id="b", task_type="y")
    s.delete_session(WS, "s")

    def ids(**filters: Any) -> str:
        page = s.list_tasks(WS, **filters)
        assert page.total == len(page)
        return "".join(each.id for each in page)

    assert ids() == "321"
    assert ids(session_id="two") == "32"
    assert ids(session_id="s") == "1"
    assert ids(session_id="nobody") == ""
    assert ids(agent_id="a") == "21"
    assert ids(status="pending") == "31"
    assert ids(task_type="y") == "32"
    assert ids(updated_since=START + 100) == "3"
    assert ids(updated_since=START + 101) == ""
    assert ids(orphaned=True) == "1"
    assert ids(orphaned=False) == "32"
    assert ids(agent_id="a", status="running", session_id="two") == "2"


def test_a_task_outlives_its_session_as_an_orphan_and_can_go_on(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s", status="running")
    s.delete_session(WS, "s")
    (orphan,) = s.list_tasks(WS, orphaned=True)
    assert orphan == task
    assert s.complete_task(WS, task.id).status == "completed"
    s.delete_task(WS, task.id)
    assert s.list_tasks(WS) == []


def test_a_fork_has_no_tasks(s: NativeSessionManager) -> None:
    s.create_task(WS, "s")
    fork = s.fork_session(WS, "s")
    assert s.list_tasks(WS, session_id=fork.id) == []


def test_a_task_goes_along_when_its_session_moves(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s", id="t", input_data={"k": [1]}, own=1, status="running")
    s.create_session(WS, id="stays")
    other = s.create_task(WS, "stays")
    s.move_session(WS, "s", to_workspace="to")
    (moved,) = s.list_tasks("to")
    assert dump(moved) | {"rev": 0} == dump(task) | {"rev": 0}
    assert s.list_tasks(WS) == [other]
    assert s.list_tasks("to", orphaned=True) == []


def test_a_move_that_was_cut_short_is_finished_with_the_tasks_as_they_are_now(s: NativeSessionManager) -> None:
    s.create_task(WS, "s", id="t", status="running")
    s.create_task(WS, "s", id="gone")
    luggage = s._read(WS, movement.pack("s"))
    s._commit("to", movement.arrive(WS, "to", luggage, None))  # And then it dies.
    s.progress_task(WS, "t", 70)
    s.delete_task(WS, "gone")
    with pytest.raises(ConflictError):
        s._commit(WS, movement.leave(luggage))
    s.move_session(WS, "s", to_workspace="to")
    assert [(each.id, each.progress) for each in s.list_tasks("to")] == [("t", 70)]
    assert s.list_tasks(WS) == []


def test_a_move_takes_no_other_task_s_place(s: NativeSessionManager) -> None:
    s.create_task(WS, "s", id="t")
    s.create_session("to", id="there")
    theirs = s.create_task("to", "there", id="t")
    with pytest.raises(AlreadyExistsError, match="task"):
        s.move_session(WS, "s", to_workspace="to")
    assert s.list_tasks("to") == [theirs]
    assert s.list_tasks(WS).total == 1
    assert s.get_session("to", "s") is None
    luggage = s._read(WS, movement.pack("s"))
    s.delete_task("to", "t")
    s._commit("to", movement.arrive(WS, "to", luggage, None))
    s.start_task("to", "t")  # Somebody works on it there already.
    with pytest.raises(AlreadyExistsError, match="task"):
        s.move_session(WS, "s", to_workspace="to")


def test_a_transaction_has_the_calls_on_tasks(s: NativeSessionManager) -> None:
    def fail() -> None:
        with s.transaction(WS) as tx:
            tx.create_task(WS, "s", id="never")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert s.list_tasks(WS) == []
    with s.transaction(WS) as tx:
        tx.create_session(WS, id="new")
        task = tx.create_task(WS, "new", id="t")
        tx.start_task(WS, "t")
        tx.progress_task(WS, "t", 5)
        tx.touch_task(WS, "t")
        tx.update_task(WS, "t", agent_id="a")
        assert [each.progress for each in tx.list_tasks(WS)] == [5]
        tx.complete_task(WS, "t", {"k": 1})
        tx.create_task(WS, "new", id="u")
        tx.fail_task(WS, "u", "why")
        tx.create_task(WS, "new", id="v")
        tx.delete_task(WS, "v")
        assert s.list_tasks(WS) == [], "not yet"
        done = tx.get_task(WS, task.id)
    assert done is not None
    assert s.get_task(WS, "t") == done
    assert [each.status for each in s.list_tasks(WS)] == ["failed", "completed"]


def test_a_transaction_that_lost_its_task_to_another_writes_nothing(s: NativeSessionManager) -> None:
    s.create_task(WS, "s", id="t")

    def race() -> None:
        with s.transaction(WS) as tx:
            tx.update_task(WS, "t", agent_id="a")
            tx.create_task(WS, "s", id="beside")
            s.delete_task(WS, "t")

    with pytest.raises(TaskNotFoundError):
        race()
    assert s.list_tasks(WS) == []


def test_each_change_is_an_event_that_names_the_session(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s")
    s.start_task(WS, task.id)
    s.delete_task(WS, task.id)
    events = list(s.events(WS, types="task.*", session_id="s"))
    assert [event.type for event in events] == ["task.created", "task.updated", "task.deleted"]
    assert events[1].properties["set"]["status"] == "running"


def rewrite(m: NativeSessionManager, edit: Callable[[dict[str, Any]], None]) -> None:
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_a_row_that_another_program_spoiled_is_listed_with_what_can_be_read(s: NativeSessionManager) -> None:
    s.create_task(WS, "s", id="good")
    odd = {
        "odd": {"sessionId": 5, "status": "idle", "progress": "half", "updatedAt": "2025-10-18", "agentId": "a"},
        "bare": {},
        "half": {"\ud800": 1, "taskType": "x", "lastActivity": None},
    }
    rewrite(s, lambda value: value["tasks"].update(odd))
    page = s.list_tasks(WS)
    assert {each.id for each in page} == {"good", *odd}
    assert page.total == 4
    read = s.get_task(WS, "odd")
    assert read is not None
    assert (read.session_id, read.status, read.progress, read.updated_at, read.agent_id) == ("", "idle", 0, 0, "a")
    half = s.get_task(WS, "half")
    assert half is not None
    assert half.task_type == "x"
    assert {each.id for each in s.list_tasks(WS, orphaned=True)} == set(odd)
    s.start_task(WS, "odd")
    s.checkpoint(WS)
    stored = json.loads((Path(s.data_dir) / WS / "sessions.json").read_text())["tasks"]["odd"]
    assert stored["sessionId"] == 5, "what another program wrote stays"
    assert stored["status"] == "running"
    assert s.fail_overdue_tasks(WS) == []


def test_where_another_program_keeps_something_else_no_task_is_made_and_it_stays(s: NativeSessionManager) -> None:
    rewrite(s, lambda value: value.update(tasks=["buy milk"]))
    assert s.list_tasks(WS) == []
    assert s.get_task(WS, "t") is None
    with pytest.raises(InvalidInputError, match="tasks"):
        s.create_task(WS, "s")
    s.checkpoint(WS)
    assert json.loads((Path(s.data_dir) / WS / "sessions.json").read_text())["tasks"] == ["buy milk"]


def test_updated_at_never_goes_back(s: NativeSessionManager, clock: ManualClock) -> None:
    task = s.create_task(WS, "s", status="running")
    clock.advance(-3_600_000)
    touched = s.touch_task(WS, task.id)
    assert (touched.updated_at, touched.last_activity) == (START, START - 3_600_000)
    assert touched.rev > task.rev


def test_a_touch_is_written_even_when_the_clock_stands_still(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s", status="running")
    assert s.touch_task(WS, task.id).rev > task.rev


def test_five_thousand_tasks_are_listed_by_page_with_their_true_total(s: NativeSessionManager) -> None:
    with s.transaction(WS) as tx:
        for number in range(5_000):
            tx.create_task(WS, "s", id=f"{number:05}", agent_id=f"a{number % 100}")
    page = s.list_tasks(WS, limit=50, agent_id="a7")
    assert (page.total, page[0].id, len(page)) == (50, "04907", 50)
    assert s.list_tasks(WS, limit=1, status="pending").total == 5_000
