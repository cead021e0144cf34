"""A damaged seal costs nothing: the records under it are read, `check` tells of it and `repair` mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions import JournalCorruptError, JournalGapError, NativeSessionManager
from nomad_sessions.workspace import store as store_module

WS = "w"


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 1_500)


def contents(data_dir: Path) -> dict[str, list[str]]:
    with NativeSessionManager(data_dir) as manager:
        sessions = {each.id: manager.get_session_messages(WS, each.id) for each in manager.list_sessions(WS)}
        return {key: [message.content for message in page] for key, page in sessions.items()}


@pytest.fixture
def store(tmp_path: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """The segments of a journal of which nothing is folded, and what it says."""
    manager = NativeSessionManager(tmp_path)
    ids = [manager.create_session(WS, title=f"t{number}").id for number in range(2)]
    for number in range(24):
        manager.add_message(WS, ids[number % 2], role="user", content=f"{number} {'x' * 300}")
    manager.update_session(WS, ids[0], title="renamed")
    manager.flush()  # And no close: that would fold.
    segments = sorted((tmp_path / WS / "journal").iterdir())
    assert len(segments) > 4
    assert not (tmp_path / WS / "sessions.json").exists()
    return segments, contents_without_folding(tmp_path)


def contents_without_folding(data_dir: Path) -> dict[str, list[str]]:
    found = contents(data_dir)
    assert not (data_dir / WS / "sessions.json").exists(), "reading changes nothing"
    return found


def flip_in_seal(data: bytes) -> bytes:
    at = data.rindex(b'"lastSeq"')
    return data[: at + 3] + b"X" + data[at + 4 :]


def cut_off_seal(data: bytes) -> bytes:
    return data[: data.rindex(b"\n", 0, -1) + 1]


def flip_in_tables(data: bytes) -> bytes:
    marker = data.rindex(b'"tables":', 0, data.rindex(b'"seal"'))
    at = data.index(b"\n", marker) + 12
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def flip_in_marker(data: bytes) -> bytes:
    at = data.rindex(b'"tables":', 0, data.rindex(b'"seal"'))
    return data[: at + 3] + b"X" + data[at + 4 :]


DAMAGES = [flip_in_seal, cut_off_seal, flip_in_tables, flip_in_marker]


@pytest.mark.parametrize("which", [0, 1, -2])
@pytest.mark.parametrize("damage", DAMAGES)
def test_everything_is_read_and_repair_needs_to_drop_nothing(
    store: tuple[list[Path], dict[str, list[str]]], tmp_path: Path, damage: Callable[[bytes], bytes], which: int
) -> None:
    segments, expected = store
    path = segments[which]
    path.write_bytes(damage(path.read_bytes()))
    assert contents_without_folding(tmp_path) == expected
    with NativeSessionManager(tmp_path) as manager:
        report = manager.check(WS)
        assert [problem.path for problem in report.problems] == [str(path)] * len(report.problems)
        assert not report.ok
        assert report.messages == 24
        mended = manager.repair(WS)
        assert mended.after.ok, mended.after.problems
        assert not [action for action in mended.actions if action.startswith("skipped")]
    assert contents(tmp_path) == expected
    kept = list((tmp_path / WS / "quarantine").iterdir())
    assert len([each for each in kept if ".jsonl" in each.name]) == len(segments)


@pytest.mark.parametrize("damage", DAMAGES)
def test_writing_and_folding_go_on(
    store: tuple[list[Path], dict[str, list[str]]], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    segments, expected = store
    segments[1].write_bytes(damage(segments[1].read_bytes()))
    first = min(expected)
    with NativeSessionManager(tmp_path) as manager:
        manager.add_message(WS, first, role="user", content="after")
        assert manager.checkpoint(WS)
    expected[first].append("after")
    assert contents(tmp_path) == expected


def test_a_record_that_is_gone_with_the_seal_is_never_overlooked(
    store: tuple[list[Path], dict[str, list[str]]], tmp_path: Path
) -> None:
    segments, _ = store
    lines = segments[1].read_bytes().splitlines(keepends=True)
    records = [number for number, line in enumerate(lines) if b'"seq":' in line]
    segments[1].write_bytes(b"".join(lines[: records[-1]]))  # The last record, the tables and the seal.
    with pytest.raises((JournalCorruptError, JournalGapError)) as caught:
        contents(tmp_path)
    assert str(segments[1].parent) in str(caught.value)
    with NativeSessionManager(tmp_path) as manager:
        assert not manager.check(WS).ok
        with pytest.raises((JournalCorruptError, JournalGapError)):
            manager.repair(WS)
        report = manager.repair(WS, drop_corrupt=True)
        assert report.after.ok
        assert report.after.messages == 23
