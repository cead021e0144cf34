"""Attachments that nothing names any more go; whatever anything names, or somebody has just asked for, stays."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import ManualClock, NativeSessionManager
from nomad_sessions.pruning import find_unreferenced, remove_unreferenced
from nomad_sessions.storage import attachments
from nomad_sessions.workspace import sweeping

WS = "ws"
OLD = 1_000_000_000
BEFORE = 1_100_000_000_000
LARGE = 70_000


def files(m: NativeSessionManager) -> Path:
    return Path(m.data_dir) / WS / "attachments"


def aged(m: NativeSessionManager) -> None:
    for path in files(m).iterdir():
        os.utime(path, (OLD, OLD))


def swept(m: NativeSessionManager) -> list[str]:
    """What a sweep removes, of files that are all old."""
    aged(m)
    found = find_unreferenced(m, WS, before=BEFORE)
    assert remove_unreferenced(m, WS, before=BEFORE) == found
    assert m.check(WS).ok
    return [each.name for each in found]


def with_file(m: NativeSessionManager, letter: bytes, session: str = "s", **fields: Any) -> str:
    """A message with a file of this letter; the file's name among the attachments."""
    m.create_session(WS, id=session)
    part = {"type": "file", "file": {"mime": "image/png", "data": letter * LARGE}}
    message = m.add_message(WS, session, role="user", parts=[part], **fields)
    file = message.parts[0].file
    assert file is not None
    assert file.sha256 is not None
    return file.sha256


def forgotten(m: NativeSessionManager) -> None:
    """Lets go of everything but what is there now: the journal so far, and the snapshot before."""
    m.configure_workspace(WS, retention={"bytes": 0, "days": 0})
    for number in range(3):
        m.create_session(WS, title=f"{number}" * 300_000)  # a segment's worth
        m.checkpoint(WS)
    folder = Path(m.data_dir) / WS
    for path in [folder / "sessions.json.prev", *(folder / "journal").iterdir()]:
        path.unlink()
    m.clear_workspace(WS)


@pytest.fixture
def loose(m: NativeSessionManager) -> str:
    """An attachment that nothing names."""
    m.create_session(WS, id="other")
    return m._attach(WS, b"loose" * LARGE)


def test_what_nothing_names_goes_once_it_is_old(m: NativeSessionManager, loose: str) -> None:
    assert find_unreferenced(m, WS, before=BEFORE) == []
    assert remove_unreferenced(m, WS, before=BEFORE) == []
    aged(m)
    (found,) = find_unreferenced(m, WS, before=BEFORE)
    assert found == (loose, 5 * LARGE, OLD * 1000)
    assert (files(m) / loose).exists()
    assert swept(m) == [loose]
    assert list(files(m).iterdir()) == []
    assert swept(m) == []


def test_a_message_keeps_its_file_visible_hidden_or_forked(m: NativeSessionManager, loose: str) -> None:
    name = with_file(m, b"a")
    m.add_message(WS, "s", id="x", role="user", content="later")
    assert swept(m) == [loose]
    m.revert(WS, "s", "x")
    first = m.get_session_messages(WS, "s")[0]
    m.revert(WS, "s", first.id)
    fork = m.fork_session(WS, "s")
    assert swept(m) == []
    m.delete_session(WS, "s")
    forgotten(m)
    assert swept(m) == []
    assert m.read_attachment(WS, name) == b"a" * LARGE
    m.delete_session(WS, fork.id)
    forgotten(m)
    assert swept(m) == [name]


def test_the_journal_and_the_snapshot_before_keep_what_was_deleted(m: NativeSessionManager) -> None:
    name = with_file(m, b"a")
    m.delete_session(WS, "s")
    assert swept(m) == []  # In the journal.
    m.checkpoint(WS)
    with_file(m, b"b", "t")
    m.checkpoint(WS)
    shutil.rmtree(Path(m.data_dir) / WS / "journal")
    m.clear_workspace(WS)
    assert swept(m) == [name]


