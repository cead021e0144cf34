"""What records tell of the syncs before them: without it, damage would pass for the tail of an unsynced write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import JournalCorruptError, NativeSessionManager
from nomad_sessions.workspace.options import Durability

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    """A session, not folded."""
    manager = NativeSessionManager(tmp_path)
    manager.create_session(WS, id="s")
    manager.add_message(WS, "s", role="user", content="first")
    return manager


def live(m: NativeSessionManager) -> Path:
    return max((Path(m.data_dir) / WS / "journal").glob("*.jsonl"))


def last(m: NativeSessionManager) -> tuple[int, int]:
    """How far the last record says that the log is synced, and where it begins: the most that it can say."""
    before, line = live(m).read_bytes().splitlines(keepends=True)[:-1], live(m).read_bytes().splitlines()[-1]
    return json.loads(line)["durable"], sum(map(len, before))


def add(m: NativeSessionManager, content: str = "more") -> None:
    m.add_message(WS, "s", role="user", content=content)


def syncs(m: NativeSessionManager) -> int:
    found: int = m.workspace(WS).counters.syncs
    return found


def leave(m: NativeSessionManager) -> None:
    """Without folding."""
    m.clear_workspace(WS)
    m.close()


def test_what_was_synced_is_known_after_the_snapshot_was_rewritten(m: NativeSessionManager) -> None:
    m.checkpoint(WS)
    for _ in range(3):
        add(m)
    path = Path(m.data_dir) / WS / "sessions.json"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    before = syncs(m)
    add(m)
    told, at = last(m)
    assert (told, syncs(m)) == (at, before + 1)
    m.close()


@pytest.mark.parametrize("theirs", ["os", "batch"])
def test_much_that_another_one_wrote_is_synced_before_it_is_written_on(
    m: NativeSessionManager, theirs: Durability
) -> None:
    other = NativeSessionManager(m.data_dir, durability=theirs)
    for content, most in (("x" * 1000, False), ("x" * 20_000, True)):
        add(other, content)
        add(m)
        told, at = last(m)
        assert (told == at) is most
    leave(other)
    m.close()


@pytest.mark.parametrize("durability", ["full", "batch"])
def test_a_short_process_tells_of_those_before_it(m: NativeSessionManager, durability: Durability) -> None:
    leave(m)
    for _ in range(3):
        with NativeSessionManager(m.data_dir, durability=durability) as short:
            add(short)
            told, at = last(short)
            assert told == at
            leave(short)


def test_one_s_own_are_not_synced_before_they_are_written_on(m: NativeSessionManager) -> None:
    made = m.add_message(WS, "s", role="assistant", content="")
    before = syncs(m)
    for _ in range(50):
        m.append_to_message(WS, made.id, "x" * 2_000, sync=False)
    assert syncs(m) <= before + 20  # By the clock alone.
    m.close()


def test_a_flipped_bit_below_a_whole_snapshot_is_told_when_that_is_rewritten(m: NativeSessionManager) -> None:
    add(m, "second")
    m.close(checkpoint=True)
    with NativeSessionManager(m.data_dir) as short:
        add(short)
        leave(short)
    segment = live(m)
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"second", b"secOnd", 1))
    (Path(m.data_dir) / WS / "sessions.json").unlink()
    with NativeSessionManager(m.data_dir) as again:
        assert not again.check(WS).ok
        with pytest.raises(JournalCorruptError):
            again.get_session_messages(WS, "s")


def test_a_backup_that_is_put_back_into_the_same_file_is_not_taken_for_synced(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    shutil.copy(live(m), backup)
    for _ in range(5):
        add(m)
    live(m).write_bytes(backup.read_bytes())
    before = syncs(m)
    for _ in range(3):
        add(m, "later")
    assert syncs(m) >= before + 3
    found: list[Any] = [each.content for each in m.get_session_messages(WS, "s")]
    assert found == ["first", "later", "later", "later"]
    m.close()
