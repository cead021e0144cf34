"""What a user puts back, and what a disk does to a copy that nobody reads: as long as one place has it, it is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions import JournalCorruptError, NativeSessionManager
from nomad_sessions.storage.journal import Journal

WS = "ws"


def add(m: NativeSessionManager, *contents: str) -> None:
    for content in contents:
        m.add_message(WS, "s", role="user", content=content)


def contents(m: NativeSessionManager) -> list[str]:
    return [str(each.content) for each in m.get_session_messages(WS, "s")]


def leave(m: NativeSessionManager) -> None:
    """Without folding."""
    m.clear_workspace(WS)
    m.close()


def flip(path: Path, text: str) -> None:
    data = path.read_bytes()
    assert data.count(text.encode()) >= 1
    path.write_bytes(data.replace(text.encode(), text.swapcase().encode(), 1))


def test_an_old_snapshot_that_is_put_back_where_the_journal_no_longer_reaches_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / WS
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.configure_workspace(WS, retention={"bytes": 0, "days": 0})
        add(m, "old " * 10_000, "gone")
        m.checkpoint(WS)
        backup = (folder / "sessions.json").read_bytes()
        m.delete_message(WS, m.get_session_messages(WS, "s")[1].id)
        for number in range(3):
            add(m, f"{number} " * 20_000)
            m.checkpoint(WS)
        add(m, "in the journal alone")
        there = contents(m)
        assert Journal(m.workspace(WS).fs, str(folder)).first_seqs()[0] > 3
        leave(m)
    (folder / "sessions.json").write_bytes(backup)
    shutil.copytree(tmp_path, tmp_path / "again")
    for data, dropping in ((tmp_path, False), (tmp_path / "again", True)):
        with NativeSessionManager(data) as m:
            assert contents(m) == there
            assert m.check(WS).ok
            m.repair(WS, drop_corrupt=dropping)
            add(m, "later")
            m.checkpoint(WS)
            assert contents(m) == [*there, "later"]
        with NativeSessionManager(data) as m:
            assert contents(m) == [*there, "later"]
            assert m.check(WS).ok


def rewritten(path: Path) -> None:
    data = json.loads(path.read_bytes())
    del data["nomad"]
    path.write_text(json.dumps(data), encoding="utf-8")


def damaged(path: Path) -> None:
    flip(path, "first")


@pytest.mark.parametrize("act", [rewritten, Path.unlink, damaged])
def test_a_flipped_bit_in_the_copy_before_locks_nobody_out(tmp_path: Path, act: Callable[[Path], None]) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        add(m, "first")
        m.checkpoint(WS)
        add(m, "second")
        m.checkpoint(WS)
        add(m, "third")
        leave(m)
    flip(tmp_path / WS / "sessions.json.prev", "first")
    act(tmp_path / WS / "sessions.json")
    shutil.copytree(tmp_path, tmp_path / "again")
    with NativeSessionManager(tmp_path / "again") as m:
        assert m.repair(WS).after.ok
        assert [each.lower() for each in contents(m)] == ["first", "second", "third"]
    with NativeSessionManager(tmp_path) as m:
        assert [each.lower() for each in contents(m)] == ["first", "second", "third"]
        add(m, "fourth")
        m.checkpoint(WS)
        assert m.repair(WS).after.ok
        assert [each.lower() for each in contents(m)] == ["first", "second", "third", "fourth"]


class Killed(Exception):
    pass


def seal_and_die(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Adds five messages, and is killed between the seal of their segment and its successor; the segment."""

    def killed(journal: Journal, first_seq: int) -> None:
        raise Killed

    add(m, *(f"message {number} " + "x" * 10_000 for number in range(5)))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_create", killed)
        with pytest.raises(Killed):
            m.checkpoint(WS)
    (segment,) = (Path(m.data_dir) / WS / "journal").glob("*.jsonl")
    return segment


@pytest.mark.parametrize("back", [1, 2])
def test_a_repair_without_leave_drops_nothing_that_a_seal_tells_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: int
) -> None:
    """The end of what was sealed is damaged."""
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.checkpoint(WS)
    segment = seal_and_die(NativeSessionManager(tmp_path), monkeypatch)
    flip(segment, f"message {5 - back}")
    with NativeSessionManager(tmp_path) as m:
        assert not m.check(WS).ok
        with pytest.raises(JournalCorruptError):
            m.repair(WS)
        assert m.repair(WS, drop_corrupt=True).after.ok
        assert len(contents(m)) == 4


def test_what_a_snapshot_of_another_store_has_not_is_not_taken_for_deleted(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="early")
        m.configure_workspace(WS, retention={"bytes": 0, "days": 0})
        m.create_session(WS, id="s")
        for number in range(4):
            add(m, f"{number} " * 20_000)
            m.checkpoint(WS)
        add(m, "last")
        leave(m)
    with NativeSessionManager(tmp_path / "other") as m:
        m.create_session(WS, id="theirs")
        m.add_message(WS, "theirs", role="user", content="theirs")
    shutil.copy(tmp_path / "other" / WS / "sessions.json", tmp_path / WS / "sessions.json")
    for _ in range(2):
        with NativeSessionManager(tmp_path) as m:
            assert sorted(each.id for each in m.list_sessions(WS)) == ["early", "s", "theirs"]
            assert contents(m)[4] == "last"
            add(m, "goes on")


@pytest.mark.parametrize("tail", [b"\n", bytes(40), b"garbage", b'{"crc":"00000000","seq":9}\n'])
def test_what_stands_behind_a_seal_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: bytes) -> None:
    m = NativeSessionManager(tmp_path)
    m.create_session(WS, id="s")
    segment = seal_and_die(m, monkeypatch)
    segment.write_bytes(segment.read_bytes() + tail)
    with NativeSessionManager(tmp_path) as m:
        assert len(contents(m)) == 5
        add(m, "later")
        leave(m)
    with NativeSessionManager(tmp_path) as m:
        assert [each.split()[0] for each in contents(m)] == [*["message"] * 5, "later"]
        assert m.repair(WS).after.ok
        assert len(contents(m)) == 6
