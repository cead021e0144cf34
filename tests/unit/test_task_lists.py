"""Lists of tasks: each row once, the true total, filters; whatever another program made of a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import IllegalTransitionError, InvalidInputError, ManualClock, NativeSessionManager
from nomad_sessions.workspace.overlay import Overlay
from nomad_sessions.workspace.places import Summary
from tests.support.there import there
from tests.unit.conftest import START

WS = "ws"


@pytest.fixture
def s(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


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


def test_in_a_transaction_the_sessions_that_are_there_are_asked_for_once(
    s: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Overlay] = []
    summaries = Overlay.summaries

    def counted(overlay: Overlay) -> dict[str, Summary]:
        asked.append(overlay)
        return summaries(overlay)

    for number in range(20):
        s.create_task(WS, "s", id=f"t{number:02}")
    with s.transaction(WS) as tx:
        tx.create_session(WS, id="new")
        tx.create_task(WS, "new", id="mine")
        monkeypatch.setattr(Overlay, "summaries", counted)
        assert tx.list_tasks(WS, orphaned=False).total == 21
        assert len(asked) == 1


def test_five_thousand_tasks_are_listed_by_page_with_their_true_total(s: NativeSessionManager) -> None:
    with s.transaction(WS) as tx:
        for number in range(5_000):
            tx.create_task(WS, "s", id=f"{number:05}", agent_id=f"a{number % 100}")
    page = s.list_tasks(WS, limit=50, agent_id="a7")
    assert (page.total, page[0].id, len(page)) == (50, "04907", 50)
    assert s.list_tasks(WS, limit=1, status="pending").total == 5_000


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


@pytest.mark.parametrize("status", [{}, {"status": None}, {"status": 5}, {"status": ["running"]}])
def test_a_row_without_a_status_waits_to_be_started_and_is_found_so(
    s: NativeSessionManager, status: dict[str, Any]
) -> None:
    rewrite(s, lambda value: value.update(tasks={"t": {"sessionId": "s", **status}}))
    (task,) = s.list_tasks(WS, status="pending")
    assert (task, task.status) == (s.get_task(WS, "t"), "pending")
    for other in ("running", "completed", "failed"):
        assert s.list_tasks(WS, status=other) == []
    assert there(s.session_info(WS, "s")).agent_task_status == "pending"
    assert s.overdue_tasks(WS, idle_ms=1) == []
    with pytest.raises(IllegalTransitionError, match="from pending to completed"):
        s.complete_task(WS, "t")
    assert s.update_task(WS, "t", status="pending") == task, "it is so already"
    assert s.start_task(WS, "t").status == "running"
    assert s.list_tasks(WS, status="running").total == 1


def test_where_another_program_keeps_something_else_no_task_is_made_and_it_stays(s: NativeSessionManager) -> None:
    rewrite(s, lambda value: value.update(tasks=["buy milk"]))
    assert s.list_tasks(WS) == []
    assert s.get_task(WS, "t") is None
    with pytest.raises(InvalidInputError, match="tasks"):
        s.create_task(WS, "s")
    s.checkpoint(WS)
    assert json.loads((Path(s.data_dir) / WS / "sessions.json").read_text())["tasks"] == ["buy milk"]
