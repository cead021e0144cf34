"""Reading through when something is wrong: a source that fails for a while, has half of it or answers with garbage; a
store that cannot be written; several who ask at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager
from nomad_sessions.errors import SourcesFailedError, TargetUnavailableError
from nomad_sessions.sources import TargetSource, read_through
from nomad_sessions.sources.asking import Asked
from nomad_sessions.sync import Change, MemoryTarget, Synchronizer
from nomad_sessions.sync.target import Kind
from tests.support.there import there

WS = "ws"


class Copy(MemoryTarget):
    """One that may be killed, and tells of what it is asked."""

    dead = False

    def __init__(self, name: str = "memory") -> None:
        super().__init__(name)
        self.fetched: list[tuple[Kind, Collection[str]]] = []
        self.before: Callable[[], None] = lambda: None

    def scan(self, *args: Any, **options: Any) -> Any:
        self._check()
        return super().scan(*args, **options)

    def fetch(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Change]:
        self._check()
        self.fetched.append((kind, list(ids)))
        found = super().fetch(workspace_id, kind, ids)
        self.before()
        return found

    def _check(self) -> None:
        if self.dead:
            raise TargetUnavailableError(target=self.name, reason="killed")

    def change(self, kind: Kind, name: str, **fields: Any) -> None:
        """As if somebody had changed it there; None takes a field away."""
        place, known = next(each for each in self.records.items() if each[0][1] == (kind, name))
        body = {key: value for key, value in {**(known.body or {}), **fields}.items() if value is not None}
        self.records[place] = known._replace(rev=known.rev + 100, body=body)

    def lose(self, kind: Kind, name: str) -> Change:
        return self.records.pop(next(each for each in self.records if each[1] == (kind, name)))


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "local", durability="os", lock_timeout=0.05) as manager:
        yield manager


@pytest.fixture
def other(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "other", durability="os") as manager:
        for n in range(5):
            manager.create_session(WS, id=f"s{n}", title=f"Session {n}", created_at=n + 1)
            manager.update_session(WS, f"s{n}", updatedAt=100 + n)
            manager.add_message(WS, f"s{n}", id=f"m{n}", role="user", content="hello")
            manager.update_session(WS, f"s{n}", updatedAt=100 + n)
        manager.create_task(WS, "s1", id="t", status="running", progress=10)
        manager.record_events(WS, [{"type": "noted", "session_id": "s1", "id": "e", "timestamp": 7}])
        yield manager


@pytest.fixture
def copy(other: NativeSessionManager) -> Copy:
    copy = Copy()
    with Synchronizer(other, [copy]) as synchronizer:
        synchronizer.push(WS)
    return copy


def test_a_failure_is_said_until_the_source_was_asked_again() -> None:
    now = 100.0
    asked = Asked(60, lambda: now)
    key = ("session", WS, "s")
    assert asked.fresh(key) is None
    asked.note(key, asked.moment, {})
    now += 59.9
    assert asked.fresh(key) == {}
    now += 0.1
    assert asked.fresh(key) is None
    asked.note(key, asked.moment, {"one": "away"})
    now += 4.9
    assert asked.fresh(key) == {"one": "away"}
    now += 0.1
    assert asked.fresh(key) is None
    moment = asked.moment
    asked.forget(WS, "another")
    asked.note(key, moment, {})
    assert asked.fresh(key) is None, "what was read while something changed may be older"
    for n in range(10_001):
        asked.note(("session", WS, str(n)), asked.moment, {})
        now += 0.01
    assert len(asked._notes) < 10_001


def test_an_answer_from_here_names_who_could_not_say_so_that_it_is_not_taken_for_all(
    m: NativeSessionManager, copy: Copy
) -> None:
    empty = MemoryTarget("empty")
    copy.dead = True
    with read_through(m, [TargetSource(copy), TargetSource(empty)]) as through:
        for _ in range(2):
            answer = through.list_sessions(WS)
            assert (answer.value, list(answer.failed), answer.is_certain) == ([], ["memory"], False)
        copy.dead = False
        through.invalidate()
        assert len(through.list_sessions(WS).value) == 5
        assert through.get_session(WS, "s1").is_certain
        copy.dead = True
        through.invalidate()
        for _ in range(2):
            assert list(through.get_session(WS, "s1").failed) == ["memory"]
        missed = through.get_session(WS, "never")
        assert (missed.value, missed.is_certain) == (None, False)


def test_half_of_a_session_is_given_as_such_and_not_kept(m: NativeSessionManager, copy: Copy) -> None:
    lost = copy.lose("message", "m1")
    with read_through(m, [TargetSource(copy)]) as through:
        answer = through.messages(WS, "s1")
        assert (answer.value, answer.source) == ([], "memory")
        assert "lacks 1 messages" in answer.failed["memory"]
        assert m.get_session(WS, "s1") is None
        copy.records[WS, lost.key] = lost
        assert [each.id for each in through.messages(WS, "s1").value] == ["m1"]
        copy.lose("message", "m1")
        through.invalidate()
        answer = through.messages(WS, "s1")
        assert ([each.id for each in answer.value], list(answer.failed)) == (["m1"], ["memory"])


def test_half_of_a_list_is_a_list_with_what_failed(m: NativeSessionManager, copy: Copy) -> None:
    copy.lose("message", "m1")
    copy.change("session", "s2", title=3)
    with read_through(m, [TargetSource(copy)]) as through:
        for _ in range(2):
            answer = through.list_sessions(WS)
            assert [each.id for each in answer.value] == ["s4", "s3", "s1", "s0"]
            assert list(answer.failed) == ["memory"]
        assert m.list_sessions(WS).total == 3
        with pytest.raises(SourcesFailedError, match="cannot be read"):
            through.get_session(WS, "s2")


def test_a_store_that_cannot_be_written_answers_all_the_same(m: NativeSessionManager, copy: Copy) -> None:
    m.create_session(WS, id="here")
    with read_through(m, [TargetSource(copy)]) as through:
        with filelock.FileLock(Path(m.data_dir) / WS / "lock"):
            assert [each.content for each in through.messages(WS, "s1").value] == ["hello"]
            assert [each.id for each in through.tasks(WS, "s1").value] == ["t"]
            assert [each.id for each in through.events(WS, "s1").value] == ["e"]
            for _ in range(2):
                assert len(through.list_sessions(WS).value) == 6
            assert m.list_sessions(WS).total == 1
        assert [each.id for each in through.tasks(WS, "s1").value] == ["t"]
        assert m.get_session(WS, "s1") is not None


def test_what_began_here_needs_no_source_to_have_no_tasks(m: NativeSessionManager, copy: Copy) -> None:
    m.create_session(WS, id="here")
    copy.dead = True
    with read_through(m, [TargetSource(copy)]) as through:
        assert through.tasks(WS, "here") == ([], "local", {})
        assert through.events(WS, "here") == ([], "local", {})


def test_a_task_that_changes_there_changes_here_unless_it_began_here(m: NativeSessionManager, copy: Copy) -> None:
    with read_through(m, [TargetSource(copy)], ttl=0) as through:
        assert through.tasks(WS, "s1").value[0].progress == 10
        m.create_task(WS, "s1", id="ours")
        m.update_task(WS, "t", progress=20)
        seq = m.status(WS).seq
        assert {each.id: each.progress for each in through.tasks(WS, "s1").value} == {"t": 20, "ours": 0}
        assert m.status(WS).seq == seq
        copy.change("task", "t", status="failed", errorMessage="no", updatedAt=9)
        found = {each.id: each for each in through.tasks(WS, "s1").value}
        assert (found["t"].status, found["t"].error_message, found["t"].updated_at) == ("failed", "no", 9)
        assert found["ours"].status == "pending"
        copy.change("task", "t", status="running", errorMessage=None)
        assert {each.id: each.status for each in through.tasks(WS, "s1").value}["t"] == "running"


def test_what_is_changed_here_stays_until_it_changes_there(m: NativeSessionManager, copy: Copy) -> None:
    with read_through(m, [TargetSource(copy)], ttl=0) as through:
        through.get_session(WS, "s1")
        m.update_message(WS, "m1", content="ours")
        m.update_session(WS, "s1", title="Ours")
        assert [each.content for each in through.messages(WS, "s1").value] == ["ours"]
        assert there(through.get_session(WS, "s1").value).title == "Ours"
        copy.change("message", "m1", content="theirs")
        assert [each.content for each in through.messages(WS, "s1").value] == ["theirs"]
        copy.lose("session", "s1")
        assert [each.content for each in through.messages(WS, "s1").value] == ["theirs"]
        copy.change("session", "s2", title="Newer there")
        assert "Newer there" in [each.title for each in through.list_sessions(WS).value]


def test_a_revert_there_to_the_first_message_hides_what_was_added_here_too(m: NativeSessionManager, copy: Copy) -> None:
    with read_through(m, [TargetSource(copy)], ttl=0) as through:
        through.get_session(WS, "s1")
        m.add_message(WS, "s1", id="ours", role="user", content="a note")
        copy.change("session", "s1", messageIds=[], hiddenIds=["m1"], updatedAt=500)
        assert through.messages(WS, "s1").value == []
        m.unrevert(WS, "s1")
        assert [each.id for each in m.get_session_messages(WS, "s1")] == ["m1", "ours"]


def test_threads_that_miss_the_same_ask_once(m: NativeSessionManager, copy: Copy) -> None:
    asked = threading.Event()
    go_on = threading.Event()

    def wait() -> None:
        asked.set()
        assert go_on.wait(10)

    copy.before = wait
    with read_through(m, [TargetSource(copy)]) as through:
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(through.get_session(WS, "s1"))) for _ in range(6)]
        for each in threads:
            each.start()
        assert asked.wait(10)
        go_on.set()
        for each in threads:
            each.join(10)
        assert [there(each.value).id for each in found] == ["s1"] * 6
    assert copy.fetched == [("session", ["s1"]), ("message", ["m1"])]


def test_what_is_invalidated_while_it_is_read_is_asked_for_again(m: NativeSessionManager, copy: Copy) -> None:
    with read_through(m, [TargetSource(copy)]) as through:

        def change_at_once() -> None:
            copy.before = lambda: None
            copy.change("session", "s1", title="Changed meanwhile", updatedAt=500)
            through.invalidate(WS, "s1")

        copy.before = change_at_once
        assert there(through.get_session(WS, "s1").value).title == "Session 1"
        assert there(through.get_session(WS, "s1").value).title == "Changed meanwhile"


def test_warming_brings_as_many_as_it_says_and_goes_on_where_it_was_interrupted(
    m: NativeSessionManager, copy: Copy
) -> None:
    def die_after_one() -> None:
        copy.dead = m.list_sessions(WS).total > 0

    copy.before = die_after_one
    with read_through(m, [TargetSource(copy)]) as through:
        with pytest.raises(SourcesFailedError):
            through.warm(WS, sessions=3)
        assert [each.id for each in m.list_sessions(WS)] == ["s4"]
        copy.dead, copy.before = False, lambda: None
        assert through.warm(WS, sessions=3) == 3
        assert [each.id for each in m.list_sessions(WS)] == ["s4", "s3", "s2"]
    with read_through(m) as through:
        assert through.warm("nowhere") == 0


def test_a_session_s_own_record_costs_none_of_its_messages(m: NativeSessionManager, copy: Copy) -> None:
    class Counting(NativeSessionManager):
        def get_session_messages(self, *args: Any, **options: Any) -> Any:
            raise AssertionError("its messages are read")

    m.create_session(WS, id="here")
    m.add_message(WS, "here", role="user", content="x")
    with Counting(m.data_dir) as counting, read_through(counting, [TargetSource(copy)]) as through:
        assert through.get_session(WS, "here").source == "local"
        assert through.tasks(WS, "here").value == []


def test_a_failure_is_counted_once_and_bad_arguments_are_named(m: NativeSessionManager, copy: Copy) -> None:
    copy.lose("message", "m1")
    with read_through(m, [TargetSource(copy)]) as through:
        through.list_sessions(WS)
        numbers = through.metrics()["memory"]
        assert (numbers.asked, numbers.hits, numbers.failures) == (6, 6, 0)
        for wrong in (0, -1, True, "3"):
            with pytest.raises(InvalidInputError, match="limit"):
                through.search_sessions(WS, "x", limit=wrong)  # type: ignore[arg-type]
            with pytest.raises(InvalidInputError, match="sessions"):
                through.warm(WS, sessions=wrong)  # type: ignore[arg-type]
    for ttl in (-1, float("nan"), "60", True):
        with pytest.raises(InvalidInputError, match="ttl"):
            read_through(m, ttl=ttl)  # type: ignore[arg-type]
