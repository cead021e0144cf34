"""The files of a workspace: private, kept as they are, the same bytes when nothing is written, whatever the clock."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions import ManualClock, NativeSessionManager

HOUR = 3_600_000


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _store(folder: Path, *, checkpoint: bool) -> str:
    with NativeSessionManager(folder) as manager:
        session = manager.create_session("w", title="first")
        manager.add_message("w", session.id, role="user", content="one")
        manager.add_message("w", session.id, role="user", content="two")
        if checkpoint:
            manager.checkpoint("w")
            manager.add_message("w", session.id, role="user", content="three")
        manager.clear_workspace("w")  # Without the fold of a clean close.
    return session.id


@pytest.mark.parametrize("checkpoint", [False, True])
def test_an_undamaged_store_is_byte_identical_after_open_read_check_and_close(tmp_path: Path, checkpoint: bool) -> None:
    session_id = _store(tmp_path, checkpoint=checkpoint)
    before = _tree(tmp_path)
    with NativeSessionManager(tmp_path) as manager:
        assert len(manager.list_sessions("w")) == 1
        assert len(manager.get_session_messages("w", session_id)) == (3 if checkpoint else 2)
        assert manager.check("w").ok
        assert manager.stats("w").sessions == manager.get_active_session_count() == 1
        assert manager.status("w").seq == (4 if checkpoint else 3)
    assert _tree(tmp_path) == before


def test_a_missing_journal_beside_a_good_snapshot_opens_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session_id = _store(tmp_path, checkpoint=True)
    with NativeSessionManager(tmp_path) as manager:
        manager.checkpoint("w")
    shutil.rmtree(tmp_path / "w" / "journal")
    with caplog.at_level(logging.WARNING, "nomad_sessions"), NativeSessionManager(tmp_path) as manager:
        assert len(manager.get_session_messages("w", session_id)) == 3
        assert "journal" in caplog.text
        assert "missing" in caplog.text
        added = manager.add_message("w", session_id, role="user", content="four")
        assert added.rev == 5
        assert manager.check("w").ok
    with NativeSessionManager(tmp_path) as manager:
        assert [message.content for message in manager.get_session_messages("w", session_id)][-1] == "four"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX rights")
def test_new_files_are_private_and_replacing_keeps_the_mode(tmp_path: Path) -> None:
    session_id = _store(tmp_path, checkpoint=True)
    folder = tmp_path / "w"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    (folder / "sessions.json").chmod(0o640)
    with NativeSessionManager(tmp_path) as manager:
        manager.add_message("w", session_id, role="user", content="more")
        manager.checkpoint("w")
    assert (folder / "sessions.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="symlinks need rights there")
def test_a_symlinked_snapshot_stays_a_symlink_to_the_new_one(tmp_path: Path) -> None:
    session_id = _store(tmp_path, checkpoint=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = tmp_path / "w" / "sessions.json"
    path.rename(elsewhere / "real.json")
    path.symlink_to(elsewhere / "real.json")
    with NativeSessionManager(tmp_path) as manager:
        manager.add_message("w", session_id, role="user", content="behind the link")
        manager.checkpoint("w")
        assert manager.check("w").ok
    assert path.is_symlink()
    assert b"behind the link" in (elsewhere / "real.json").read_bytes()
    with NativeSessionManager(tmp_path) as manager:
        assert len(manager.get_session_messages("w", session_id)) == 4


def test_what_a_dead_checkpoint_left_goes_with_the_next_one(tmp_path: Path) -> None:
    session_id = _store(tmp_path, checkpoint=True)
    stale = tmp_path / "w" / "sessions.json.4711.tmp"
    stale.write_bytes(b'{"sessions":{')
    own = tmp_path / "w" / "notes.txt"
    own.write_text("the user's")
    with NativeSessionManager(tmp_path) as manager:
        manager.add_message("w", session_id, role="user", content="more")
        manager.checkpoint("w")
    assert not stale.exists()
    assert own.read_text() == "the user's"


@settings(max_examples=20, deadline=None)
@given(jumps=st.lists(st.sampled_from([-HOUR, -1, 0, 1, HOUR, -400 * 24 * HOUR]), min_size=6, max_size=6))
def test_clock_jumps_change_timestamps_only(tmp_path_factory: pytest.TempPathFactory, jumps: list[int]) -> None:
    clock = ManualClock(1_767_261_600_000)
    folder = tmp_path_factory.mktemp("clock")
    with NativeSessionManager(folder, clock=clock, durability="os") as manager:
        session = manager.create_session("w", title="first")
        ids = [session.id]
        for number, jump in enumerate(jumps):
            clock.set(clock.now() + jump)
            added = manager.add_message("w", session.id, role="user", content=f"{number}")
            assert added.created_at == clock.now()
            ids.append(added.id)
            if number == 3:
                manager.checkpoint("w")
                manager.clear_workspace("w")
    assert ids == sorted(set(ids))
    with NativeSessionManager(folder, clock=clock) as manager:
        found = manager.get_session_messages("w", session.id)
        assert [message.content for message in found] == [f"{number}" for number in range(len(jumps))]
        assert manager.check("w").ok
