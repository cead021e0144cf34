"""A subscriber reads the log at its own pace, wherever that lies: nothing is missed, and nothing is kept for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.clock import ManualClock
from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.events import feed
from nomad_sessions.models import Event
from tests.support.subscribers import WS, add, take, until
from tests.support.there import there


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


def test_who_is_slow_misses_nothing(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MOST", 10)
    slow, quick = m.subscribe(WS), m.subscribe(WS)
    seqs = add(m, 100)
    assert [event.seq for event in take(quick, 100)] == seqs
    seqs += add(m, 50)
    first = take(slow, 60)
    seqs += add(m, 50)
    assert [event.seq for event in first + take(slow, 140)] == seqs
    assert [event.seq for event in take(quick, 100)] == seqs[100:]


def test_large_events_are_not_kept_but_read_again(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MOST_BYTES", 1_000)
    with m.subscribe(WS) as subscription:
        for size in (10, 5_000, 10, 5_000):
            m.add_message(WS, "s", role="user", content="x" * size)
        sizes = [len(event.properties["info"]["content"]) for event in take(subscription, 4)]
    assert sizes == [10, 5_000, 10, 5_000]


def test_it_goes_on_across_folds_and_rotations(m: NativeSessionManager) -> None:
    with m.subscribe(WS) as subscription:
        seqs: list[int] = []
        for _ in range(5):
            seqs += add(m, 3)
            m.checkpoint(WS)
            seqs.append(there(m.add_message(WS, "s", role="user", content="x" * (2 << 20)).rev))
        assert [event.seq for event in take(subscription, len(seqs))] == seqs


def test_of_what_was_pruned_the_subscriber_is_told_and_goes_on(m: NativeSessionManager) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    begin = m.status(WS).seq
    for _ in range(4):
        add(m, 200)
        m.checkpoint(WS)
    with m.subscribe(WS, since=begin) as subscription:
        with pytest.raises(EventsPrunedError) as told:
            subscription.next(5)
        assert told.value.since == begin
        assert there(subscription.next(5)).seq == told.value.first
    got: list[Event] = []
    with m.subscribe(WS, since=begin, callback=got.append):
        until(lambda: len(got) > 1)
    assert got[0].type == "events.pruned"
    assert got[0].properties == {"since": begin, "first": told.value.first}
    assert got[1].seq == told.value.first


def test_deltas_name_their_message_wherever_reading_begins(m: NativeSessionManager) -> None:
    message = m.add_message(WS, "s", role="assistant", content="")
    m.append_to_message(WS, message.id, "a")
    middle = m.status(WS).seq
    m.append_to_message(WS, message.id, "b")
    m.checkpoint(WS)
    m.append_to_message(WS, message.id, "c")
    with m.subscribe(WS, since=middle) as subscription:
        events = take(subscription, 2)
    assert [(event.message_id, event.session_id, event.properties) for event in events] == [
        (message.id, "s", {"delta": "b"}),
        (message.id, "s", {"delta": "c"}),
    ]
    assert all(event.timestamp for event in events)


def test_deltas_say_the_same_time_and_session_wherever_reading_begins(tmp_path: Path) -> None:
    clock = ManualClock()
    with NativeSessionManager(tmp_path, durability="os", clock=clock) as m:
        m.create_session(WS, id="s")
        message = m.add_message(WS, "s", role="assistant", content="")
        times = []
        for n in range(400):
            if n % 50 == 0:
                m.checkpoint(WS)
            clock.advance(300)
            m.append_to_message(WS, message.id, "x" * 200)
            times.append(clock.now())
        m.delete_session(WS, "s")
        m.checkpoint(WS)
    with NativeSessionManager(tmp_path) as m:
        assert len(m.workspace(WS).read(lambda view: view.journal.first_seqs())) > 1
        whole = [event for event in m.events(WS) if event.type == "message.part.delta"]
        assert {event.session_id for event in whole} == {"s"}
        assert max(abs(event.timestamp - time) for event, time in zip(whole, times, strict=True)) < 1000
        by_seq = {event.seq: event for event in whole}
        for since in range(0, 400, 7):
            event = next(m.events(WS, since=since, types="message.part.delta"))
            assert event == by_seq[event.seq]
        assert [event for event in m.events(WS, newest_first=True) if event.seq in by_seq] == whole[::-1]


def test_after_its_event_nothing_older_is_read(m: NativeSessionManager) -> None:
    stale: list[str] = []

    def callback(event: Event) -> None:
        session = m.get_session(WS, "s")
        if event.type == "session.updated" and (session is None or (session.rev or 0) < event.seq):
            stale.append(f"{event.seq}")
        got.append(event)

    got: list[Event] = []
    with m.subscribe(WS, callback=callback), NativeSessionManager(m.data_dir, durability="os") as other:
        for n in range(100):
            other.update_session(WS, "s", title=str(n))
        until(lambda: len(got) == 100)
    assert stale == []


def test_what_another_program_writes_into_the_file_arrives_though_nobody_else_writes(m: NativeSessionManager) -> None:
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    with m.subscribe(WS) as subscription:
        for title in ("theirs", "theirs again"):
            value["sessions"]["s"]["title"] = title
            path.write_text(json.dumps(value, indent=2))
            while (event := there(subscription.next(10))).type != "session.updated":
                pass
            assert event.properties["set"]["title"] == title
            assert there(m.get_session(WS, "s")).title == title
    assert m.check(WS).ok
