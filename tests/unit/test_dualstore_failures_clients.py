"""The failures of the system before, as far as they concern the clients of a session: each has a test of its name.

The numbers are those of `dualstore.md`, section 3.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import (
    AsyncSessionManager,
    ConnectionClosedError,
    ManualClock,
    NativeSessionManager,
    SessionInUseError,
    SessionReplica,
    SessionStateError,
    StoreReadOnlyError,
)
from nomad_sessions.events import Subscription
from nomad_sessions.models import Event
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(tmp_path: Path, clock: ManualClock) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os", clock=clock) as manager:
        manager.create_session(WS, id="s")
        yield manager


def follow(m: NativeSessionManager, replica: SessionReplica, subscription: Subscription) -> list[Event]:
    goal = m.record_event(WS, "marked", session_id="s")
    heard = []
    while replica.seq < goal:
        heard.append(there(subscription.next(5)))
        replica.apply(heard[-1])
    return heard


def until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.002)


def test_01_an_update_shows_the_last_value_in_a_replica_and_makes_no_second_message(m: NativeSessionManager) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    message = m.add_message(WS, "s", role="user", content="first")
    for text in ("second", "third"):
        m.update_message(WS, message.id, content=text)
    follow(m, replica, subscription)
    assert [each.content for each in replica.messages] == ["third"]


def test_02_the_id_of_a_connection_is_the_same_in_every_list(m: NativeSessionManager) -> None:
    with m.open_session(WS, "s") as connection:
        assert [m.connections(WS)[0].id for _ in range(3)] == [connection.info.id] * 3


def test_15_order_is_that_of_the_changes_whatever_ids_and_clocks_say(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    for identifier in ("msg_9", "msg_1", "msg_5"):
        clock.advance(-3_600_000)
        m.add_message(WS, "s", id=identifier, role="user", content=identifier)
    follow(m, replica, subscription)
    assert replica.message_ids == ["msg_9", "msg_1", "msg_5"]


def test_23_that_somebody_is_connected_is_a_fact_and_not_guessed_from_messages(m: NativeSessionManager) -> None:
    for _ in range(3):
        m.add_message(WS, "s", role="user", content="active?")
    assert m.connections(WS, "s") == []
    with m.open_session(WS, "s"):
        assert len(m.connections(WS, "s")) == 1


def test_26_a_failure_to_read_who_is_there_is_no_empty_list(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nomad_sessions.connections import presence

    def denied(*_: object) -> bytes:
        raise PermissionError(13, "denied")

    with m.open_session(WS, "s"):
        monkeypatch.setattr(presence, "read_whole", denied)
        with pytest.raises(StoreReadOnlyError):
            m.connections(WS)


def test_28_what_is_refused_is_a_typed_error_with_its_facts_and_never_a_sentence_to_parse(
    m: NativeSessionManager,
) -> None:
    with m.open_session(WS, "s", client="first", exclusive=True) as connection:
        with pytest.raises(SessionInUseError) as told:
            m.open_session(WS, "s")
        assert told.value.holders[0].id == connection.info.id
    m.close_session(WS, "s")
    with pytest.raises(SessionStateError) as state:
        m.open_session(WS, "s")
    assert (state.value.session_id, state.value.state) == ("s", "closed")


def test_30_close_closes_and_what_was_deleted_is_gone_from_every_replica(m: NativeSessionManager) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    connection = m.open_session(WS, "s", exclusive=True)
    connection.close()
    assert m.connections(WS) == []
    for use in (connection.heartbeat, connection.follow, connection.busy().__enter__):
        with pytest.raises(ConnectionClosedError):
            use()
    assert there(m.close_session(WS, "s")).closed_at is not None
    with pytest.raises(SessionStateError):
        m.open_session(WS, "s")
    m.delete_session(WS, "s")
    follow(m, replica, subscription)
    assert replica.session is None
    assert m.get_session(WS, "s") is None


def test_32_an_error_while_looking_does_not_mean_that_a_session_is_gone(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    read = subscription._read  # type: ignore[attr-defined]
    failed: list[bool] = []

    def flaky() -> Event:
        if not failed:
            failed.append(True)
            raise OSError(5, "for a moment")
        event: Event = read()
        return event

    monkeypatch.setattr(subscription, "_read", flaky)
    replica.apply(there(subscription.next(5)))
    m.add_message(WS, "s", role="user", content="x")
    m.revert(WS, "s")
    m.unrevert(WS, "s")
    with pytest.raises(OSError, match="for a moment"):
        list(subscription)
    replica.apply(there(subscription.next(5)))
    assert replica.session == m.get_session(WS, "s")
    assert replica.session is not None


def test_33_what_happens_while_a_client_joins_is_not_skipped(m: NativeSessionManager) -> None:
    stopped = threading.Event()

    def write() -> None:
        while not stopped.is_set():
            m.add_message(WS, "s", role="user", content="x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        joined = [(SessionReplica(), m.follow_session(WS, "s")) for _ in range(10)]
    finally:
        stopped.set()
        writer.join()
    goal = m.record_event(WS, "marked", session_id="s")
    for replica, subscription in joined:
        while replica.seq < goal:
            replica.apply(there(subscription.next(5)))
        assert replica.messages == list(m.get_session_messages(WS, "s"))


def test_34_a_connection_that_was_refused_is_not_refused_for_ever(m: NativeSessionManager) -> None:
    first = m.open_session(WS, "s", exclusive=True)
    for _ in range(3):
        with pytest.raises(SessionInUseError):
            m.open_session(WS, "s")
    first.close()
    m.open_session(WS, "s").close()


def test_38_the_end_waits_for_what_is_under_way_and_loses_nothing_of_it(tmp_path: Path) -> None:
    begun = threading.Event()
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        connection = m.open_session(WS, "s")

        def answer() -> None:
            with connection.busy(), m.stream_message(WS, "s") as streaming:
                begun.set()
                for number in range(30):
                    streaming.text(f"{number} ")
                    time.sleep(0.001)

        worker = threading.Thread(target=answer)
        worker.start()
        begun.wait(10)
    worker.join(10)
    with NativeSessionManager(tmp_path) as m:
        (message,) = m.get_session_messages(WS, "s")
        assert (message.status, message.content.split()[-1]) == ("completed", "29")


def test_40_the_end_of_one_client_takes_nothing_from_the_others(m: NativeSessionManager) -> None:
    one, two = m.open_session(WS, "s", client="one"), m.open_session(WS, "s", client="two")
    following = two.follow()
    one.close()
    two.heartbeat()
    assert [each.client for each in m.connections(WS)] == ["two"]
    assert follow(m, SessionReplica(), following)
    m.add_message(WS, "s", role="user", content="the store is open")
    assert there(following.next(5)).type == "message.updated"


def test_40_a_client_that_does_nothing_but_be_there_asks_the_disk_nothing(m: NativeSessionManager) -> None:
    connection = m.open_session(WS, "s")
    entry = Path(m.data_dir) / WS / "connections" / f"{connection.info.id}.json"
    before = entry.stat().st_mtime_ns
    for _ in range(20):
        m.add_message(WS, "s", role="user", content="x")
    assert entry.stat().st_mtime_ns == before


def test_41_a_client_that_connects_once_is_there_once(m: NativeSessionManager) -> None:
    with m.open_session(WS, "s") as connection:
        connection.heartbeat()
        connection.heartbeat()
        assert [each.id for each in m.connections(WS)] == [connection.info.id]


def test_42_a_token_costs_a_replica_the_token_and_a_removed_message_is_removed(m: NativeSessionManager) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    with m.stream_message(WS, "s") as streaming:
        streaming.text("x" * 50_000)
        for _ in range(20):
            streaming.text("y")
    heard = follow(m, replica, subscription)
    deltas = [len(json.dumps(each.properties)) for each in heard if each.type == "message.part.delta"]
    assert len(deltas) == 21
    assert max(deltas[1:]) < 100
    m.delete_message(WS, replica.message_ids[0])
    follow(m, replica, subscription)
    assert replica.messages == []


def test_43_coming_back_starts_no_second_stream_and_a_callback_that_fails_none_either(
    m: NativeSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    replica = SessionReplica()
    calls: list[int] = []

    def show(event: Event) -> None:
        calls.append(event.seq)
        replica.apply(event)
        if event.type == "message.updated":
            raise RuntimeError("a handler that fails")

    def callbacks() -> int:
        return sum(1 for each in threading.enumerate() if each.name == "nomad-sessions-callback")

    for _ in range(4):
        subscription = m.follow_session(WS, "s", since=replica.seq or None, callback=show)
        message = m.add_message(WS, "s", role="user", content="x")
        until(lambda wanted=message.rev: replica.seq >= wanted)
        assert callbacks() == 1
        subscription.close()
        until(lambda: callbacks() == 0)
    assert len(calls) == len(set(calls)) == 5, "a snapshot and four messages, each once"
    assert replica.messages == list(m.get_session_messages(WS, "s"))


def test_44_going_on_from_where_one_was_misses_nothing_and_repeats_nothing(m: NativeSessionManager) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    follow(m, replica, subscription)
    subscription.close()
    seqs = [there(m.add_message(WS, "s", role="user", content=str(each)).rev) for each in range(5)]
    heard = follow(m, replica, m.follow_session(WS, "s", since=replica.seq))
    assert [each.seq for each in heard] == [*seqs, seqs[-1] + 1]


def test_47_a_slow_window_is_late_and_misses_nothing(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    from nomad_sessions.events import feed

    monkeypatch.setattr(feed, "_MOST", 3)
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    for number in range(100):
        m.add_message(WS, "s", role="user", content=str(number))
    heard = follow(m, replica, subscription)
    assert len(heard) == 102
    assert [each.content for each in replica.messages] == [str(number) for number in range(100)]


def test_49_who_comes_back_gets_exactly_what_it_missed_of_its_own_session(m: NativeSessionManager) -> None:
    m.create_session(WS, id="other")
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    follow(m, replica, subscription)
    subscription.close()
    for number in range(10):
        m.add_message(WS, "s" if number % 2 else "other", role="user", content="x")
    heard = follow(m, replica, m.follow_session(WS, "s", since=replica.seq))
    assert [(each.type, each.session_id) for each in heard] == [("message.updated", "s")] * 5 + [("marked", "s")]


def test_50_that_an_answer_is_complete_is_its_status_and_not_read_from_its_text(m: NativeSessionManager) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    with m.stream_message(WS, "s") as streaming:
        streaming.text("the task is not completed yet: completed, done")
        follow(m, replica, subscription)
        assert replica.messages[0].status == "streaming"
    follow(m, replica, subscription)
    assert replica.messages[0].status == "completed"


def test_51_every_event_of_a_session_names_the_session_and_not_its_message(m: NativeSessionManager) -> None:
    subscription = m.follow_session(WS, "s")
    message = m.add_message(WS, "s", role="user", content="x")
    m.append_to_message(WS, message.id, "y")
    m.update_message(WS, message.id, content="z")
    m.delete_message(WS, message.id)
    heard = [there(subscription.next(5)) for _ in range(5)]
    assert [each.session_id for each in heard] == ["s"] * 5
    assert [each.message_id for each in heard] == [None, *[message.id] * 4]


def test_52_who_a_client_is_is_what_it_said_and_not_guessed(m: NativeSessionManager) -> None:
    m.create_session(WS, id="a first session in the list")
    with m.open_session(WS, "s", client="agent 7"):
        assert [(each.client, each.session_id) for each in m.connections(WS)] == [("agent 7", "s")]


def test_53_who_listens_gets_its_session_only_and_from_before_anything_happened(m: NativeSessionManager) -> None:
    m.create_session(WS, id="other")
    got: list[Event] = []
    with m.open_session(WS, "s") as connection:
        connection.follow(callback=got.append)
        m.update_session(WS, "other", title="not ours")
        m.update_session(WS, "s", title="ours")
        until(lambda: len(got) == 2)
    assert [each.type for each in got] == ["session.snapshot", "session.updated"]
    assert (got[1].session_id, got[1].properties["set"]["title"]) == ("s", "ours")


def test_54_an_event_that_comes_late_or_twice_moves_nothing_back(m: NativeSessionManager) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s")
    for text in ("one", "two"):
        m.add_message(WS, "s", role="user", content=text)
    heard = follow(m, replica, subscription)
    seq, shown = replica.seq, replica.messages
    for event in reversed(heard[1:]):
        replica.apply(event)
    assert (replica.seq, replica.messages) == (seq, shown)


def test_55_places_are_numbers_so_that_the_tenth_comes_after_the_ninth(m: NativeSessionManager) -> None:
    replica, subscription = SessionReplica(), m.follow_session(WS, "s", since=0)
    whole = there(m.follow_session(WS, "s").next(5))
    replica.apply(whole)
    for number in range(15):
        m.add_message(WS, "s", role="user", content=str(number))
    follow(m, replica, subscription)
    assert [each.content for each in replica.messages] == [str(number) for number in range(15)]


def test_57_a_stream_of_changes_can_be_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            async with await m.open_session(WS, "s") as connection:
                subscription = await m.follow_session(WS, "s")

                async def show() -> int:
                    return len([event async for event in subscription])

                showing = asyncio.ensure_future(show())
                await m.add_message(WS, "s", role="user", content="x")
                await asyncio.sleep(0.05)
                subscription.close()
                assert await asyncio.wait_for(showing, 5) == 2
            assert connection.state == "closed"

    asyncio.run(main())


def test_62_each_state_is_really_entered_and_seen_by_another_process_of_the_store(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m, NativeSessionManager(tmp_path) as other:
        m.create_session(WS, id="s")
        m.close_session(WS, "s")
        with pytest.raises(SessionStateError):
            other.open_session(WS, "s")
        with other.resume_session(WS, "s"):
            assert there(m.get_session(WS, "s")).closed_at is None
            assert len(m.connections(WS, "s")) == 1
