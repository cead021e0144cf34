"""Reading through: what is not here comes from elsewhere, whole, once; and no error looks like an empty answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager
from nomad_sessions.errors import SourcesFailedError, TargetUnavailableError
from nomad_sessions.sources import ReadThrough, TargetSource, read_through
from nomad_sessions.sync import Change, MemoryTarget, Synchronizer
from tests.support.damage import long_damaged

WS = "ws"


class Mortal(MemoryTarget):
    """A copy that can be killed, and counts what it is asked."""

    dead = False
    asked = 0

    def scan(self, *args: Any, **options: Any) -> Any:
        self._check()
        return super().scan(*args, **options)

    def fetch(self, *args: Any) -> dict[str, Change]:
        self._check()
        return super().fetch(*args)

    def _check(self) -> None:
        if self.dead:
            raise TargetUnavailableError(target=self.name, reason="killed")
        self.asked += 1


def filled(folder: Path, name: str, session: str) -> Mortal:
    """A copy of another store that has one session with all that belongs to it."""
    target = Mortal(name)
    with NativeSessionManager(folder / name, durability="os") as other:
        other.create_session(WS, id=session, title=f"Session of {name}", created_at=5)
        for n in range(4):
            other.add_message(WS, session, id=f"{session}-{n}", role="user", content=f"text {n}")
        other.revert(WS, session, f"{session}-2")
        other.create_task(WS, session, id=f"task-{session}", task_type="review", status="running")
        other.record_events(WS, [{"type": "noted", "session_id": session, "id": f"event-{session}", "timestamp": 7}])
        other.record_event(WS, "other", session_id="another")
        with Synchronizer(other, [target]) as synchronizer:
            synchronizer.push(WS)
    return target


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "local", durability="os") as manager:
        yield manager


@pytest.fixture
def one(tmp_path: Path) -> Mortal:
    return filled(tmp_path, "one", "s1")


@pytest.fixture
def two(tmp_path: Path) -> Mortal:
    return filled(tmp_path, "two", "s2")


@pytest.fixture
def through(m: NativeSessionManager, one: Mortal, two: Mortal) -> Iterator[ReadThrough]:
    with read_through(m, [TargetSource(one), TargetSource(two)]) as found:
        yield found


def reads(through: ReadThrough) -> dict[str, Callable[[str], Any]]:
    return {
        "get_session": lambda session: through.get_session(WS, session),
        "messages": lambda session: through.messages(WS, session),
        "events": lambda session: through.events(WS, session),
        "tasks": lambda session: through.tasks(WS, session),
        "list_sessions": lambda session: through.list_sessions(WS),
        "search_sessions": lambda session: through.search_sessions(WS, "SESSION OF"),
    }


def test_a_miss_comes_from_the_first_that_has_it_whole_and_is_then_here(
    m: NativeSessionManager, through: ReadThrough, one: Mortal, two: Mortal
) -> None:
    found = through.get_session(WS, "s2")
    assert (found.source, found.failed) == ("two", {})
    assert found.value is not None
    assert (found.value.id, found.value.title, found.value.created_at) == ("s2", "Session of two", 5)
    assert [each.content for each in m.get_session_messages(WS, "s2")] == ["text 0", "text 1", "text 2"]
    assert m.get_session_messages(WS, "s2", include_reverted=True).total == 4
    one.dead = two.dead = True
    again = through.messages(WS, "s2")
    assert (again.source, [each.id for each in again.value]) == ("local", ["s2-0", "s2-1", "s2-2"])
    assert again.failed == {}


def test_every_kind_of_read_is_written_through_once_with_its_ids(m: NativeSessionManager, through: ReadThrough) -> None:
    assert [each.id for each in through.tasks(WS, "s1").value] == ["task-s1"]
    assert through.events(WS, "s1").source == "one"
    assert [(each.id, each.timestamp) for each in m.events(WS, recorded=True)] == [("event-s1", 7)]
    seq = m.status(WS).seq
    through.invalidate()
    assert [each.id for each in through.tasks(WS, "s1").value] == ["task-s1"]
    assert [each.id for each in through.events(WS, "s1").value] == ["event-s1"]
    assert [each.id for each in through.messages(WS, "s1").value] == ["s1-0", "s1-1", "s1-2"]
    assert m.status(WS).seq == seq
    listed = through.list_sessions(WS)
    assert {each.id for each in listed.value} == {"s1", "s2"}
    assert listed.source == "two"
    assert m.get_session_messages(WS, "s2").total == 3


def test_a_search_is_of_all_sources(through: ReadThrough) -> None:
    assert {each.id for each in through.search_sessions(WS, "session OF").value} == {"s1", "s2"}
    assert [each.id for each in through.search_sessions(WS, "of two").value] == ["s2"]
    assert through.search_sessions(WS, "nothing of that").value == []
    assert len(through.search_sessions(WS, "session", limit=1).value) == 1
    with pytest.raises(InvalidInputError, match="query"):
        through.search_sessions(WS, "")


@pytest.mark.parametrize("read", ["get_session", "messages", "events", "tasks", "list_sessions", "search_sessions"])
def test_one_that_is_dead_is_named_and_all_of_them_raise(
    read: str, through: ReadThrough, one: Mortal, two: Mortal, caplog: pytest.LogCaptureFixture
) -> None:
    one.dead = True
    found = reads(through)[read]("s2")
    assert list(found.failed) == ["one"]
    assert "killed" in found.failed["one"]
    assert found.value
    assert any(each.levelno == logging.WARNING and "killed" in each.message for each in caplog.records)


@pytest.mark.parametrize("read", ["get_session", "messages", "events", "tasks", "list_sessions", "search_sessions"])
def test_all_of_them_dead_raises_with_every_reason(read: str, through: ReadThrough, one: Mortal, two: Mortal) -> None:
    one.dead = two.dead = True
    with pytest.raises(SourcesFailedError) as caught:
        reads(through)[read]("s2")
    assert set(caught.value.errors) == {"one", "two"}
    one.dead = False
    value = reads(through)[read]("s3").value
    assert not value or read in ("list_sessions", "search_sessions")


def test_a_damaged_store_is_a_source_that_failed(
    m: NativeSessionManager, through: ReadThrough, one: Mortal, two: Mortal
) -> None:
    m.create_session(WS, id="here")
    m.checkpoint(WS)
    m.clear_workspace(WS)
    folder = Path(m.data_dir) / WS
    long_damaged(*folder.glob("sessions.json*"), *folder.glob("journal/*"), data=b"\x00" * 100)
    found = through.get_session(WS, "s1")
    assert found.value is not None
    assert (found.source, found.value.title, list(found.failed)) == ("one", "Session of one", ["local"])
    one.dead = two.dead = True
    with pytest.raises(SourcesFailedError) as caught:
        through.get_session(WS, "s1")
    assert set(caught.value.errors) == {"local", "one", "two"}


def test_what_began_here_is_read_here(m: NativeSessionManager, through: ReadThrough, one: Mortal, two: Mortal) -> None:
    m.create_session(WS, id="here")
    m.add_message(WS, "here", role="user", content="x")
    one.asked = two.asked = 0
    assert through.get_session(WS, "here").source == "local"
    assert len(through.messages(WS, "here").value) == 1
    assert one.asked + two.asked == 0


def change_title(target: Mortal, session: str, title: str) -> None:
    ((place, known),) = [each for each in target.records.items() if each[0][1] == ("session", session)]
    assert known.body is not None
    target.records[place] = known._replace(
        rev=known.rev + 100, body={**known.body, "title": title, "updatedAt": known.rev + 10**14}
    )


def test_a_change_elsewhere_comes_after_the_ttl_or_an_invalidation(m: NativeSessionManager, one: Mortal) -> None:
    with read_through(m, [TargetSource(one)]) as through:
        through.get_session(WS, "s1")
        through.list_sessions(WS)
        change_title(one, "s1", "Changed")
        assert [each.title for each in through.list_sessions(WS).value] == ["Session of one"]
        through.invalidate("another workspace")
        through.invalidate(WS, "another session")
        found = through.get_session(WS, "s1")
        assert found.value is not None
        assert (found.source, found.value.title) == ("local", "Session of one")
        through.invalidate(WS, "s1")
        found = through.get_session(WS, "s1")
        assert found.value is not None
        assert (found.source, found.value.title) == ("one", "Changed")
        change_title(one, "s1", "Again")
        through.invalidate()
        assert [each.title for each in through.list_sessions(WS).value] == ["Again"]
    with read_through(m, [TargetSource(one)], ttl=0) as through:
        change_title(one, "s1", "At once")
        found = through.get_session(WS, "s1")
        assert found.value is not None
        assert found.value.title == "At once"
        one.dead = True
        found = through.get_session(WS, "s1")
        assert (found.source, list(found.failed)) == ("local", ["one"])
        one.dead = False
        one.records.clear()
        assert through.get_session(WS, "s1").value is not None


def test_warming_brings_the_newest_and_the_numbers_say_who_had_what(
    through: ReadThrough, one: Mortal, two: Mortal
) -> None:
    assert through.warm(WS) == 2
    one.dead = two.dead = True
    assert through.messages(WS, "s1").source == "local"
    numbers = through.metrics()
    assert list(numbers) == ["local", "one", "two"]
    assert numbers["one"].hits > 0
    assert numbers["one"].failures == 0
    assert numbers["local"].hit_rate is not None
    through.invalidate()
    with pytest.raises(SourcesFailedError):
        through.get_session(WS, "never")
    assert through.metrics()["one"].failures >= 1
    one.dead = False
    assert through.get_session(WS, "never").value is None


def test_two_sources_of_one_name_are_refused(m: NativeSessionManager) -> None:
    with pytest.raises(InvalidInputError, match="memory"):
        read_through(m, [TargetSource(MemoryTarget()), TargetSource(MemoryTarget())])
    with pytest.raises(InvalidInputError, match="local"):
        read_through(m, [TargetSource(MemoryTarget("local"))])


def test_without_sources_it_is_the_store(m: NativeSessionManager) -> None:
    with read_through(m) as through:
        assert through.get_session(WS, "s").value is None
        assert through.list_sessions(WS).value == []


def test_a_copy_without_tasks_and_events_is_asked_for_neither(m: NativeSessionManager, one: Mortal) -> None:
    one.kinds = ("session", "message")
    with read_through(m, [TargetSource(one)]) as through:
        assert through.tasks(WS, "s1").value == []
        assert through.events(WS, "s1").value == []
