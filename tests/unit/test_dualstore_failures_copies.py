"""The failures of the original's dual store that its like here must not have; numbered as in the list of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager
from nomad_sessions.dualstore import DualStoreManager
from nomad_sessions.errors import NotConfirmedError, TargetUnavailableError
from nomad_sessions.sync import Applied, Change, Key, MemoryTarget, Rejected
from tests.support.there import there

WS = "ws"


class Counted(MemoryTarget):
    """Counts what it is asked; may be away, or hang until the gate opens."""

    def __init__(self, name: str = "memory") -> None:
        super().__init__(name)
        self.away = False
        self.gate = threading.Event()
        self.gate.set()
        self.pings = 0
        self.applied: list[Key] = []

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        assert self.gate.wait(30)
        if self.away:
            raise TargetUnavailableError(target=self.name, reason="away")
        bad = [each for each in changes if "poison" in str(each.body)]
        good = [each for each in changes if each not in bad]
        self.applied += [each.key for each in good]
        done = super().apply(good, force=force)
        return done._replace(rejected=[Rejected(each.key, each.rev, "poison") for each in bad])

    def ping(self) -> None:
        self.pings += 1


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


@pytest.fixture
def target() -> Counted:
    return Counted()


def strict(m: NativeSessionManager, target: MemoryTarget) -> DualStoreManager:
    return DualStoreManager(m, WS, [target], consistency="strict")


def message(name: str | None, text: str) -> dict[str, Any]:
    return {"id": name, "text": text, "metadata": {"sessionId": "s"}}


def text_of(target: MemoryTarget, name: str) -> str:
    body = target.records[WS, Key("message", name)].body
    assert body is not None
    return str(body["content"])


# 3.1 Identity and duplication


def test_dualstore_1_a_second_insert_of_an_id_is_a_change_here_and_there(
    m: NativeSessionManager, target: Counted
) -> None:
    with strict(m, target) as store:
        for text in ("first", "second"):
            store.insert(message("a", text))
        assert there(store.get("a")).text == "second"
        assert text_of(target, "a") == "second"
        assert len(target.scan(WS, "message")) == 1
        assert [each.text for each in store.get_most_recent()] == ["second"]


def test_dualstore_2_3_an_id_is_kept_and_can_be_asked_for(m: NativeSessionManager, target: Counted) -> None:
    with strict(m, target) as store:
        assert store.insert(message("mine", "x")) == "mine"
        made = store.insert(message(None, "y"))
        listed = [each.id for each in store.get_most_recent()]
        assert sorted(listed) == sorted(["mine", made])
        assert all(store.get(each) is not None for each in listed)


def test_dualstore_6_the_messages_of_a_session_are_a_list_of_all_of_them(m: NativeSessionManager) -> None:
    with DualStoreManager(m, WS) as store:
        for n in range(3):
            item = {"id": f"m{n}", "content": str(n), "role": "user"}
            store.insert({"id": "session:s:messages", "text": json.dumps([item])})
        assert len(json.loads(there(store.get("session:s:messages")).text)) == 3


def test_dualstore_7_messages_that_say_the_same_are_all_found(m: NativeSessionManager) -> None:
    with DualStoreManager(m, WS) as store:
        for name in ("a", "b"):
            store.insert(message(name, "yes"))
        assert {each.entry.id for each in store.get_most_relevant(["yes"]).hits} == {"a", "b"}


def test_dualstore_9_reading_entries_makes_none(m: NativeSessionManager) -> None:
    with DualStoreManager(m, WS, collection="opencode_events") as store:
        store.insert({"id": "event:e", "text": '{"type": "noted"}'})
        seq = m.status(WS).seq
        for _ in range(3):
            assert [each.id for each in store.get_most_recent()] == ["event:e"]
        assert m.status(WS).seq == seq


def test_dualstore_10_text_that_is_no_session_is_refused_and_not_guessed(m: NativeSessionManager) -> None:
    with DualStoreManager(m, WS) as store:
        for text in ("# Session: Fix kanban\n\n**ID:** ses_1", "Session: abc123"):
            with pytest.raises(InvalidInputError, match="must be JSON"):
                store.insert({"id": "session:x", "text": text})
        assert store.get("session:x") is None


# 3.2 Times


def test_dualstore_17_18_19_a_time_is_the_entry_s_one_type_and_never_guessed(m: NativeSessionManager) -> None:
    with DualStoreManager(m, WS) as store:
        for name, given in (("a", 1_760_748_071_727), ("b", "2025-10-18T00:41:11.727Z")):
            store.insert({**message(name, "x"), "timestamp": given})
            assert there(store.get(name)).timestamp == 1_760_748_071_727
        with pytest.raises(InvalidInputError, match="timestamp"):
            store.insert({**message("c", "x"), "timestamp": "not a date"})
        assert store.get("c") is None


# 3.4 Writes, storms, connections


def test_dualstore_37_the_record_is_first_and_no_insert_waits_for_a_copy(
    m: NativeSessionManager, target: Counted
) -> None:
    target.gate.clear()
    with DualStoreManager(m, WS, [target]) as store:
        for n in range(50):
            store.insert(message(f"m{n}", "x"))
        assert len(store.get_most_recent(100)) == 50
        assert target.applied == []
        target.gate.set()
    target.away = True
    with strict(m, target) as store:
        with pytest.raises(NotConfirmedError):
            store.insert(message("last", "x"))
        assert there(store.get("last")).text == "x"


def test_dualstore_38_what_was_not_sent_is_sent_by_the_next_one_and_one_bad_row_costs_itself(
    m: NativeSessionManager, target: Counted
) -> None:
    target.away = True
    with DualStoreManager(m, WS, [target]) as store:
        for n in range(30):
            store.insert(message(f"m{n}", "poison" if n == 7 else "x"))
        assert store.queue_stats()[0].behind
    target.away = False
    with strict(m, target) as store:
        store.insert(message("last", "x"))
        assert len(target.scan(WS, "message")) == 30
        (status,) = store.queue_stats()
        assert (status.behind, status.dead) == (0, 1)


def test_dualstore_39_a_changed_text_replaces_its_copy(m: NativeSessionManager, target: Counted) -> None:
    with strict(m, target) as store:
        store.insert(message("a", "old"))
        store.insert(message("a", "new"))
        assert text_of(target, "a") == "new"
        m.delete_message(WS, "a")
        store.insert(message("b", "x"))
        assert [each.id for each in target.scan(WS, "message")] == ["b"]


def test_dualstore_40_nobody_is_pinged_and_closing_closes_what_is_one_s_own(
    m: NativeSessionManager, target: Counted
) -> None:
    with strict(m, target) as store:
        store.insert(message("a", "x"))
        store.get("a")
    assert target.pings == 0
    store.close()
    m.add_message(WS, "s", role="user", content="the manager goes on")
    with strict(m, target) as other:
        other.insert(message("b", "x"))


def test_dualstore_42_what_did_not_change_is_not_sent_again(m: NativeSessionManager, target: Counted) -> None:
    with strict(m, target) as store:
        store.insert(message("a", "x"))
        target.applied.clear()
        store.insert(message("b", "y"))
        assert Key("message", "a") not in target.applied
        assert target.applied.count(Key("message", "b")) == 1


def test_dualstore_45_what_is_deleted_here_goes_there(m: NativeSessionManager, target: Counted) -> None:
    with strict(m, target) as store:
        store.insert(message("a", "x"))
        m.create_session(WS, id="old")
        m.add_message(WS, "old", id="b", role="user", content="x")
        m.delete_session(WS, "old")
        store.insert(message("c", "x"))
        assert [each.id for each in target.scan(WS, "message")] == ["a", "c"]
        assert [each.id for each in target.scan(WS, "session")] == ["s"]


def test_dualstore_46_a_batch_is_all_or_nothing(m: NativeSessionManager) -> None:
    m.create_session(WS, id="t")
    m.add_message(WS, "t", id="taken", role="user", content="x")
    items = [{"id": "m1", "content": "x"}, {"id": "taken", "content": "y"}]
    with DualStoreManager(m, WS) as store:
        with pytest.raises(Exception, match="exists already"):
            store.insert({"id": "session:s:messages", "text": json.dumps(items)})
        assert store.get("m1") is None


def test_dualstore_48_the_report_finds_an_old_failure(m: NativeSessionManager, target: Counted) -> None:
    with strict(m, target) as store:
        for n in range(300):
            m.add_message(WS, "s", id=f"m{n:03}", role="user", content="x")
        store.insert(message("last", "x"))
        del target.records[WS, Key("message", "m000")]
        assert store.get_consistency_report()["memory"].missing == [Key("message", "m000")]
        assert store.retry_vector_write("m000") == {}
        assert store.get_consistency_report()["memory"].missing == []


def test_dualstore_57_what_is_told_twice_is_there_once(m: NativeSessionManager, target: Counted) -> None:
    with strict(m, target) as store:
        store.insert(message("a", "x"))
        for _ in range(2):
            assert store.retry_vector_write("a") == {}
        assert [each.id for each in target.scan(WS, "message")] == ["a"]
        assert target.applied.count(Key("message", "a")) >= 3
