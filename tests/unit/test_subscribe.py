"""Subscriptions: everything, in order, once, however it is taken, and whoever is slow."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import AsyncSessionManager, NativeSessionManager
from nomad_sessions.errors import EventsPrunedError, InvalidInputError, InvalidWorkspaceIdError
from nomad_sessions.events import Subscription, hub
from nomad_sessions.events.feed import Step
from nomad_sessions.events.reading import Reading
from nomad_sessions.events.watching import Watcher
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock
from tests.support.subscribers import WS, add, take, until
from tests.support.there import there


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


def test_what_happens_from_now_on_arrives_in_order(m: NativeSessionManager) -> None:
    with m.subscribe(WS) as subscription:
        seqs = add(m, 20)
        assert [event.seq for event in take(subscription, 20)] == seqs
        assert subscription.next(0.02) is None


def test_each_change_is_an_event_of_the_name_that_opencode_has_for_it(m: NativeSessionManager) -> None:
    with m.subscribe(WS) as subscription:
        one = m.add_message(WS, "s", role="user", content="a")
        two = m.add_message(WS, "s", role="assistant", content="b")
        m.append_to_message(WS, two.id, "c")
        m.update_message(WS, one.id, content="A")
        m.update_session(WS, "s", title="t")
        m.revert(WS, "s", one.id)
        m.unrevert(WS, "s")
        fork = m.fork_session(WS, "s")
        m.delete_message(WS, two.id)
        m.delete_session(WS, fork.id)
        m.configure_workspace(WS, fold="auto")
        m.record_event(WS, "session.idle", {"why": "done"}, session_id="s", message_id=one.id)
        events = take(subscription, 12)
    told = [(event.type, event.session_id, event.message_id, event.recorded) for event in events]
    assert told == [
        ("message.updated", "s", one.id, False),
        ("message.updated", "s", two.id, False),
        ("message.part.delta", "s", two.id, False),
        ("message.updated", "s", one.id, False),
        ("session.updated", "s", None, False),
        ("session.updated", "s", None, False),
        ("session.updated", "s", None, False),
        ("session.created", fork.id, None, False),
        ("message.removed", "s", two.id, False),
        ("session.deleted", fork.id, None, False),
        ("workspace.updated", None, None, False),
        ("session.idle", "s", one.id, True),
    ]
    assert events[0].properties["info"]["content"] == "a"
    assert events[0].properties["created"] is True
    assert events[2].properties == {"delta": "c"}
    assert events[3].properties["set"]["content"] == "A"
    assert events[7].properties["forkedFrom"] == "s"
    assert events[-1].properties == {"why": "done"}
    assert all(event.workspace_id == WS for event in events)
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)


def test_the_filter_lets_through_what_it_says(m: NativeSessionManager) -> None:
    m.create_session(WS, id="other")
    ours = m.subscribe(WS, types=["session.*", "message.remo?ed"], session_id="s")
    tools = m.subscribe(WS, has_tool=True)
    recorded = m.subscribe(WS, recorded=True, types="session.idle")
    message = m.add_message(WS, "s", role="user", content="x")
    m.update_session(WS, "other", title="not ours")
    m.update_session(WS, "s", title="ours")
    m.record_event(WS, "session.error", session_id="s")
    m.record_event(WS, "session.idle", session_id="other")
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    m.add_message(WS, "other", role="assistant", parts=[{"type": "tool_call", "toolCall": call}])
    m.add_message(WS, "other", role="tool", content="x", tool_call_id="c")
    m.delete_message(WS, message.id)
    assert [event.type for event in take(ours, 3)] == ["session.updated", "session.error", "message.removed"]
    assert [event.properties["info"]["role"] for event in take(tools, 2)] == ["assistant", "tool"]
    assert [event.session_id for event in take(recorded, 1)] == ["other"]
    assert [each.next(0.01) for each in (ours, tools, recorded)] == [None] * 3


def test_since_a_seq_what_was_before_comes_first(m: NativeSessionManager) -> None:
    seqs = add(m, 5)
    with m.subscribe(WS, since=seqs[1]) as subscription:
        seqs += add(m, 2)
        assert [event.seq for event in take(subscription, 5)] == seqs[2:]


def test_all_workspaces_and_those_that_come(m: NativeSessionManager) -> None:
    m.create_session("old", id="o")
    with m.subscribe() as subscription:
        m.update_session("old", "o", title="x")
        m.create_session("new", id="n")
        m.add_message("new", "n", role="user", content="x")
        events = take(subscription, 3)
    assert sorted((event.workspace_id, event.type) for event in events) == [
        ("new", "message.updated"),
        ("new", "session.created"),
        ("old", "session.updated"),
    ]


def test_an_event_is_its_subscriber_s_own(m: NativeSessionManager) -> None:
    with m.subscribe(WS) as one, m.subscribe(WS) as other:
        add(m, 1)
        take(one, 1)[0].properties["info"]["content"] = "changed"
        assert take(other, 1)[0].properties["info"]["content"] == "0"


def test_a_busy_workspace_does_not_hide_the_others(m: NativeSessionManager) -> None:
    with m.subscribe() as subscription:
        add(m, 3_000)
        m.record_event("quiet", "note")
        until(lambda: len(subscription.behind()) == 2)
        names = [event.workspace_id for event in take(subscription, 1_000)]
    assert "quiet" in names


def test_closing_ends_who_waits_and_the_thread_of_the_library(m: NativeSessionManager) -> None:
    subscription = m.subscribe(WS)
    ended = threading.Thread(target=lambda: list(subscription))
    ended.start()
    subscription.close()
    subscription.close()
    ended.join(5)
    assert not ended.is_alive()
    assert subscription.next() is None
    until(lambda: not [each for each in threading.enumerate() if each.name == "nomad-sessions-events"])
    with m.subscribe(WS) as again:
        seqs = add(m, 2)
        assert [event.seq for event in take(again, 2)] == seqs


def test_closing_the_manager_ends_them(tmp_path: Path) -> None:
    m = NativeSessionManager(tmp_path)
    subscription = m.subscribe()
    m.close()
    assert list(subscription) == []


def test_asyncio_iterates_and_cancelling_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            subscription = await m.subscribe(WS)
            got: list[str] = []

            async def collect(count: int) -> None:
                async for event in subscription:
                    got.append(event.properties["info"]["content"])
                    if len(got) == count:
                        return

            waiting = asyncio.create_task(collect(99))
            await asyncio.sleep(0.02)
            for n in range(10):
                await m.add_message(WS, "s", role="user", content=str(n))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            for n in range(10, 20):
                await m.add_message(WS, "s", role="user", content=str(n))
            await asyncio.wait_for(collect(20), 10)
            assert got == [str(n) for n in range(20)]
            waiting = asyncio.create_task(collect(99))
            await asyncio.sleep(0.02)
            subscription.close()
            await asyncio.wait_for(waiting, 5)

    asyncio.run(main())


def test_cancelling_while_it_reads_gives_nothing_twice_and_leaves_nobody_waiting(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reading.step

    def slowly(reading: Reading) -> Step:
        time.sleep(0.003)
        return read(reading)

    monkeypatch.setattr(Reading, "step", slowly)

    async def main() -> list[int]:
        got: list[int] = []
        patience = itertools.cycle((0.0, 0.001, 0.002, 0.004, 0.02))
        while len(got) < 90:
            events = aiter(subscription)
            with contextlib.suppress(TimeoutError):
                while True:
                    got.append((await asyncio.wait_for(anext(events), next(patience))).seq)
            if len(got) >= 30 * len(told):
                told.append(add(m, 30))
        return got

    told: list[list[int]] = []
    with m.subscribe(WS) as subscription:
        told.append(add(m, 30))
        got = asyncio.run(asyncio.wait_for(main(), 60))
        assert got == list(range(2, 2 + len(got)))
        assert not subscription._sleepers, "who was cancelled waits no more"


@pytest.mark.parametrize("watch", [True, False])
def test_what_another_handle_writes_arrives_with_and_without_word_of_it(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, watch: bool
) -> None:
    if not watch:
        monkeypatch.setattr(Watcher, "begin", lambda _: None)
    with m.subscribe(WS) as subscription, NativeSessionManager(m.data_dir, durability="os") as other:
        seqs = add(other, 50)
        assert [event.seq for event in take(subscription, 50)] == seqs


def test_a_workspace_that_is_not_there_yet_can_be_watched(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data") as m, m.subscribe("later") as subscription:
        assert subscription.next(0.01) is None
        m.create_session("later", id="s")
        assert take(subscription, 1)[0].type == "session.created"


def test_one_that_was_deleted_begins_anew(m: NativeSessionManager) -> None:
    with m.subscribe(WS) as subscription:
        add(m, 30)
        take(subscription, 30)
        m.delete_workspace(WS)
        m.create_session(WS, id="again")
        with pytest.raises(EventsPrunedError):
            subscription.next(5)
        event = take(subscription, 1)[0]
        assert (event.seq, event.session_id) == (1, "again")


def test_who_begins_while_unused_feeds_are_dropped_is_not_forgotten(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Subscription] = []
    newcomer = threading.Thread(target=lambda: begun.append(m.subscribe(WS)))

    def watched() -> set[str]:
        if not newcomer.ident:
            newcomer.start()
            newcomer.join(0.3)
        return {"other"}

    m.create_session("other", id="o")
    with m.subscribe("other") as early:
        monkeypatch.setattr(early, "watched", watched)
        until(lambda: bool(begun))
        with begun[0] as subscription:
            seqs = add(m, 1)
            assert [event.seq for event in take(subscription, 1)] == seqs


def test_what_cannot_be_subscribed_to_is_named(m: NativeSessionManager) -> None:
    with pytest.raises(InvalidWorkspaceIdError):
        m.subscribe("../x")
    with pytest.raises(InvalidInputError, match="since"):
        m.subscribe(WS, since=-1)
    with pytest.raises(InvalidInputError, match="of one workspace"):
        m.subscribe(since=3)
    with pytest.raises(InvalidInputError, match="of one workspace"):
        m.subscribe(cursor="c")
    with pytest.raises(InvalidInputError, match="types"):
        m.subscribe(WS, types=["", "x"])
    with pytest.raises(InvalidInputError, match="deliver"):
        m.subscribe(WS, deliver=print)
    with pytest.raises(InvalidInputError, match="deliver"):
        m.subscribe(WS, callback=print, deliver=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="callback"):
        m.subscribe(WS, callback=3)  # type: ignore[arg-type]
    wrong = (("types", 5), ("session_id", 5), ("message_id", b"x"), ("has_tool", "yes"), ("recorded", 1))
    for field, value in wrong:
        with pytest.raises(InvalidInputError, match=field):
            m.subscribe(WS, **{field: value})  # type: ignore[arg-type]
    for field, value in (("after", "x"), ("before", True)):
        with pytest.raises(InvalidInputError, match=field):
            m.events(WS, **{field: value})  # type: ignore[arg-type]
    for items in ({"type": "x"}, "abc", None, 3, ["abc"]):
        with pytest.raises(InvalidInputError, match="items"):
            m.record_events(WS, items)  # type: ignore[arg-type]
    with m.subscribe(WS, cursor="c") as subscription:
        with pytest.raises(InvalidInputError, match="timeout"):
            subscription.next("x")  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="event"):
            subscription.ack(5)  # type: ignore[arg-type]
    with m.subscribe(WS) as subscription, pytest.raises(InvalidInputError, match="cursor"):
        subscription.ack()


def test_what_waits_for_a_lock_hides_no_other_workspace(m: NativeSessionManager) -> None:
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    lock = StoreLock(REAL, f"{m.data_dir}/{WS}/lock")
    with m.subscribe() as subscription:
        with lock:
            value["sessions"]["s"]["title"] = "theirs"
            path.write_text(json.dumps(value, indent=2))
            start = time.monotonic()
            for n in range(4):  # By polling, too.
                m.record_event("other", "note", {"n": n})
                assert take(subscription, 1)[0].workspace_id == "other"
                time.sleep(hub.POLL_EVERY / 2)
            assert time.monotonic() - start < 8, "less than the time for which a writer waits for the lock"
        while (event := there(subscription.next(10))).type != "session.updated":
            pass
        assert event.properties["set"]["title"] == "theirs"


def test_a_workspace_that_cannot_be_read_hides_no_other(m: NativeSessionManager) -> None:
    with m.subscribe() as subscription:
        broken = Path(m.data_dir) / "broken"
        broken.mkdir()
        (broken / "sessions.json").write_text("no store")
        m.record_event(WS, "one")
        assert there(subscription.next(10)).type == "one"
        with m.subscribe() as later:
            m.record_event(WS, "two")
            assert [there(each.next(10)).type for each in (subscription, later)] == ["two", "two"]


def test_what_fails_while_it_filters_loses_nothing(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    seqs = add(m, 3)
    with m.subscribe(WS, since=seqs[0] - 1, is_agent_task=False) as subscription:
        with monkeypatch.context() as patch:
            patch.setattr(hub.Hub, "sessions_with_tasks", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                subscription.next(5)
        assert [event.seq for event in take(subscription, 3)] == seqs


def test_whatever_somebody_recorded_can_be_filtered(m: NativeSessionManager) -> None:
    m.record_event(WS, "x", {"part": {"type": ["a"]}, "info": {"parts": [{"type": {}}], "type": 5}})
    assert len(list(m.events(WS, types="x", has_tool=False))) == 1
    with pytest.raises(InvalidInputError, match="timestamp"):
        m.record_events(WS, [{"type": "x", "timestamp": 1 << 63}])


def test_closed_in_the_middle_of_its_own_work_it_ends(m: NativeSessionManager) -> None:
    """As the handler of a signal does, while the thread that reads asks what is still watched."""
    subscription = m.subscribe(WS)
    reading = m._hub
    assert reading is not None
    done = threading.Event()

    def drop() -> None:
        reading._drop_unused()
        done.set()

    with subscription._condition:
        thread = threading.Thread(target=drop)
        thread.start()
        assert done.wait(10), "who asks what is watched waits for who is at work"
        subscription.close()
    thread.join()
    assert subscription.closed
