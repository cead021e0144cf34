"""What went wrong in the dual store (`dualstore.md`, section 3), as far as it can go wrong with tasks and infos.

Each test is named after the failure's number there. Those that are of other parts (message parts, the bus, the indexer,
the server) are not here.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    CorruptionError,
    DiskFullError,
    InvalidInputError,
    ManualClock,
    NativeSessionManager,
    SessionInfo,
    SessionInfoList,
    Task,
    TaskNotFoundError,
)
from nomad_sessions.models import dump
from nomad_sessions.storage._os import REAL
from tests.cli.conftest import Cli
from tests.support.there import there
from tests.unit.conftest import START

WS = "ws"
MINUTE = 60_000


@pytest.fixture
def s(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


class Watched(type(REAL)):  # type: ignore[misc]
    """The real file system, with its reads counted, and full when a test says so."""

    reads = 0
    full = False

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        self.reads += 1
        data: bytes = super().pread(fd, n, offset)
        return data

    def pwrite_all(self, fd: int, data: Any, offset: int, /) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "full")
        super().pwrite_all(fd, data, offset)


def ids(tasks: Any) -> list[str]:
    return [each.id for each in tasks]


# 3.1 Identity and duplication


def test_dualstore_1_an_update_is_seen_and_makes_no_second_row(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s", id="t")
    s.start_task(WS, "t")
    s.complete_task(WS, "t", "out")
    assert there(s.get_task(WS, "t")).status == "completed"
    assert there(s.get_task(WS, "t")).created_at == task.created_at
    assert s.list_tasks(WS).total == 1
    s.checkpoint(WS)
    stored = json.loads((Path(s.data_dir) / WS / "sessions.json").read_text())["tasks"]
    assert list(stored) == ["t"]
    assert stored["t"]["status"] == "completed"


def test_dualstore_2_ids_of_two_lists_are_the_same_and_open_what_they_name(s: NativeSessionManager) -> None:
    for _ in range(5):
        s.create_task(WS, "s")
    first, second = s.list_tasks(WS), s.list_tasks(WS)
    assert ids(first) == ids(second)
    assert len(set(ids(first))) == 5
    assert "s" not in ids(first), "a task's id is its own, not its session's"
    assert [s.get_task(WS, each) for each in ids(first)] == list(first)
    assert ids(s.list_session_info(WS).sessions) == ["s"]


def test_dualstore_3_the_caller_s_id_is_kept_and_giving_it_again_makes_nothing_new(s: NativeSessionManager) -> None:
    for _ in range(3):
        assert s.create_task(WS, "s", id="ses_60b3c94d0ffea52svi9FvwBcms").id == "ses_60b3c94d0ffea52svi9FvwBcms"
    assert s.list_tasks(WS).total == 1


def test_dualstore_7_two_tasks_that_say_the_same_are_two(s: NativeSessionManager) -> None:
    for _ in range(2):
        s.create_task(WS, "s", agent_id="a", task_type="review", input_data="yes")
    assert s.list_tasks(WS).total == 2


def test_dualstore_8_what_a_clean_up_says_it_did_it_has_done(s: NativeSessionManager, clock: ManualClock) -> None:
    for number in range(4):
        s.create_task(WS, "s", id=str(number), status="running")
    clock.advance(31 * MINUTE)
    failed = s.fail_overdue_tasks(WS)
    assert len(failed) == 4
    assert sorted(ids(failed)) == sorted(ids(s.list_tasks(WS, status="failed")))
    assert s.fail_overdue_tasks(WS) == []


def test_dualstore_9_starting_again_adds_nothing(s: NativeSessionManager, clock: ManualClock) -> None:
    s.create_task(WS, "s", status="running")
    seq = s.status(WS).seq
    for _ in range(5):
        with NativeSessionManager(s.data_dir, clock=clock) as again, again.monitor_tasks(every_ms=1) as monitor:
            monitor.look()
            assert again.list_tasks(WS).total == 1
            assert again.list_session_info(WS).total_count == 1
    assert s.status(WS).seq == seq


# 3.2 Reads, paging, order


def test_dualstore_12_no_cap_lies_before_the_filter_and_totals_are_true(s: NativeSessionManager) -> None:
    with s.transaction(WS) as tx:
        for number in range(1_182):
            tx.create_task(WS, "s", id=f"t{number}", agent_id="rare" if number < 3 else "common")
        for number in range(1_182):
            tx.create_session(WS, id=f"session {number}")
    assert ids(s.list_tasks(WS, limit=2, agent_id="rare")) == ["t2", "t1"]
    assert s.list_tasks(WS, limit=2, agent_id="rare").total == 3
    assert s.list_tasks(WS, limit=2).total == 1_182
    page = s.list_session_info(WS, limit=2, offset=1_182)
    assert (page.total_count, ids(page.sessions)) == (1_183, ["s"])


def test_dualstore_13_a_page_costs_its_rows_not_the_whole_store_for_each(s: NativeSessionManager) -> None:
    with s.transaction(WS) as tx:
        for number in range(300):
            tx.create_session(WS, id=f"session {number}")
            tx.add_message(WS, f"session {number}", role="user", content="x" * 100)
            tx.create_task(WS, f"session {number}")
    s.checkpoint(WS)
    system = Watched()
    with NativeSessionManager(s.data_dir, filesystem=system) as cold:
        assert cold.list_session_info(WS, limit=5).total_count == 301
        assert 0 < system.reads < 60
        before = system.reads
        cold.list_session_info(WS, limit=5)
        assert system.reads - before < 15


def test_dualstore_14_a_row_that_is_no_task_does_not_fail_the_list(s: NativeSessionManager) -> None:
    s.create_task(WS, "s", id="t")
    s.checkpoint(WS)
    path = Path(s.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    value["tasks"] |= {"plain": "Session: abc123", "odd": {"status": ["running"], "lastActivity": "now"}}
    path.write_text(json.dumps(value))
    assert "t" in ids(s.list_tasks(WS))
    assert there(s.get_task(WS, "t")).status == "pending"
    assert s.list_session_info(WS).summary.agent_tasks == 1
    assert s.overdue_tasks(WS) == []
    assert json.loads(path.read_text())["tasks"]["plain"] == "Session: abc123"


# OpenCode's ids run backwards, wrap around, and say nothing of when a task was changed.
@pytest.mark.parametrize("number", [15, 16])
def test_dualstore_15_16_the_order_is_that_of_changes_not_of_ids(
    m: NativeSessionManager, clock: ManualClock, number: int
) -> None:
    older, newer = {
        15: ("ses_60b69a6d3ffeFcECqNOp4y4f0w", "ses_60a8be000ffeFcECqNOp4y4f0w"),
        16: ("ses_0000000010000000000000000w", "ses_fffffffff0000000000000000w"),
    }[number]
    for each in (older, newer):
        clock.advance(1)
        m.create_session(WS, id=each)
        m.create_task(WS, each, id=each)
    assert ids(m.list_tasks(WS)) == ids(m.list_session_info(WS).sessions) == [newer, older]
    clock.advance(1)
    m.start_task(WS, older)
    m.update_session(WS, older, title="touched")
    assert ids(m.list_tasks(WS)) == ids(m.list_session_info(WS).sessions) == [older, newer]


def test_dualstore_17_a_time_that_is_given_is_kept(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s", created_at=1_760_749_283_403, start_time=1_760_749_283_500, status="completed")
    assert (task.created_at, task.updated_at, task.start_time) == (
        1_760_749_283_403,
        1_760_749_283_403,
        1_760_749_283_500,
    )


def test_dualstore_18_every_time_of_a_task_is_a_number_of_ms(s: NativeSessionManager, clock: ManualClock) -> None:
    for number, status in enumerate(("pending", "running", "completed", "failed")):
        clock.advance(number)
        s.create_task(WS, "s", id=status, status=status)
    s.start_task(WS, "pending")
    s.checkpoint(WS)
    rows = json.loads((Path(s.data_dir) / WS / "sessions.json").read_text())["tasks"]
    times = [row[key] for row in rows.values() for key in row if key.endswith(("At", "Time", "Activity"))]
    assert len(times) == 4 * 2 + 2 * 2
    assert {type(time) for time in times} == {int}
    with pytest.raises(InvalidInputError, match="createdAt"):
        s.create_task(WS, "s", createdAt="2025-10-18T00:41:40.000Z")


@pytest.mark.parametrize("value", ["not a date", "NaN", float("nan"), "2025-13-45", -1])
def test_dualstore_19_a_date_that_is_none_is_an_error_not_now(s: NativeSessionManager, value: Any) -> None:
    for field in ("createdAt", "updatedAt", "startTime", "lastActivity"):
        with pytest.raises(InvalidInputError, match=field):
            s.create_task(WS, "s", {field: value})
    assert s.list_tasks(WS).total == 0


def test_dualstore_20_times_are_compared_as_numbers_and_ties_have_an_order(s: NativeSessionManager) -> None:
    for updated in (9_999, 10_000, 100_000):
        s.create_task(WS, "s", id=str(updated), created_at=1, updated_at=updated)
    assert ids(s.list_tasks(WS, updated_since=10_000)) == ["100000", "10000"]
    with pytest.raises(InvalidInputError):
        s.list_tasks(WS, updated_since="1970-01-01T00:00:10Z")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        s.list_session_info(WS, updated_since="1970-01-01T00:00:10Z")  # type: ignore[arg-type]
    for each in "cab":
        s.create_task(WS, "s", id=each)
    assert ids(s.list_tasks(WS, limit=3)) == ["b", "a", "c"], "in one millisecond, the last change first"


def test_dualstore_21_no_limit_is_never_0_and_an_offset_counts_without_one(s: NativeSessionManager) -> None:
    for number in range(4):
        s.create_session(WS, id=str(number))
        s.create_task(WS, "s")
    for call in (lambda: s.list_tasks(WS, limit=0), lambda: s.list_session_info(WS, limit=0, offset=5)):
        with pytest.raises(InvalidInputError, match="limit"):
            call()
    page = s.list_session_info(WS, offset=3)
    assert ids(page.sessions) == ["0", "s"]
    assert (page.pagination.current_page, page.pagination.total_pages) == (1, 1)


def test_dualstore_22_the_summary_counts_all_sessions(m: NativeSessionManager, clock: ManualClock) -> None:
    for number in range(25):
        m.create_session(WS, id=f"old {number}")
    clock.advance(60 * MINUTE)
    m.create_session(WS, id="new")
    m.create_task(WS, "old 0", status="running")
    expected = {"active": 2, "waiting_for_input": 0, "idle": 24, "agentTasks": 1}
    for options in ({"limit": 10, "offset": 5}, {"limit": 1}, {"offset": 99}, {"activity_status": "active"}, {}):
        assert dump(m.list_session_info(WS, **options).summary) == expected


def test_dualstore_23_activity_is_a_fact_not_a_number_of_messages(m: NativeSessionManager, clock: ManualClock) -> None:
    m.create_session(WS, id="last year")
    m.add_message(WS, "last year", role="user", content="only one")
    clock.advance(365 * 24 * 60 * MINUTE)
    m.create_session(WS, id="now")
    m.add_messages(WS, "now", [{"role": "user", "content": "x"}] * 60)
    clock.advance(90_000)
    old, new = there(m.session_info(WS, "last year")), there(m.session_info(WS, "now"))
    assert (old.activity_status, old.message_count, old.last_activity_time) == ("idle", 1, START)
    assert (new.activity_status, new.message_count) == ("active", 60)
    assert (old.session_age, new.session_age) == (365 * 24 * 3600 + 90, 90)


def test_dualstore_25_every_id_that_is_printed_can_be_given_back_and_json_is_only_json(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    session = cli("new", "one").id
    made = [cli("tasks", "add", session).id for _ in range(3)]
    listed = cli("tasks", "list").json["items"]
    assert sorted(each["id"] for each in listed) == sorted(made)
    for each in made:
        assert cli("tasks", "show", each).json["id"] == each
    assert cli("tasks", "show", made[0][:4], code=2).out == "", "the beginning of several is of none"
    assert cli("info").json["sessions"][0]["id"] == session


# 3.3 Errors hidden


def test_dualstore_26_27_a_store_that_cannot_be_read_is_an_error_not_an_empty_list(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as whole:
        whole.create_session(WS, id="s")
        for status in ("running", "pending", "pending"):
            whole.create_task(WS, "s", status=status)
    folder = tmp_path / WS
    (segment,) = (folder / "journal").glob("*.jsonl")
    (folder / "sessions.json").unlink(missing_ok=True)
    (folder / "sessions.json.prev").unlink(missing_ok=True)
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join([*lines[:2], lines[2].replace(b"running", b"walking"), *lines[3:]]))
    with NativeSessionManager(tmp_path) as damaged:
        for call in (
            lambda: damaged.list_tasks(WS),
            lambda: damaged.get_task(WS, "t"),
            lambda: damaged.list_session_info(WS),
            lambda: damaged.session_info(WS, "s"),
            lambda: damaged.fail_overdue_tasks(WS, idle_ms=1),
        ):
            with pytest.raises(CorruptionError):
                call()


def test_dualstore_28_29_a_call_has_one_type_of_answer_with_the_names_it_says(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s")
    assert isinstance(s.get_task(WS, task.id), Task)
    assert s.get_task(WS, "nobody") is None
    assert isinstance(s.session_info(WS, "s"), SessionInfo)
    assert s.session_info(WS, "nobody") is None
    for workspace_id, count in ((WS, 1), ("empty", 0)):
        found = s.list_session_info(workspace_id)
        assert isinstance(found, SessionInfoList)
        assert len(dump(found)["sessions"]) == dump(found)["totalCount"] == count
        assert set(dump(found)["pagination"]) == {"limit", "offset", "hasMore", "currentPage", "totalPages"}
        assert set(dump(found)["summary"]) == {"active", "waiting_for_input", "idle", "agentTasks"}


def test_dualstore_30_what_is_said_to_be_deleted_is_gone(s: NativeSessionManager) -> None:
    task = s.create_task(WS, "s")
    s.delete_task(WS, task.id)
    with NativeSessionManager(s.data_dir) as other:
        assert other.get_task(WS, task.id) is None
        assert other.list_tasks(WS).total == 0
        with pytest.raises(TaskNotFoundError):
            other.delete_task(WS, task.id)


def test_dualstore_32_no_task_is_dropped_because_its_session_is_not_found(
    s: NativeSessionManager, clock: ManualClock
) -> None:
    task = s.create_task(WS, "s", status="running")
    s.delete_session(WS, "s")
    for _ in range(3):
        with NativeSessionManager(s.data_dir, clock=clock) as again, again.monitor_tasks() as monitor:
            assert monitor.look() == []
            assert list(again.list_tasks(WS)) == list(again.list_tasks(WS, orphaned=True)) == [task]


# 3.5 Events, messaging, protocol


@pytest.mark.parametrize("text", ["task is not completed yet", "✅ all done", "The task is completed!", "failed 🎉"])
def test_dualstore_50_a_task_is_completed_by_saying_so_not_by_what_a_text_says(
    s: NativeSessionManager, text: str
) -> None:
    s.create_task(WS, "s", id="t", status="running")
    for _ in range(2):
        s.add_message(WS, "s", role="assistant", content=text)
        s.record_event(WS, "session.idle", session_id="s")
        assert there(s.get_task(WS, "t")).status == "running"
        assert there(s.session_info(WS, "s")).agent_task_status == "running"


def test_dualstore_51_events_of_a_task_name_its_session_and_itself(s: NativeSessionManager) -> None:
    s.create_session(WS, id="other")
    s.create_task(WS, "s", id="mine")
    s.create_task(WS, "other", id="theirs")
    s.start_task(WS, "mine")
    events = list(s.events(WS, types="task.*", session_id="s"))
    assert [(event.type, event.session_id, event.properties["id"]) for event in events] == [
        ("task.created", "s", "mine"),
        ("task.updated", "s", "mine"),
    ]


def test_dualstore_52_whose_a_task_is_is_said_not_guessed_and_no_success_without_a_write(
    s: NativeSessionManager,
) -> None:
    s.create_task(WS, "s", id="first", agent_id="worker")
    for _ in range(150):
        s.create_task(WS, "s")
    assert ids(s.list_tasks(WS, agent_id="worker")) == ["first"], "however many came after it"
    assert there(s.get_task(WS, s.list_tasks(WS)[0].id)).agent_id is None
    system = Watched()
    with NativeSessionManager(s.data_dir, filesystem=system) as other:
        other.start_task(WS, "first")
        system.full = True
        with pytest.raises(DiskFullError):
            other.complete_task(WS, "first")
        system.full = False
        assert there(other.get_task(WS, "first")).status == "running"
        assert other.complete_task(WS, "first").status == "completed"


def test_dualstore_53_a_listener_gets_the_types_it_asked_for_of_what_another_manager_does(
    s: NativeSessionManager,
) -> None:
    with (
        NativeSessionManager(s.data_dir) as other,
        s.subscribe(WS, types="task.updated") as changes,
    ):
        other.create_task(WS, "s", id="t")
        other.start_task(WS, "t")
        event = there(changes.next(10))
        assert (event.type, event.session_id) == ("task.updated", "s")
        assert event.properties["set"]["status"] == "running"


def test_dualstore_55_the_tenth_change_comes_after_the_ninth(s: NativeSessionManager) -> None:
    made = [s.create_task(WS, "s").id for _ in range(120)]
    assert ids(s.list_tasks(WS)) == made[::-1]
    seen: list[str] = []
    cursor = None
    while len(seen) < 120:
        page = s.list_tasks(WS, limit=7, cursor=cursor)
        seen += ids(page)
        cursor = page.next_cursor
    assert seen == made[::-1]


def test_dualstore_60_type_agent_and_data_of_a_task_come_back(s: NativeSessionManager) -> None:
    given = {"taskType": "review", "agentId": "duck", "progress": 40, "inputData": {"a": 1}, "outputData": [2]}
    made = s.create_task(WS, "s", {**given, "status": "running"})
    with NativeSessionManager(s.data_dir) as other:
        read = dump(other.list_tasks(WS)[0])
    assert {key: read[key] for key in given} == given
    assert read == dump(made)


def test_dualstore_62_a_status_that_is_set_is_set_and_a_monitor_that_runs_does_something(
    s: NativeSessionManager,
) -> None:
    s.create_task(WS, "s", id="t")
    assert s.update_task(WS, "t", status="running").status == "running"
    with s.subscribe(WS, types="task.updated") as changes, s.monitor_tasks(WS, idle_ms=10, every_ms=5):
        assert there(changes.next(10)).properties["set"]["status"] == "failed"
    with NativeSessionManager(s.data_dir) as other:
        assert there(other.get_task(WS, "t")).error_message == "timed out: no activity for 10 ms"
