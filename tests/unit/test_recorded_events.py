"""Recorded events and replay: in one order with the changes, kept when the journal is not, found again by seq."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from nomad_sessions import AsyncSessionManager, EventFilter, NativeSessionManager
from nomad_sessions.errors import CorruptionError, EventsPrunedError, InvalidInputError
from nomad_sessions.models import Event, dump
from nomad_sessions.search import Searcher
from nomad_sessions.workspace import archive
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    manager = NativeSessionManager(tmp_path / "data", durability="os")
    manager.create_session(WS, id="s")
    return manager


def told(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.seq, event.type) for event in events]


def test_a_recorded_event_is_there_again_as_it_was(m: NativeSessionManager) -> None:
    properties = {"text": "half an emoji \ud83d", "deep": [[{"a": None}]], "n": 1.5}
    seq = m.record_event(WS, "tool.ran", properties, session_id="ses_elsewhere", message_id="msg")
    m.add_message(WS, "s", role="user", content="x")
    m.close()
    with NativeSessionManager(m.data_dir) as again:
        (event,) = again.events(WS, recorded=True)
        assert (event.seq, event.type, event.session_id, event.message_id) == (seq, "tool.ran", "ses_elsewhere", "msg")
        assert event.properties == properties
        assert event.recorded
        assert told(list(again.events(WS))) == [(1, "session.created"), (2, "tool.ran"), (3, "message.updated")]
        assert again.get_session(WS, "ses_elsewhere") is None
        assert again.list_sessions(WS).total == 1
        assert again.check(WS).ok


def test_it_changes_no_session_and_is_in_no_snapshot(m: NativeSessionManager) -> None:
    before = dump(m.list_sessions(WS)[0])
    m.checkpoint(WS)
    kept = (Path(m.data_dir) / WS / "sessions.json").stat().st_size
    for _ in range(50):
        m.record_event(WS, "session.idle", {"x": "y" * 200}, session_id="s")
    assert dump(m.list_sessions(WS)[0]) == before
    assert m.checkpoint(WS)
    assert (Path(m.data_dir) / WS / "sessions.json").stat().st_size < kept + 100
    assert len(list(m.events(WS, types="session.idle", session_id="s"))) == 50


@pytest.mark.parametrize("piece", [1 << 20, 16])
def test_what_was_recorded_outlives_the_journal(
    m: NativeSessionManager, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_PIECE", piece)
    m.configure_workspace(WS, retention={"bytes": 0})
    seqs = []
    for n in range(6):
        for _ in range(20):
            seqs.append(m.record_event(WS, "note", {"n": n}))
            m.add_message(WS, "s", role="user", content="x" * 500)
        m.checkpoint(WS)
    kept = list(m.events(WS))
    first = next(event.seq for event in kept if not event.recorded)
    assert first > seqs[30], "the journal was pruned"
    assert [event.seq for event in m.events(WS, recorded=True)] == seqs
    assert [event.seq for event in m.events(WS, recorded=True, since=0)] == seqs
    assert [event.seq for event in m.events(WS, recorded=True, newest_first=True)] == seqs[::-1]
    assert [event.seq for event in kept] == sorted({event.seq for event in kept})
    assert [event.seq for event in m.events(WS, newest_first=True)] == [event.seq for event in kept][::-1]
    with pytest.raises(EventsPrunedError) as pruned:
        m.events(WS, since=1)
    oldest = pruned.value.first
    assert seqs[30] < oldest <= first
    assert next(iter(m.events(WS, since=oldest - 1))).seq == oldest
    assert m.check(WS).ok
    m.close()
    with NativeSessionManager(m.data_dir) as again:
        assert [event.seq for event in again.events(WS, recorded=True, since=seqs[5], until=seqs[50])] == seqs[6:51]


def test_repair_keeps_them(m: NativeSessionManager) -> None:
    seqs = [m.record_event(WS, "note", {"n": n}) for n in range(5)]
    m.close()
    (segment,) = (Path(m.data_dir) / WS / "journal").iterdir()
    data = bytearray(segment.read_bytes())
    data[data.index(b'"n":2')] ^= 1
    segment.write_bytes(data)
    with NativeSessionManager(m.data_dir) as again:
        assert not again.check(WS).ok
        again.repair(WS, drop_corrupt=True)
        assert [event.seq for event in again.events(WS, recorded=True)] == [*seqs[:2], *seqs[3:]]
        assert again.check(WS).ok


def test_a_damaged_archive_is_found(m: NativeSessionManager) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    for _ in range(3):
        m.record_event(WS, "note", {"text": "here it is"})
        m.add_message(WS, "s", role="user", content="x" * 50_000)
        m.checkpoint(WS)
    folder = Path(m.data_dir) / WS / "events"
    path = min(folder.iterdir())
    path.write_bytes(path.read_bytes().replace(b"here", b"hare"))
    with pytest.raises(CorruptionError, match="events"):
        list(m.events(WS, recorded=True))
    assert [problem.kind for problem in m.check(WS).problems] == ["events-damaged"]


def test_replay_between_two_seqs_and_times_with_a_limit(m: NativeSessionManager) -> None:
    for n in range(300):
        m.add_message(WS, "s", role="user", content="x" * 10_000 if n % 50 == 0 else "x")
        if n % 60 == 0:
            m.checkpoint(WS)
    everything = list(m.events(WS))
    assert [event.seq for event in everything] == list(range(1, 302))
    for since, until in ((0, 5), (10, 200), (150, 151), (200, 200), (250, 10), (299, 999)):
        expected = [event for event in everything if since < event.seq <= until]
        assert list(m.events(WS, since=since, until=until)) == expected
        assert list(m.events(WS, since=since, until=until, newest_first=True)) == expected[::-1]
        assert list(m.events(WS, since=since, until=until, limit=3)) == expected[:3]
        assert list(m.events(WS, since=since, until=until, limit=3, newest_first=True)) == expected[::-1][:3]
    with pytest.raises(EventsPrunedError, match="no change 302"):
        m.events(WS, since=302)
    assert list(m.events(WS, since=301)) == []
    time = everything[100].timestamp
    assert list(m.events(WS, after=time)) == [event for event in everything if event.timestamp >= time]
    assert list(m.events(WS, before=time)) == [event for event in everything if event.timestamp < time]
    assert list(m.events(WS, limit=0)) == []
    assert list(m.events("nobody")) == []


def test_asyncio_replays_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            for n in range(3):
                assert await m.record_event(WS, "note", {"n": n}) == n + 2
            assert [event.properties["n"] async for event in m.events(WS, recorded=True)] == [0, 1, 2]

    asyncio.run(main())


def test_what_cannot_be_recorded_is_named_and_writes_nothing(m: NativeSessionManager) -> None:
    seq = m.status(WS).seq
    for arguments, field in (
        (("", {}), "type"),
        (("a b", {}), "type"),
        (("x" * 200, {}), "type"),
        (("x", [1]), "properties"),
        (("x", {"a": float("nan")}), "properties"),
        (("x", {"a": object()}), "properties"),
        (("x", {1: 2}), "properties"),
    ):
        with pytest.raises(InvalidInputError) as error:
            m.record_event(WS, *arguments)
        assert error.value.field == field
    for name in ("session_id", "message_id"):
        with pytest.raises(InvalidInputError):
            m.record_event(WS, "x", **{name: ""})  # type: ignore[arg-type]
    for wrong in ({"since": -1}, {"limit": -1}, {"until": "x"}):
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            m.events(WS, **wrong)
    assert m.status(WS).seq == seq


def test_changes_that_came_with_a_snapshot_from_elsewhere_are_said_to_be_gone(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    m.record_event(WS, "before")
    shutil.copytree(m.data_dir, tmp_path / "copy")
    m.record_event(WS, "elsewhere")
    m.checkpoint(WS)
    last = m.status(WS).seq
    shutil.copy(Path(m.data_dir) / WS / "sessions.json", tmp_path / "copy" / WS)
    with NativeSessionManager(tmp_path / "copy") as other, Searcher(other) as searcher:
        other.record_event(WS, "after")
        assert [event.type for event in other.events(WS, recorded=True)] == ["before", "after"]
        assert [event.type for event in searcher.events(WS, EventFilter(recorded=True)).events] == ["after", "before"]
        with other.subscribe(WS, since=last - 2) as subscription:
            assert there(subscription.next(5)).type == "before"
            with pytest.raises(EventsPrunedError) as told:
                subscription.next(5)
            assert told.value.first == last + 1
            assert there(subscription.next(5)).type == "after"
        with pytest.raises(EventsPrunedError):
            list(other.events(WS, since=last - 1))


@pytest.mark.parametrize("newest_first", [False, True])
def test_what_was_recorded_is_replayed_though_its_segments_go_meanwhile(
    m: NativeSessionManager, newest_first: bool
) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    seqs = m.record_events(WS, [{"type": "noted", "properties": {"n": n, "more": "x" * 300}} for n in range(2_000)])
    replaying = m.events(WS, recorded=True, newest_first=newest_first)
    first = next(replaying)
    for _ in range(3):
        m.record_events(WS, [{"type": "later", "properties": {"more": "x" * 300}} for _ in range(300)])
        m.checkpoint(WS)
    found = [event.seq for event in (first, *replaying)]
    assert found == (seqs[::-1] if newest_first else seqs)
