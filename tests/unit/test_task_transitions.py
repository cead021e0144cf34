"""The steps of a task's life: every one that is not allowed raises, names both states, and writes nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import product

import pytest

from nomad_sessions import IllegalTransitionError, InvalidInputError, ManualClock, NativeSessionManager, Task
from nomad_sessions.models import TASK_STATUSES, TASK_TRANSITIONS, dump
from tests.unit.conftest import START

WS = "ws"
Call = Callable[[NativeSessionManager], Task]

# What each call makes of a task.
STEPS: dict[str, tuple[str, Call]] = {
    "start_task": ("running", lambda m: m.start_task(WS, "t")),
    "complete_task": ("completed", lambda m: m.complete_task(WS, "t", {"out": 1})),
    "fail_task": ("failed", lambda m: m.fail_task(WS, "t", "why")),
}
SIGNS: dict[str, Call] = {
    "touch_task": lambda m: m.touch_task(WS, "t"),
    "progress_task": lambda m: m.progress_task(WS, "t", 30),
    "update_task": lambda m: m.update_task(WS, "t", progress=30),
}


def updated(status: str) -> Call:
    return lambda m: m.update_task(WS, "t", status=status, agent_id="changed with it")


ALL: list[tuple[str, str, str, Call]] = [
    *((before, after, name, call) for before, (name, (after, call)) in product(sorted(TASK_STATUSES), STEPS.items())),
    *(
        (before, after, "update_task", updated(after))
        for before, after in product(sorted(TASK_STATUSES), repeat=2)
        if before != after
    ),
]
LEGAL = [each for each in ALL if each[1] in TASK_TRANSITIONS[each[0]]]
ILLEGAL = [each for each in ALL if each not in LEGAL]


@pytest.fixture
def t(m: NativeSessionManager) -> Callable[[str], NativeSessionManager]:
    """Makes task `t` in a status."""

    def make(status: str) -> NativeSessionManager:
        m.create_session(WS, id="s")
        m.create_task(WS, "s", id="t", status=status, progress=100 if status == "completed" else 10)
        return m

    return make


def named(cases: list[tuple[str, str, str, Call]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("before", "after", "call"),
        [(before, after, call) for before, after, _, call in cases],
        ids=[f"{name}-{before}-{after}" for before, after, name, _ in cases],
    )


def test_these_are_all() -> None:
    assert len(ALL) == 3 * 4 + 4 * 3
    assert len(LEGAL) == 2 * sum(map(len, TASK_TRANSITIONS.values())) == 8
    assert set(TASK_TRANSITIONS) == TASK_STATUSES


@named(ILLEGAL)
def test_an_illegal_step_raises_names_both_states_and_writes_nothing(
    t: Callable[[str], NativeSessionManager], before: str, after: str, call: Call
) -> None:
    m = t(before)
    task, seq = m.get_task(WS, "t"), m.status(WS).seq
    with pytest.raises(IllegalTransitionError) as raised:
        call(m)
    error = raised.value
    assert (error.kind, error.id, error.before, error.after) == ("task", "t", before, after)
    assert f"from {before} to {after}" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert (m.get_task(WS, "t"), m.status(WS).seq) == (task, seq)


@named(ILLEGAL)
def test_in_a_transaction_it_raises_too_and_nothing_of_the_others_is_lost(
    t: Callable[[str], NativeSessionManager], before: str, after: str, call: Call
) -> None:
    m = t(before)
    with m.transaction(WS) as tx:
        with pytest.raises(IllegalTransitionError):
            call(tx)  # type: ignore[arg-type]
        tx.update_session(WS, "s", title="written")
    session, task = m.get_session(WS, "s"), m.get_task(WS, "t")
    assert session is not None
    assert task is not None
    assert (session.title, task.status) == ("written", before)


@named(LEGAL)
def test_a_legal_step_is_taken(
    t: Callable[[str], NativeSessionManager], clock: ManualClock, before: str, after: str, call: Call
) -> None:
    m = t(before)
    clock.advance(7)
    task = call(m)
    assert (task.status, task.last_activity, task.updated_at) == (after, START + 7, START + 7)
    if after == "running":
        assert (task.start_time, task.progress) == (START + 7, 10)
    assert task.progress == (100 if after == "completed" else 10)
    assert m.get_task(WS, "t") == task
    assert m.status(WS).seq == task.rev


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("before", sorted(TASK_STATUSES))
def test_only_a_running_task_shows_signs_of_life(
    t: Callable[[str], NativeSessionManager], clock: ManualClock, before: str, name: str
) -> None:
    m = t(before)
    clock.advance(7)
    if before == "running":
        task = SIGNS[name](m)
        assert (task.last_activity, task.progress) == (START + 7, 10 if name == "touch_task" else 30)
        return
    task_before = m.get_task(WS, "t")
    with pytest.raises(IllegalTransitionError) as raised:
        SIGNS[name](m)
    assert (raised.value.before, raised.value.after) == (before, "running")
    assert m.get_task(WS, "t") == task_before


@pytest.mark.parametrize("status", sorted(TASK_STATUSES))
def test_the_same_status_again_is_no_step(t: Callable[[str], NativeSessionManager], status: str) -> None:
    m = t(status)
    before = m.get_task(WS, "t")
    assert m.update_task(WS, "t", status=status) == before
    assert m.update_task(WS, "t", status=status, agent_id="a").agent_id == "a"


def test_what_came_out_and_why_it_failed_are_kept(t: Callable[[str], NativeSessionManager]) -> None:
    m = t("running")
    assert m.complete_task(WS, "t", [1, {"k": None}]).output_data == [1, {"k": None}]
    m.create_task(WS, "s", id="u", status="running", progress=80)
    failed = m.fail_task(WS, "u", "no room")
    assert (failed.error_message, failed.progress) == ("no room", 80)
    m.create_task(WS, "s", id="v", status="running")
    assert "outputData" not in dump(m.complete_task(WS, "v"))
    m.create_task(WS, "s", id="w", status="running")
    done = m.update_task(WS, "w", status="completed", progress=100, output_data=5)
    assert (done.progress, done.output_data) == (100, 5)


@pytest.mark.parametrize("progress", [0, 40, 99.9])
def test_a_completed_task_is_at_100_and_what_says_otherwise_is_refused(
    t: Callable[[str], NativeSessionManager], progress: float
) -> None:
    m = t("running")
    before, seq = m.get_task(WS, "t"), m.status(WS).seq
    wrong: list[Call] = [
        lambda m: m.update_task(WS, "t", status="completed", progress=progress),
        lambda m: m.update_task(WS, "t", {"status": "completed"}, progress=progress),
        lambda m: m.create_task(WS, "s", status="completed", progress=progress),
        lambda m: m.create_task(WS, "s", id="t", status="completed", progress=progress),
    ]
    for call in wrong:
        with pytest.raises(InvalidInputError) as raised:
            call(m)
        assert (raised.value.field, raised.value.value) == ("progress", str(progress))
        with pytest.raises(InvalidInputError), m.transaction(WS) as tx:
            call(tx)  # type: ignore[arg-type]
    assert (m.get_task(WS, "t"), m.status(WS).seq) == (before, seq)
    done = m.complete_task(WS, "t")
    with pytest.raises(IllegalTransitionError, match="completed is final"):
        m.update_task(WS, "t", progress=progress)
    assert m.get_task(WS, "t") == done


@pytest.mark.parametrize("full", [100, 100.0])
def test_saying_100_of_a_completed_task_is_no_contradiction(
    t: Callable[[str], NativeSessionManager], full: float
) -> None:
    m = t("running")
    assert m.create_task(WS, "s", status="completed", progress=full).progress == 100
    done = m.update_task(WS, "t", status="completed", progress=full)
    assert (done.status, done.progress) == ("completed", 100)
    assert m.update_task(WS, "t", status="completed", progress=done.progress) == done


def test_of_two_managers_that_start_one_task_one_gets_it(t: Callable[[str], NativeSessionManager]) -> None:
    m = t("pending")
    with NativeSessionManager(m.data_dir, durability="os") as other:
        assert other.get_task(WS, "t") == m.get_task(WS, "t")
        m.start_task(WS, "t")
        with pytest.raises(IllegalTransitionError, match="from running to running"):
            other.start_task(WS, "t")