def test_the_snapshot_before_keeps_what_it_names(m: NativeSessionManager) -> None:
    name = with_file(m, b"a")
    m.checkpoint(WS)
    m.delete_session(WS, "s")
    m.checkpoint(WS)
    shutil.rmtree(Path(m.data_dir) / WS / "journal")
    m.clear_workspace(WS)
    assert swept(m) == []
    (Path(m.data_dir) / WS / "sessions.json.prev").unlink()
    assert swept(m) == [name]


@pytest.mark.parametrize("name", ["quarantine/x.bin", "sessions.json.tmp.old", "journal/other.txt"])
def test_a_name_in_any_file_of_the_workspace_counts(m: NativeSessionManager, loose: str, name: str) -> None:
    path = Path(m.data_dir) / WS / name
    path.parent.mkdir(exist_ok=True)
    # Across the border of two blocks that are read.
    path.write_bytes(b"\xff" * (sweeping._BLOCK - 30) + f'"{loose}"'.encode() + b"more")
    aged(m)
    assert find_unreferenced(m, WS, before=BEFORE) == []


def test_what_a_writer_that_died_left_goes_and_what_is_not_ours_stays(m: NativeSessionManager, loose: str) -> None:
    left = f"{loose}.123.0a1b2c3d.tmp"
    for name in (left, "mine.txt", loose[:-1]):
        (files(m) / name).write_bytes(b"x")
    (files(m) / ("f" * 64)).mkdir()
    assert sorted(swept(m)) == sorted([loose, left])
    assert {path.name for path in files(m).iterdir()} == {"mine.txt", loose[:-1], "f" * 64}


def test_a_workspace_without_attachments_has_none_to_lose(m: NativeSessionManager) -> None:
    assert find_unreferenced(m, WS, before=BEFORE) == remove_unreferenced(m, WS, before=BEFORE) == []
    assert not Path(m.data_dir, WS).exists()


def at_the_lock(monkeypatch: pytest.MonkeyPatch, m: NativeSessionManager, act: Callable[[], object]) -> None:
    """Does something, as another process would, between a sweep's look and its lock."""
    workspace = m.workspace(WS)
    locked = workspace.locked

    def after() -> Any:
        monkeypatch.undo()
        act()
        return locked()

    monkeypatch.setattr(workspace, "locked", after)


def test_what_is_attached_again_between_the_look_and_the_lock_stays(
    m: NativeSessionManager, loose: str, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    aged(m)
    with NativeSessionManager(m.data_dir, clock=clock) as other:
        at_the_lock(monkeypatch, m, lambda: other._attach(WS, b"loose" * LARGE))
        assert remove_unreferenced(m, WS, before=BEFORE) == []
    assert m.read_attachment(WS, loose)


def test_what_is_named_between_the_look_and_the_lock_stays(
    m: NativeSessionManager, loose: str, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    aged(m)
    part = {"type": "file", "file": {"mime": "image/png", "sha256": loose}}
    with NativeSessionManager(m.data_dir, clock=clock) as other:
        at_the_lock(monkeypatch, m, lambda: other.add_message(WS, "other", role="user", parts=[part]))
        assert remove_unreferenced(m, WS, before=BEFORE) == []
    assert m.check(WS).ok


def test_who_attaches_again_waits_for_a_sweep_and_then_keeps_the_bytes_anew(
    m: NativeSessionManager, loose: str, clock: ManualClock
) -> None:
    aged(m)
    done = threading.Event()
    with NativeSessionManager(m.data_dir, clock=clock) as other:

        def attach() -> None:
            other._attach(WS, b"loose" * LARGE)
            done.set()

        workspace = m.workspace(WS)
        with workspace.locked():
            thread = threading.Thread(target=attach)
            thread.start()
            assert not done.wait(0.2)
            (files(m) / loose).unlink()
        thread.join()
    assert attachments.read(workspace.fs, workspace.folder, loose) == b"loose" * LARGE


def test_a_file_that_goes_away_while_it_is_looked_for_is_passed_over(m: NativeSessionManager, loose: str) -> None:
    names = sweeping._Names(m.workspace(WS).fs, m.workspace(WS).folder)
    assert not names._read(f"{m.data_dir}/{WS}/none")
    assert loose not in names.found
