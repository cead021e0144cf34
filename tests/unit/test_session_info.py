"""What a session is doing is computed from facts: times, open streams, tasks; and listed in the original's envelope."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, ManualClock, NativeSessionManager, SessionInfo, SessionInfoList
from nomad_sessions.models import dump
from tests.support.there import there
from tests.unit.conftest import START

WS = "ws"
MINUTE = 60_000


@pytest.fixture
def s(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s", title="Fix it")
    return m


def status(m: NativeSessionManager, session_id: str = "s") -> str:
    info = there(m.session_info(WS, session_id))
    (listed,) = (each for each in m.list_session_info(WS).sessions if each.id == session_id)
    assert listed == info, "the list and the single look say the same"
    return info.activity_status


def test_all_fields(s: NativeSessionManager, clock: ManualClock) -> None:
    s.add_messages(WS, "s", [{"role": "user", "content": c} for c in "abc"])
    s.revert(WS, "s")
    clock.advance(90_999)
    assert dump(there(s.session_info(WS, "s"))) == {
        "id": "s",
        "title": "Fix it",
        "messageCount": 2,
        "lastActivityTime": START,
        "sessionAge": 90,
        "activityStatus": "active",
        "isAgentTask": False,
        "agentTaskStatus": None,
    }
    assert s.session_info(WS, "nobody") is None
    assert s.session_info(WS, "") is None
    with pytest.raises(InvalidInputError):
        s.session_info(WS, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quiet", "expected"),
    [(0, "active"), (5, "waiting_for_input"), (30, "idle"), (60 * 24 * 365, "idle")],
)
def test_without_a_task_the_last_change_decides(
    s: NativeSessionManager, clock: ManualClock, quiet: int, expected: str
) -> None:
    clock.advance(quiet * MINUTE)
    assert status(s) == expected
    if quiet in (5, 30):
        clock.advance(-1)
        assert status(s) != expected, "the bound is exact"


YEAR = 365 * 24 * 60 * MINUTE


@pytest.mark.parametrize(
    ("ahead", "expected"), [(0, "active"), (5 * MINUTE - 1, "active"), (5 * MINUTE, "idle"), (YEAR, "idle")]
)
def test_what_lies_ahead_of_the_clock_is_no_recent_activity_but_for_what_clocks_differ_by(
    s: NativeSessionManager, clock: ManualClock, ahead: int, expected: str
) -> None:
    s.create_task(WS, "s", id="t", status="running")
    s.complete_task(WS, "t")
    clock.advance(-ahead)
    assert status(s) == expected
    assert there(s.session_info(WS, "s")).session_age == 0


def test_after_the_clock_was_set_back_a_year_what_happens_now_is_recent_and_later_it_is_not(
    s: NativeSessionManager, clock: ManualClock
) -> None:
    s.add_message(WS, "s", role="user", content="a year ahead")
    clock.advance(-YEAR)
    assert status(s) == "idle"
    now = s.add_message(WS, "s", role="user", content="now").created_at
    assert there(s.get_session(WS, "s")).updated_at == START, "the session's own time does not tell"
    assert (status(s), there(s.session_info(WS, "s")).last_activity_time) == ("active", now)
    clock.advance(5 * MINUTE)
    assert status(s) == "waiting_for_input"
    clock.advance(25 * MINUTE)
    assert status(s) == "idle"
    s.create_task(WS, "s", id="t")
    s.start_task(WS, "t")
    assert (status(s), there(s.session_info(WS, "s")).last_activity_time) == ("active", clock.now())
    clock.advance(5 * MINUTE)
    s.touch_task(WS, "t")
    assert status(s) == "active"
    clock.advance(60 * MINUTE)
    assert status(s) == "waiting_for_input", "its task runs"
    s.complete_task(WS, "t")
    clock.advance(30 * MINUTE)
    assert status(s) == "idle"
    clock.set(START)
    assert status(s) == "active", "the clock was set right again"


def test_a_running_task_whose_times_lie_ahead_does_not_make_it_active(
    s: NativeSessionManager, clock: ManualClock
) -> None:
    s.create_task(WS, "s", id="t", status="running")
    clock.advance(-YEAR)
    assert status(s) == "waiting_for_input"


def test_where_nothing_is_known_but_what_lies_ahead_that_is_told(s: NativeSessionManager, clock: ManualClock) -> None:
    clock.advance(-YEAR)
    assert there(s.session_info(WS, "s")).last_activity_time == START
    assert s.list_session_info(WS, activity_status="idle").total_count == 1


def test_a_change_makes_it_active_again(s: NativeSessionManager, clock: ManualClock) -> None:
    clock.advance(60 * MINUTE)
    assert status(s) == "idle"
    s.add_message(WS, "s", role="user", content="hi")
    assert status(s) == "active"


def test_a_running_task_keeps_it_from_being_idle(s: NativeSessionManager, clock: ManualClock) -> None:
    s.create_task(WS, "s", id="t", status="running")
    clock.advance(5 * MINUTE)
    assert status(s) == "waiting_for_input"
    clock.advance(24 * 60 * MINUTE)
    assert status(s) == "waiting_for_input"
    s.touch_task(WS, "t")
    assert status(s) == "active"
    assert there(s.session_info(WS, "s")).last_activity_time == START + 5 * MINUTE + 24 * 60 * MINUTE
    s.complete_task(WS, "t")
    clock.advance(30 * MINUTE)
    assert status(s) == "idle"


def test_the_status_of_the_task_is_that_of_the_running_one_else_of_the_one_that_changed_last(
    s: NativeSessionManager, clock: ManualClock
) -> None:
    def told() -> tuple[bool, str | None]:
        info = there(s.session_info(WS, "s"))
        return info.is_agent_task, info.agent_task_status

    assert told() == (False, None)
    s.create_task(WS, "s", id="one", status="running")
    clock.advance(-1000)  # The order is that of the changes, not of the clock.
    s.create_task(WS, "s", id="two")
    assert told() == (True, "running")
    s.complete_task(WS, "one")
    assert told() == (True, "completed")
    s.fail_task(WS, "two", "why")
    assert told() == (True, "failed")
    for each in ("one", "two"):
        s.delete_task(WS, each)
    assert told() == (False, None)


def test_what_is_closed_or_archived_is_idle_unless_it_is_worked_on(s: NativeSessionManager) -> None:
    s.close_session(WS, "s")
    assert status(s) == "idle"
    s.create_task(WS, "s", id="t", status="running")
    assert status(s) == "active"
    s.complete_task(WS, "t")
    s.reopen_session(WS, "s")
    assert status(s) == "active"
    s.archive_session(WS, "s")
    assert status(s) == "idle"


def test_an_open_stream_makes_it_active_now(s: NativeSessionManager, clock: ManualClock) -> None:
    s.create_session(WS, id="beside")
    s.close_session(WS, "s")
    with NativeSessionManager(s.data_dir, clock=clock) as other, s.stream_message(WS, "s") as stream:
        stream.text("a")
        clock.advance(24 * 60 * MINUTE)
        for manager in (s, other):
            assert status(manager) == "active"
            assert status(manager, "beside") == "idle"
            assert there(manager.session_info(WS, "s")).last_activity_time == clock.now()
    clock.advance(30 * MINUTE)
    assert status(s) == "idle"


def test_a_stream_whose_writer_is_gone_counts_for_nothing(s: NativeSessionManager, clock: ManualClock) -> None:
    message = s.add_message(WS, "s", role="assistant", status="streaming", writer="1-dead")
    streams = Path(s.data_dir) / WS / "streams"
    streams.mkdir(exist_ok=True)
    (streams / "1-dead").write_bytes(b"\0s")
    clock.advance(60 * MINUTE)
    assert status(s) == "idle"
    assert [each.id for each in s.interrupted_messages(WS)] == [message.id]


# The envelope


def fill(m: NativeSessionManager, clock: ManualClock) -> None:
    """Twelve sessions: seven idle, three waiting, two active; five with tasks, one of them archived."""
    for number, age in enumerate([9, 8, 7, 6, 5, 4, 3]):
        clock.set(START - age * 60 * MINUTE)
        m.create_session(WS, id=f"idle{number}")
        if number < 5:
            m.create_task(WS, f"idle{number}", status="completed", created_at=1)
    clock.set(START - 20 * MINUTE)
    for number in range(3):
        m.create_session(WS, id=f"waiting{number}")
    clock.set(START)
    for number in range(2):
        m.create_session(WS, id=f"active{number}")
    m.archive_session(WS, "idle0")


SUMMARY = {"active": 2, "waiting_for_input": 3, "idle": 7, "agentTasks": 5}


def ids(found: SessionInfoList) -> list[str]:
    return [each.id for each in found.sessions]


def test_the_envelope_is_the_original_s(m: NativeSessionManager, clock: ManualClock) -> None:
    fill(m, clock)
    page = dump(m.list_session_info(WS, limit=5, offset=5))
    assert list(page) == ["sessions", "totalCount", "pagination", "summary"]
    assert page["totalCount"] == 12
    assert page["pagination"] == {"limit": 5, "offset": 5, "hasMore": True, "currentPage": 2, "totalPages": 3}
    assert page["summary"] == SUMMARY
    assert len(page["sessions"]) == 5
    assert json.loads(json.dumps(page)) == page


def test_pages_are_in_the_order_of_list_sessions_without_overlap_or_gap(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    fill(m, clock)
    expected = [each.id for each in m.list_sessions(WS)]
    assert ids(m.list_session_info(WS)) == expected
    for limit in range(1, 14):
        seen: list[str] = []
        for number in range(1, 14):
            page = m.list_session_info(WS, limit=limit, offset=len(seen))
            seen += ids(page)
            assert page.pagination.current_page == number
            assert page.pagination.total_pages == -(-12 // limit)
            if not page.pagination.has_more:
                break
        assert seen == expected


@pytest.mark.parametrize(
    ("limit", "offset", "rows", "more", "current", "pages"),
    [
        (None, 0, 12, False, 1, 1),
        (None, 10, 2, False, 1, 1),
        (10, 5, 7, False, 1, 2),
        (5, 12, 0, False, 3, 3),
        (5, 99, 0, False, 20, 3),
        (12, 0, 12, False, 1, 1),
    ],
)
def test_the_numbers_of_a_page(
    m: NativeSessionManager,
    clock: ManualClock,
    limit: int | None,
    offset: int,
    rows: int,
    more: bool,
    current: int,
    pages: int,
) -> None:
    fill(m, clock)
    page = m.list_session_info(WS, limit=limit, offset=offset)
    told = page.pagination
    assert (len(page.sessions), told.has_more, told.current_page, told.total_pages) == (rows, more, current, pages)
    assert page.total_count == 12


def test_of_an_empty_workspace(m: NativeSessionManager) -> None:
    for limit in (None, 10):
        page = m.list_session_info(WS, limit=limit)
        assert (page.sessions, page.total_count) == ([], 0)
        assert (page.pagination.current_page, page.pagination.total_pages, page.pagination.has_more) == (1, 0, False)
        assert set(dump(page.summary).values()) == {0}


def test_filters_narrow_the_rows_and_the_total_and_leave_the_summary(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    fill(m, clock)
    cases: list[tuple[dict[str, Any], int]] = [
        ({"activity_status": "active"}, 2),
        ({"activity_status": "waiting_for_input"}, 3),
        ({"activity_status": "idle", "is_agent_task": True}, 5),
        ({"is_agent_task": False}, 7),
        ({"archived": True}, 1),
        ({"archived": False}, 11),
        ({"updated_since": START - 20 * MINUTE}, 6),
    ]
    for filters, count in cases:
        page = m.list_session_info(WS, limit=1, **filters)
        assert (page.total_count, len(page.sessions)) == (count, 1), filters
        assert dump(page.summary) == SUMMARY
        assert len(m.list_session_info(WS, **filters).sessions) == count


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": -1},
        {"limit": True},
        {"limit": "5"},
        {"offset": -1},
        {"offset": 1.0},
        {"offset": None},
        {"activity_status": "busy"},
        {"activity_status": ["idle"]},
        {"is_agent_task": 1},
        {"archived": "yes"},
        {"updated_since": "2025"},
    ],
    ids=str,
)
def test_a_wrong_value_is_named(s: NativeSessionManager, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as raised:
        s.list_session_info(WS, **wrong)
    assert raised.value.field == next(iter(wrong))


def test_a_look_writes_nothing(s: NativeSessionManager) -> None:
    before = s.status(WS)
    assert isinstance(s.session_info(WS, "s"), SessionInfo)
    s.list_session_info(WS)
    assert s.status(WS) == before


def test_a_thousand_sessions_with_tasks_are_counted_in_full(m: NativeSessionManager) -> None:
    with m.transaction(WS) as tx:
        for number in range(1_000):
            tx.create_session(WS, id=f"{number:04}")
            tx.create_task(WS, f"{number:04}", status="running" if number % 2 else "pending")
    page = m.list_session_info(WS, limit=3, offset=998)
    assert (page.total_count, ids(page)) == (1_000, ["0001", "0000"])
    assert dump(page.summary) == {"active": 1_000, "waiting_for_input": 0, "idle": 0, "agentTasks": 1_000}
