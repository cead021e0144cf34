"""Machines with one workspace in common: what each of them sees, and when."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, LockTimeoutError, NativeSessionManager, TargetUnavailableError
from nomad_sessions.clock import ManualClock
from nomad_sessions.sync import Key, MemoryTarget, Synchronizer
from nomad_sessions.sync.two_way import MemoryPlace
from tests.properties.test_two_way import Flaky, content
from tests.support.subscribers import until

WS = "ws"


class Machine:
    """One store, and its way to the place."""

    def __init__(self, folder: Path, place: MemoryPlace, clock: ManualClock) -> None:
        self.folder = folder
        self.place = place
        self.clock = clock
        self.open()

    def open(self) -> None:
        self.store = NativeSessionManager(self.folder, durability="os", clock=self.clock)
        self.sync = Synchronizer(self.store, [MemoryTarget("it", place=self.place)])

    def said(self, session_id: str = "s") -> list[str]:
        return [each.content for each in self.store.get_session_messages(WS, session_id)]

    def say(self, text: str, session_id: str = "s", **fields: Any) -> None:
        self.store.add_message(WS, session_id, role="user", content=text, **fields)

    def session(self, session_id: str = "s") -> Any:
        return self.store.get_session(WS, session_id)

    def push(self) -> Any:
        return self.sync.push(WS)["it", WS]

    def forget(self) -> None:
        for each in (self.folder / WS / "sync").iterdir():
            each.unlink()

    def close(self) -> None:
        self.sync.close()
        self.store.close()


@pytest.fixture
def place() -> MemoryPlace:
    return MemoryPlace()


@pytest.fixture
def clock() -> ManualClock:
    """Of all machines."""
    return ManualClock()


Maker = Callable[[str], Machine]


@pytest.fixture
def machine(tmp_path: Path, place: MemoryPlace, clock: ManualClock) -> Iterator[Maker]:
    made: list[Machine] = []

    def make(name: str) -> Machine:
        made.append(Machine(tmp_path / name, place, clock))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def two(machine: Maker) -> tuple[Machine, Machine]:
    """Two machines that have a session `s` with two messages."""
    one, other = machine("one"), machine("other")
    one.store.create_session(WS, id="s", title="first")
    one.say("a", id="a")
    one.say("b", id="b")
    one.push()
    other.push()
    return one, other


def settle(*machines: Machine) -> None:
    for _ in range(2):
        for each in machines:
            each.push()
    assert all(content(each.store) == content(machines[0].store) for each in machines)
    assert [each.sync.verify(WS, target="it") for each in machines] == [[]] * len(machines)


def prune(machine: Machine) -> None:
    """Writes so much that its log begins later than what it did before."""
    machine.store.configure_workspace(WS, retention={"bytes": 0})
    machine.store.create_session(WS, id="more")
    for _ in range(4):
        for n in range(200):
            machine.say(f"more {n}", "more")
        machine.store.checkpoint(WS)


def test_a_new_machine_has_everything(two: tuple[Machine, Machine], machine: Maker) -> None:
    one, _ = two
    one.store.create_task(WS, "s", {"do": 1}, id="t")
    one.store.send(WS, "inbox", type="note", content="hello")
    one.store.record_event(WS, "note", {"n": 1}, session_id="s")
    one.store.fork_session(WS, "s")
    one.store.revert(WS, "s", "a")
    one.push()
    new = machine("new")
    assert {each.fetched for each in new.sync.pull().values()} == {9}
    settle(one, new)
    assert new.said() == ["a"]
    assert [each.content for each in new.store.list_mail(WS, "inbox")] == ["hello"]
    assert [each.properties for each in new.store.events(WS, recorded=True)] == [{"n": 1}]
    new.store.unrevert(WS, "s")
    assert new.said() == ["a", "b"]


def test_nothing_new_is_nothing_to_do(two: tuple[Machine, Machine], place: MemoryPlace) -> None:
    before = dict(place.versions)
    for each in two:
        done = each.push()
        assert (done.confirmed, done.fetched, done.compared) == (0, 0, "")
    assert place.versions == before


def test_what_two_machines_add_is_kept_in_turns(two: tuple[Machine, Machine]) -> None:
    one, other = two
    for n in range(3):
        one.say(f"one {n}")
        other.say(f"other {n}")
    settle(*two)
    assert one.said() == ["a", "b", *(f"one {n}" for n in range(3)), *(f"other {n}" for n in range(3))]
    assert one.sync.conflicts() == other.sync.conflicts() == []


def test_fields_that_two_machines_change_are_both_kept(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.store.update_session(WS, "s", title="new title")
    other.store.update_session(WS, "s", description="new description")
    settle(*two)
    assert (other.session().title, other.session().description) == ("new title", "new description")
    assert one.sync.conflicts() == other.sync.conflicts() == []


def test_of_one_field_the_later_wins_whoever_comes_first(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.store.update_session(WS, "s", title="earlier")
    one.clock.advance(10)
    other.store.update_session(WS, "s", title="later")
    other.push()
    settle(*two)
    assert one.session().title == "later"
    (conflict,) = one.sync.conflicts()
    assert (conflict.key.id, conflict.field) == ("s", "title")
    assert (conflict.kept, conflict.lost) == ({"title": "later"}, {"title": "earlier"})
    assert other.sync.conflicts() == []
    assert one.sync.forget_conflicts() == 1
    assert one.sync.conflicts() == []


def test_who_edits_what_he_has_read_wins_whatever_the_clocks_say(two: tuple[Machine, Machine]) -> None:
    one, other = two
    hour = 3_600_000
    one.clock.advance(hour)
    one.store.update_session(WS, "s", title="from the future")
    one.push()
    one.clock.advance(-hour)
    other.push()
    assert other.session().title == "from the future"
    other.store.update_session(WS, "s", title="seen, and changed")
    settle(*two)
    assert one.session().title == "seen, and changed"
    assert one.sync.conflicts() == other.sync.conflicts() == []


def test_a_session_that_somebody_went_on_in_is_not_deleted(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.store.delete_session(WS, "s")
    one.clock.advance(10)
    other.say("c")
    settle(*two)
    assert one.said() == ["a", "b", "c"]
    assert [each.kept is not None for each in (*one.sync.conflicts(), *other.sync.conflicts())] == [True] * 3


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_deletion_that_is_cut_short_is_undone_by_who_goes_on(two: tuple[Machine, Machine], calls: int) -> None:
    one, other = two
    target = one.sync.targets[0]
    assert isinstance(target, MemoryTarget)
    flaky = Flaky(one.place)
    target.place = flaky
    one.store.delete_session(WS, "s")
    flaky.fail_in = calls, False
    with pytest.raises(TargetUnavailableError):
        one.push()
    one.clock.advance(10)
    other.say("c")
    other.push()
    settle(*two)
    assert one.said() == ["a", "b", "c"]


def test_a_deletion_takes_what_is_older_and_names_what_nobody_had_seen(two: tuple[Machine, Machine]) -> None:
    one, other = two
    other.say("unseen")
    one.clock.advance(10)
    one.store.delete_session(WS, "s")
    one.push()
    settle(*two)
    assert other.store.list_sessions(WS) == []
    lost = [each.lost for each in (*one.sync.conflicts(), *other.sync.conflicts())]
    assert "unseen" in str(lost)


def test_a_revert_and_somebody_who_goes_on(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.store.revert(WS, "s", "a")
    other.say("c")
    settle(*two)
    assert one.said() == ["a", "c"]
    one.store.unrevert(WS, "s")
    settle(*two)
    assert sorted(other.said()) == ["a", "b", "c"]


def test_what_is_changed_here_meanwhile_waits_for_the_next_time(two: tuple[Machine, Machine]) -> None:
    """What was written between the push and the fetch is not written over."""
    one, other = two
    one.store.update_session(WS, "s", title="there")
    one.push()
    fetch = other.sync._couriers["it"].target.place
    assert fetch is not None
    read = fetch.read

    def meanwhile(workspace_id: str, kind: Any, ids: Any) -> Any:
        found = read(workspace_id, kind, ids)
        if kind == "session":
            fetch.read = read  # type: ignore[method-assign]
            other.store.update_session(WS, "s", description="here")
        return found

    fetch.read = meanwhile  # type: ignore[method-assign]
    other.push()
    assert (other.session().title, other.session().description) == ("first", "here")
    settle(*two)
    assert (one.session().title, one.session().description) == ("there", "here")


@pytest.mark.parametrize("how", ["pruned", "forgotten", "reset"])
def test_the_whole_is_compared_where_nothing_else_tells(two: tuple[Machine, Machine], how: str) -> None:
    one, other = two
    other.store.update_session(WS, "s", description="there")
    other.push()
    one.clock.advance(10)
    one.store.update_session(WS, "s", title="offline")
    one.say("c")
    if how == "pruned":
        prune(one)
    elif how == "forgotten":
        one.forget()
    else:
        one.sync.reset(WS, target="it")
    assert one.push().compared != ""
    settle(*two)
    assert (other.session().title, other.session().description) == ("offline", "there")
    assert other.said()[:3] == ["a", "b", "c"]


def test_what_was_deleted_before_all_that_is_known_was_lost_is_deleted_elsewhere(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.clock.advance(10)
    one.store.delete_message(WS, "a")
    one.forget()
    assert one.push().compared == "what was known of it is lost"
    settle(*two)
    assert (one.said(), other.said()) == (["b"], ["b"])


@pytest.mark.parametrize("calls", range(4))
def test_a_comparison_of_the_whole_that_is_cut_short_begins_again(
    two: tuple[Machine, Machine], place: MemoryPlace, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    one, _ = two
    one.store.record_event(WS, "note", {"n": 1})
    settle(*two)
    one.forget()
    answers = iter([place.numbers] * calls)

    def numbers(*which: Any) -> Any:
        answer = next(answers, None)
        if answer is None:
            raise TargetUnavailableError(target="it", reason="not now")
        return answer(*which)

    with monkeypatch.context() as patch:
        patch.setattr(place, "numbers", numbers)
        with pytest.raises(TargetUnavailableError):
            one.push()
    assert one.push().compared == "what was known of it is lost"
    settle(*two)


def test_who_went_on_in_what_an_offline_machine_deleted_keeps_all_of_it(two: tuple[Machine, Machine]) -> None:
    """Also where the log that said so has been pruned."""
    one, other = two
    one.store.delete_session(WS, "s")
    prune(one)
    one.clock.advance(10)
    other.say("c")
    other.push()
    assert one.push().compared == "the log has been pruned since"
    settle(*two)
    assert one.said() == ["a", "b", "c"]
    one.store.delete_session(WS, "s")
    single = one.session("more").message_ids[0]
    one.store.delete_message(WS, single)
    prune(one)
    assert one.push().compared == "the log has been pruned since"
    settle(*two)
    assert other.session() is None
    assert single not in other.session("more").message_ids


def test_the_log_may_end_with_a_stream(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.store.append_to_message(WS, "a", " and")
    one.store.append_to_message(WS, "a", " more")
    one.sync.reset(WS, target="it")
    assert one.push().compared == "it is new"
    one.store.append_to_message(WS, "a", "!")
    assert one.push().compared == ""
    settle(*two)
    assert other.said()[0] == "a and more!"


def test_a_backup_that_is_put_back_gets_what_came_after_it(two: tuple[Machine, Machine], tmp_path: Path) -> None:
    one, _ = two
    one.close()
    shutil.copytree(one.folder, tmp_path / "backup")
    one.open()
    one.say("after the backup")
    one.push()
    one.close()
    shutil.rmtree(one.folder)
    shutil.move(tmp_path / "backup", one.folder)
    one.open()
    one.clock.advance(10)
    one.say("after it was put back")
    settle(*two)
    assert sorted(one.said()) == ["a", "after it was put back", "after the backup", "b"]


def test_in_the_background_both_ways(two: tuple[Machine, Machine]) -> None:
    """While both write at once, too."""
    for each in two:
        each.sync.start()
    threads = [threading.Thread(target=lambda m=each: [m.say(f"{n}") for n in range(20)]) for each in two]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: [len(each.said()) for each in two] == [42, 42])
    until(lambda: two[0].said() == two[1].said())


def test_one_process_at_a_time(two: tuple[Machine, Machine], tmp_path: Path, place: MemoryPlace) -> None:
    again = Machine(tmp_path / "one", place, ManualClock())
    with pytest.raises(LockTimeoutError):
        two[0].sync.with_carrier(WS, "it", lambda _: again.push())
    again.close()


def test_a_copy_is_not_pulled_from(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="os") as manager, Synchronizer(manager, [MemoryTarget()]) as sync:
        with pytest.raises(InvalidInputError, match="two_way"):
            sync.pull()
        with pytest.raises(InvalidInputError, match="nobody"):
            sync.pull(target="nobody")


def test_a_repair_brings_together_what_differs(two: tuple[Machine, Machine], place: MemoryPlace) -> None:
    one, _ = two
    del place.versions[WS, Key("message", "a")]
    stale = place.versions[WS, Key("message", "b")]
    place.write(WS, [stale._replace(number=2, body={**(stale.body or {}), "content": "there"})])
    found = {each.key.id: each.problem for each in one.sync.verify(WS, target="it")}
    assert found["a"] == "missing"
    one.sync.verify(WS, target="it", repair=True)
    settle(*two)
    assert one.said()[0] == "a"
