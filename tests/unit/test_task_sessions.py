"""Tasks and their sessions: without it, in a fork, on a move, in a transaction, as events."""

from __future__ import annotations

import pytest

from nomad_sessions import AlreadyExistsError, ConflictError, NativeSessionManager, TaskNotFoundError
from nomad_sessions.models import dump
from nomad_sessions.operations import movement

WS = "ws"


@pytest.fixture
def s(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


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
