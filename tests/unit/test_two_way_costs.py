"""What an exchange asks the place, and when: nothing twice, nothing of what is known, and whoever is cut short in the
middle, by an error, by a Ctrl-C, by who closes, goes on from there and tells others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import TargetUnavailableError
from nomad_sessions.clock import ManualClock
from nomad_sessions.sync.target import Kind
from nomad_sessions.sync.two_way import MemoryPlace, exchange, fetching, glance
from nomad_sessions.sync.two_way.shadow import Shadow
from nomad_sessions.sync.two_way.versions import Version
from tests.support.subscribers import until
from tests.unit.test_two_way import WS, Machine, settle

MANY = 60


class Counted(MemoryPlace):
    """A place that counts what it is asked; `before` is called first, with the name of the method."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str], object] = lambda _: None

    def _asked(self, name: str) -> None:
        self.calls[name] += 1
        self.before(name)

    def read(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Version]:
        self._asked("read")
        return super().read(workspace_id, kind, ids)

    def numbers(self, workspace_id: str, kind: Kind, since: int | None) -> Any:
        self._asked("numbers")
        return super().numbers(workspace_id, kind, since)

    def announce(self, workspace_id: str) -> None:
        self._asked("announce")
        super().announce(workspace_id)


@pytest.fixture
def place() -> Counted:
    return Counted()


@pytest.fixture
def two(tmp_path: Path, place: Counted) -> Iterator[tuple[Machine, Machine]]:
    """One that has sent many sessions, and one that has nothing yet."""
    clock = ManualClock()
    one, other = (Machine(tmp_path / name, place, clock) for name in ("one", "other"))
    with one.store.transaction(WS) as all_at_once:
        for n in range(MANY):
            all_at_once.create_session(WS, id=f"s{n:02}")
            for m in range(4):
                all_at_once.add_message(WS, f"s{n:02}", role="user", content=f"{n} {m}")
    one.push()
    yield one, other
    for each in (one, other):
        each.close()


def again(machine: Machine) -> Any:
    """What a push does in another process."""
    machine.close()
    machine.open()
    return machine.push()


def test_another_process_looks_at_nothing_where_nothing_is_new(two: tuple[Machine, Machine], place: Counted) -> None:
    for each in two:
        each.push()
        place.calls.clear()
        assert (again(each).fetched, place.calls) == (0, {})
    two[0].say("one more", "s00")
    two[0].push()
    place.calls.clear()
    assert again(two[1]).fetched == 2
    assert place.calls["read"] == 2
    settle(*two)


def test_everything_is_looked_at_now_and_then_and_where_a_clock_was_set_back(
    two: tuple[Machine, Machine], place: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = two
    other.push()
    now = time.time()
    for late in (glance._LOOK_AT_ALL_EVERY + 1, -60.0):
        monkeypatch.setattr(time, "time", lambda late=late: now + late)
        place.calls.clear()
        again(other)
        assert place.calls["numbers"] == 6


def test_many_sessions_are_fetched_with_few_questions(two: tuple[Machine, Machine], place: Counted) -> None:
    place.calls.clear()
    assert two[1].push().fetched == 5 * MANY
    assert place.calls["read"] == 2
    settle(*two)


def test_the_log_is_followed_while_much_is_fetched(
    two: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its retention would else take what was not followed yet, and the next push would compare the whole."""
    monkeypatch.setattr(exchange, "_READ_ON", 50)
    _, other = two
    behind: list[int | None] = []
    other.sync.push(WS, progress=lambda *_: behind.append(other.sync.status(WS)[0].behind))
    assert len(behind) >= MANY
    assert max(filter(None, behind)) < 150
    assert other.sync.status(WS)[0].behind == 0
    assert other.push().compared == ""


@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_what_was_sent_and_not_announced_is_announced_by_the_next_push(
    two: tuple[Machine, Machine], place: Counted, how: str
) -> None:
    one, other = two
    other.push()
    if how == "edited":
        one.store.update_session(WS, "s00", title="new")
    else:
        one.store.delete_session(WS, "s00")

    def away(name: str) -> None:
        if name == "announce":
            raise TargetUnavailableError(target="it", reason="not now")

    place.before = away
    with pytest.raises(TargetUnavailableError):
        one.push()
    place.before = lambda _: None
    again(one)
    assert other.push().fetched > 0
    settle(*two)


def test_who_closes_waits_for_a_piece_and_not_for_the_whole(
    two: tuple[Machine, Machine], place: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = two
    courier = other.sync._couriers["it"]
    begun = threading.Event()
    monkeypatch.setattr(fetching, "AT_ONCE", 20)

    def wait(name: str) -> None:
        if name == "read" and place.calls["read"] == 2:  # In the middle: it was told to end before it goes on.
            begun.set()
            until(lambda: courier._stopped)

    place.calls.clear()
    place.before = wait
    other.store.create_session(WS, id="mine")
    other.sync.start()
    assert begun.wait(20)
    other.sync.close()
    assert place.calls["read"] == 2
    assert 1 < len(other.store.list_sessions(WS)) < 10
    assert other.sync.status(WS)[0].error is None
    place.before = lambda _: None
    settle(*two)


def test_a_ctrl_c_while_it_closes_leaves_the_workspace_free(
    two: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    close = Shadow.close
    pressed: list[bool] = []

    def interrupted(self: Shadow) -> None:
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        close(self)

    monkeypatch.setattr(Shadow, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.push()
    settle(one, other)


@pytest.mark.parametrize("after", [1, 2, 90, 240])
def test_a_ctrl_c_in_the_middle_of_a_fetch_loses_nothing(two: tuple[Machine, Machine], after: int) -> None:
    one, other = two

    def pressed(_: str, __: str, count: int) -> None:
        if count >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        other.sync.push(WS, progress=pressed)
    one.say("meanwhile", "s00")
    other.store.create_session(WS, id="mine")
    assert other.push().compared == ""
    settle(*two)
