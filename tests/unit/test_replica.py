"""A live copy of a session: what it begins with, what it refuses, and when it is given the whole again."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, InvalidWorkspaceIdError, NativeSessionManager, SessionReplica
from nomad_sessions.connections.replica import SNAPSHOT
from nomad_sessions.events import Subscription, feed
from nomad_sessions.models import Event
from nomad_sessions.workspace.store import Workspace
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        manager.add_message(WS, "s", id="m", role="user", content="hi", metadata={"deep": [1]})
        yield manager


def read_on(m: NativeSessionManager, subscription: Subscription, replica: SessionReplica) -> list[str]:
    goal = m.record_event(WS, "marked", session_id="s")
    heard = []
    while replica.seq < goal:
        event = there(subscription.next(5))
        heard.append(event.type)
        replica.apply(event)
    assert replica.session == m.get_session(WS, "s")
    assert replica.messages == list(m.get_session_messages(WS, "s"))
    return heard


def test_it_begins_with_the_whole_at_a_seq_and_goes_on_from_exactly_there(m: NativeSessionManager) -> None:
    subscription = m.follow_session(WS, "s")
    at = m.status(WS).seq
    m.add_message(WS, "s", role="user", content="two")
    whole, after = there(subscription.next(5)), there(subscription.next(5))
    assert (whole.type, whole.seq, whole.session_id, whole.workspace_id) == (SNAPSHOT, at, "s", WS)
    assert whole.properties["session"]["messageIds"] == ["m"]
    assert [each["content"] for each in whole.properties["messages"]] == ["hi"]
    assert whole.properties["reverted"] == []
    assert (after.seq, after.type) == (at + 1, "message.updated")


def test_a_session_that_is_not_there_yet_is_shown_when_it_comes_and_is_gone_when_it_goes(
    m: NativeSessionManager,
) -> None:
    replica = SessionReplica()
    subscription = m.follow_session(WS, "later")
    replica.apply(there(subscription.next(5)))
    assert (replica.session, replica.messages, replica.message("m")) == (None, [], None)
    m.create_session(WS, id="later", title="here")
    message = m.add_message(WS, "later", role="user", content="x")
    while there(subscription.next(0) or subscription.next(5)).seq < there(message.rev):
        pass
    whole = m.follow_session(WS, "later").next(5)
    replica.apply(there(whole))
    assert there(replica.session).title == "here"
    m.delete_session(WS, "later")
    replica.apply(there(subscription.next(5)))
    assert (replica.session, replica.message_ids, replica.message(message.id)) == (None, [], None)


def test_what_a_revert_hides_is_no_message_of_it_but_can_be_asked_for(m: NativeSessionManager) -> None:
    m.add_message(WS, "s", id="n", role="user", content="hidden")
    m.revert(WS, "s", "m")
    replica = SessionReplica()
    read_on(m, m.follow_session(WS, "s"), replica)
    assert replica.message_ids == ["m"]
    assert there(replica.message("n")).content == "hidden"


def test_tokens_come_as_tokens_and_never_as_the_whole_again(m: NativeSessionManager) -> None:
    replica = SessionReplica()
    subscription = m.follow_session(WS, "s")
    with m.stream_message(WS, "s") as streaming:
        for number in range(50):
            streaming.text(f"{number} ")
    heard = read_on(m, subscription, replica)
    assert heard.count("message.part.delta") == 50
    assert heard.count(SNAPSHOT) == 1
    assert replica.messages[-1].content == "".join(f"{number} " for number in range(50))


def test_an_event_is_shared_by_all_who_subscribe_and_stays_as_it_was(m: NativeSessionManager) -> None:
    replicas = [SessionReplica(), SessionReplica()]
    subscriptions = [m.follow_session(WS, "s") for _ in replicas]
    parts = [{"type": "text", "content": "a"}]
    message = m.add_message(WS, "s", role="assistant", parts=parts)
    m.update_message(WS, message.id, parts=[{"type": "text", "content": "b"}])
    m.append_to_message(WS, message.id, "c")
    m.revert(WS, "s", "m", reason="why")
    for replica, subscription in zip(replicas, subscriptions, strict=True):
        events = [there(subscription.next(5)) for _ in range(5)]
        before = copy.deepcopy(events)
        for event in events:
            replica.apply(event)
        assert events == before
        assert there(replica.message(message.id)).content == "bc"


def test_what_it_gives_is_the_callers_own(m: NativeSessionManager) -> None:
    replica = SessionReplica()
    replica.apply(there(m.follow_session(WS, "s").next(5)))
    replica.messages[0].metadata["deep"].append(2)
    there(replica.session).title = "mine"
    replica.message_ids.clear()
    assert replica.messages[0].metadata == {"deep": [1]}
    assert there(replica.session).title == "New Session"
    assert replica.message_ids == ["m"]


def test_before_a_snapshot_it_takes_nothing(m: NativeSessionManager) -> None:
    replica = SessionReplica()
    with pytest.raises(InvalidInputError, match=r"session\.snapshot"):
        replica.apply(Event(type="message.removed", seq=3, session_id="s", message_id="m"))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.created", "properties": {"info": {}}},
        {"type": "message.updated", "properties": {"info": {"id": "m"}}},
        {"type": "session.updated", "properties": {"messageIds": ["m"]}},
        {"type": "session.updated", "properties": {"unset": ["revert"]}},
    ],
)
def test_an_event_that_does_not_say_all_is_refused(m: NativeSessionManager, event: dict[str, Any]) -> None:
    replica = SessionReplica()
    replica.apply(there(m.follow_session(WS, "s").next(5)))
    before = replica.seq
    with pytest.raises(InvalidInputError, match="follow the session anew"):
        replica.apply(Event(seq=99, session_id="s", **event))
    assert (replica.seq, replica.message_ids) == (before, ["m"])


def test_of_another_session_and_of_kinds_that_it_does_not_know_it_takes_no_harm(m: NativeSessionManager) -> None:
    replica = SessionReplica()
    replica.apply(there(m.follow_session(WS, "s").next(5)))
    before = replica.session
    replica.apply(Event(seq=99, session_id="other", type="message.removed", message_id="m"))
    for kind in ("task.created", "mail.deleted", "from.the.future"):
        replica.apply(Event(seq=100, session_id="s", type=kind, properties={"id": "x", "info": {"a": 1}, "set": {}}))
    replica.apply(Event(seq=101, session_id="s", type="session.deleted", recorded=True, properties={}))
    assert replica.session == before
    assert replica.message_ids == ["m"]


def test_of_what_was_pruned_the_whole_comes_again(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MOST", 5)
    m.configure_workspace(WS, retention={"bytes": 0})
    replica = SessionReplica()
    subscription = m.follow_session(WS, "s")
    replica.apply(there(subscription.next(5)))
    for _ in range(4):
        for number in range(60):
            m.add_message(WS, "s", role="user", content=str(number))
        m.checkpoint(WS)
    heard = read_on(m, subscription, replica)
    assert heard[0] == SNAPSHOT
    assert len(heard) < 100
    back = m.follow_session(WS, "s", since=1)
    assert there(back.next(5)).type == SNAPSHOT


def test_a_workspace_that_began_anew_is_shown_anew(m: NativeSessionManager) -> None:
    replica = SessionReplica()
    subscription = m.follow_session(WS, "s")
    read_on(m, subscription, replica)
    m.delete_workspace(WS)
    m.create_session(WS, id="s", title="another")
    event = there(subscription.next(5))
    replica.apply(event)
    assert event.type == SNAPSHOT
    assert there(replica.session).title == "another"


def test_a_snapshot_that_could_not_be_read_comes_with_the_next_attempt(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = SessionReplica()
    subscription = m.follow_session(WS, "s")
    read_on(m, subscription, replica)
    read = subscription._read  # type: ignore[attr-defined]

    def fail() -> Event:
        raise PermissionError(13, "not now")

    monkeypatch.setattr(subscription, "_read", fail)
    m.revert(WS, "s")
    m.unrevert(WS, "s")
    with pytest.raises(PermissionError):
        list(subscription)
    monkeypatch.setattr(subscription, "_read", read)
    assert read_on(m, subscription, replica)[0] == SNAPSHOT


def test_snapshots_are_read_where_one_waits_and_never_where_events_are_delivered_to(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[str] = []
    read = Workspace.read

    def told(self: Workspace, look: Any) -> Any:
        readers.append(threading.current_thread().name)
        return read(self, look)

    replica = SessionReplica()
    done = threading.Event()
    applied: set[str] = set()
    goal = m.status(WS).seq + 11

    def apply(event: Event) -> None:
        applied.add(threading.current_thread().name)
        replica.apply(event)
        if replica.seq >= goal:
            done.set()

    with ThreadPoolExecutor(1, thread_name_prefix="window") as window:
        subscription = m.follow_session(WS, "s", callback=apply, deliver=window)
        monkeypatch.setattr(Workspace, "read", told)
        for _ in range(5):
            m.revert(WS, "s")
            m.unrevert(WS, "s")
        m.record_event(WS, "marked", session_id="s")
        assert done.wait(10)
        subscription.close()
    assert applied == {"window_0"}
    assert "nomad-sessions-callback" in readers
    assert "window_0" not in readers
    assert replica.messages == list(m.get_session_messages(WS, "s"))


def test_bad_input_is_refused_by_its_name(m: NativeSessionManager) -> None:
    calls: dict[str, Any] = {
        "since": lambda: m.follow_session(WS, "s", since=-1),
        "deliver": lambda: m.follow_session(WS, "s", deliver=print),
        "callback": lambda: m.follow_session(WS, "s", callback=3),  # type: ignore[arg-type]
        "session_id": lambda: m.follow_session(WS, 3),  # type: ignore[arg-type]
    }
    for field, call in calls.items():
        with pytest.raises(InvalidInputError) as told:
            call()
        assert told.value.field == field
    with pytest.raises(InvalidWorkspaceIdError):
        m.follow_session("../x", "s")
    with pytest.raises(InvalidInputError):
        m.connections(WS, 3)  # type: ignore[arg-type]
