"""`stats` counts what is there, `status` says how the files stand."""

from __future__ import annotations

import json
from pathlib import Path

from nomad_sessions import ManualClock, NativeSessionManager, WorkspaceStats

from .conftest import START

WS = "ws"


def on_disk(m: NativeSessionManager, name: str) -> int:
    path = Path(m.data_dir) / WS / name
    return sum(each.stat().st_size for each in path.iterdir()) if path.is_dir() else path.stat().st_size


def test_an_empty_workspace_has_nothing_and_is_not_created(m: NativeSessionManager) -> None:
    assert m.stats(WS) == WorkspaceStats(0, 0, 0, 0, 0, {}, None, None, 0, 0, 0)
    status = m.status(WS)
    assert (status.seq, status.snapshot_seq, status.segments, status.unfolded_records) == (0, 0, 0, 0)
    assert (status.foreign, status.unreadable, status.durability) == (False, None, "os")
    assert not (Path(m.data_dir) / WS).exists()


def test_stats_count_everything(m: NativeSessionManager, clock: ManualClock) -> None:
    one = m.create_session(WS).id
    m.add_message(WS, one, role="user", content="x")
    clock.advance(10)
    m.add_messages(WS, one, [{"role": "assistant", "parts": [{"type": "text", "content": "y"}] * 3}] * 2)
    m.add_message(WS, one, role="user", parts=[{"type": "file", "file": {"data": bytes(70_000)}}])
    m.fork_session(WS, one)
    m.revert(WS, one)
    m.archive_session(WS, m.create_session(WS).id)
    for fold in (False, True):
        if fold:
            m.checkpoint(WS)
        for manager in (m, NativeSessionManager(m.data_dir)):
            stats = manager.stats(WS)
            assert (stats.sessions, stats.archived_sessions) == (3, 1)
            assert (stats.messages, stats.reverted_messages, stats.parts) == (7, 1, 13)
            assert stats.roles == {"user": 3, "assistant": 4}
            assert (stats.oldest, stats.newest) == (START, START + 10)
            assert stats.bytes_attachments == on_disk(m, "attachments") == 70_000
            assert stats.bytes_journal == on_disk(m, "journal")
            assert stats.bytes_snapshot == (on_disk(m, "sessions.json") if fold else 0)


def test_status_says_what_the_snapshot_has_and_what_only_the_journal(m: NativeSessionManager) -> None:
    session = m.create_session(WS).id
    for number in range(9):
        m.add_message(WS, session, role="user", content=str(number))
    before = m.status(WS)
    assert (before.seq, before.snapshot_seq, before.unfolded_records) == (10, 0, 10)
    assert before.journal_bytes == on_disk(m, "journal")
    assert 0 < before.unfolded_bytes <= before.journal_bytes
    assert before.segments == 1
    assert before.path == f"{m.data_dir}/{WS}"
    assert m.checkpoint(WS)
    assert not m.checkpoint(WS)
    after = m.status(WS)
    assert (after.seq, after.snapshot_seq, after.unfolded_records, after.unfolded_bytes) == (10, 10, 0, 0)
    assert after.snapshot_bytes == on_disk(m, "sessions.json")
    m.archive_session(WS, session)
    assert m.status(WS).unfolded_records == 1


def test_status_tells_of_a_foreign_and_of_an_unreadable_file(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    data = json.loads(path.read_bytes())
    path.write_text(json.dumps(data, indent=2))
    assert m.status(WS).foreign
    m.create_session(WS)
    m.checkpoint(WS)
    assert not m.status(WS).foreign
    path.write_text('{"sessions": {"s"')
    status = m.status(WS)
    assert status.unreadable
    assert m.list_sessions(WS).total == 2


def test_active_sessions_are_those_neither_closed_nor_archived(m: NativeSessionManager) -> None:
    ids = [m.create_session(WS).id for _ in range(4)]
    m.create_session("other")
    m.close_session(WS, ids[0])
    m.archive_session(WS, ids[1])
    m.archive_session(WS, ids[0])
    assert (m.get_active_session_count(WS), m.get_active_session_count(), m.get_active_session_count("no")) == (2, 3, 0)
