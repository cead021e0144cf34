"""Targets kept up to date in the background: no writer waits, one that is away is asked again, the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager, TargetUnavailableError
from nomad_sessions.cli.sync import _carried
from nomad_sessions.sync import Applied, Change, MemoryTarget, Synchronizer, courier
from nomad_sessions.sync.target import Kind
from nomad_sessions.sync.two_way import MemoryPlace
from tests.support.damage import long_damaged
from tests.support.subscribers import add, until
from tests.support.troublesome import TroublesomeTarget

WS = "ws"
MESSAGES: tuple[Kind, ...] = ("message",)


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(courier, "_GATHER", 0.01)


def count(target: MemoryTarget, workspace_id: str = WS) -> int:
    return len(target.scan(workspace_id, "message", limit=10_000))


def test_what_any_process_writes_arrives_in_every_target(m: NativeSessionManager) -> None:
    one, other = MemoryTarget("one"), MemoryTarget("other", kinds=MESSAGES)
    with Synchronizer(m, [one, other]) as sync:
        sync.start()
        sync.start()
        add(m, 20)
        with NativeSessionManager(m.data_dir, durability="os") as writer:
            add(writer, 20)
            writer.create_session("later", id="l")
            add_to_later = writer.add_message("later", "l", role="user", content="x")
            until(lambda: count(one) == count(other) == 40)
            until(lambda: [each.id for each in one.scan("later", "message")] == [add_to_later.id])
        assert other.scan(WS, "session") == []
        until(lambda: all(each.behind == 0 for each in sync.status()))
        assert {(each.target, each.workspace_id) for each in sync.status()} == {
            (target, workspace) for target in ("one", "other") for workspace in (WS, "later")
        }
        assert all(each.error is None and each.reached_at for each in sync.status())
    add(m, 1)
    time.sleep(0.05)
    assert count(one) == 40, "after its end it does nothing"


def test_one_that_is_away_catches_up_and_holds_up_no_other_target(m: NativeSessionManager) -> None:
    back = threading.Event()
    away, there = TroublesomeTarget(lambda _: "" if back.is_set() else "away"), MemoryTarget("there")
    with Synchronizer(m, [away, there]) as sync:
        sync.start()
        add(m, 30)
        until(lambda: count(there) == 30)
        until(lambda: away.calls > 2)
        status = {each.target: each for each in sync.status()}
        assert status["memory"].error == "the sync target 'memory' is not available: it is away"
        assert status["memory"].behind == m.status(WS).seq
        back.set()
        until(lambda: count(away) == 30)
        until(lambda: all(each.error is None for each in sync.status()))
        assert sync.verify(WS, target="memory") == []


def test_one_that_is_away_holds_up_no_other_in_one_push(m: NativeSessionManager) -> None:
    add(m, 3)
    away, there = TroublesomeTarget(lambda _: "away"), MemoryTarget("there")
    with Synchronizer(m, [away, there]) as sync:
        with pytest.raises(TargetUnavailableError):
            sync.push()
        assert count(there) == 3
        add(m, 1)
        carried = _carried(sync.push, [("memory", WS), ("there", WS)], lambda _, __: None, alone=False)
        assert (list(carried.done), list(carried.away)) == ([("there", WS)], ["memory"])
        with pytest.raises(TargetUnavailableError):
            _carried(sync.push, [("memory", WS)], lambda _, __: None, alone=False)


def test_what_comes_from_other_machines_reaches_a_copy_in_the_same_push(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    place, copy = MemoryPlace(), MemoryTarget("copy")
    with (
        NativeSessionManager(tmp_path / "other", durability="os") as other,
        Synchronizer(other, [MemoryTarget("common", place=place)]) as there,
        Synchronizer(m, [copy, MemoryTarget("common", place=place)]) as here,
    ):
        here.push()
        there.pull()
        add(other, 2)
        there.push()
        here.push()
        assert count(copy) == 2
        other.delete_message(WS, other.get_session_messages(WS, "s")[0].id)
        there.push()
        here.push()
        assert count(copy) == 1


def test_a_target_that_answers_late_costs_a_writer_nothing(m: NativeSessionManager) -> None:
    go, entered = threading.Event(), threading.Event()

    class Late(MemoryTarget):
        def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
            entered.set()
            assert go.wait(20)
            return super().apply(changes, force=force)

    target = Late()
    with Synchronizer(m, [target]) as sync:
        sync.start()
        add(m, 1)
        assert entered.wait(10)
        add(m, 50)
        assert m.get_session(WS, "s") is not None
        assert count(target) == 0, "nothing was waited for"
        go.set()
        until(lambda: count(target) == 51)


def test_a_workspace_that_cannot_be_read_holds_up_no_other(m: NativeSessionManager) -> None:
    add(m, 3)
    (Path(m.data_dir) / "bad").mkdir()
    long_damaged(Path(m.data_dir) / "bad" / "sessions.json")
    target = MemoryTarget()
    with Synchronizer(m, [target]) as sync:
        sync.start()
        until(lambda: count(target) == 3)
        until(lambda: all(each.error is None and each.behind == 0 for each in sync.status(WS)))
        (status,) = sync.status("bad")
        assert status.behind is None
        assert "bad" in (status.error or "")


def test_pauses_grow_and_are_never_the_same(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(courier, "_pause", lambda seconds, _: pauses.append(seconds))
    target = TroublesomeTarget(lambda n: "away" if n < 12 else "")
    monkeypatch.setattr(courier, "_POLL_EVERY", 0.01)
    with Synchronizer(m, [target]) as sync:
        sync.start()
        until(lambda: count(target) == 0 and target.calls >= 12)
    longest = [min(60.0, 0.02 * 2**n) for n in range(len(pauses))]
    assert len(pauses) == 11
    assert all(most / 2 <= each <= most for each, most in zip(pauses, longest, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_names_are_unique_and_known(m: NativeSessionManager) -> None:
    with pytest.raises(InvalidInputError, match="memory"):
        Synchronizer(m, [MemoryTarget(), MemoryTarget()])
    with Synchronizer(m, [MemoryTarget()]) as sync:
        for call in (sync.push, sync.dead, sync.retry):
            with pytest.raises(InvalidInputError, match="nobody"):
                call(WS, target="nobody")
        with pytest.raises(InvalidInputError, match="nobody"):
            sync.verify(WS, target="nobody")
        with pytest.raises(InvalidInputError, match="workspace"):
            sync.push("../x")
    for name in ("", "Up", "a b", "x" * 33, "-a"):
        with pytest.raises(InvalidInputError, match="name"):
            Synchronizer(m, [MemoryTarget(name)])


def test_it_ends_with_its_manager(tmp_path: Path) -> None:
    target = MemoryTarget()
    with NativeSessionManager(tmp_path, durability="os") as manager:
        manager.create_session(WS, id="s")
        manager.start_sync(target)
        add(manager, 3)
        until(lambda: count(target) == 3)
        with pytest.raises(InvalidInputError, match="targets"):
            manager.start_sync()
    assert not [each.name for each in threading.enumerate() if "sync" in each.name]


def test_a_target_with_a_defect_is_said_and_the_others_go_on(
    m: NativeSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    class Defective(MemoryTarget):
        def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
            raise ZeroDivisionError("a defect")

    one, other = Defective("one"), MemoryTarget("other")
    with Synchronizer(m, [one, other]) as sync:
        sync.start()
        add(m, 3)
        until(lambda: count(other) == 3)
        until(lambda: sync.status(WS)[0].error == "a defect")
        add(m, 3)
        until(lambda: count(other) == 6)
    assert "a defect" in caplog.text
