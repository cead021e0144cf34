"""Files of `events/`: damage and cuts are found and mended, nothing is replaced by less, nothing half done is left."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import DiskFullError, JournalCorruptError, UnsupportedFormatError
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.codec import encode, frame
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import name_of
from nomad_sessions.workspace.archive import entries_of, mend
from nomad_sessions.workspace.archive_file import build, parse
from tests.crash.life import manager_on
from tests.support.modelfs import ModelDisk, ModelFS

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.configure_workspace(WS, retention={"bytes": 0})
        yield manager


def carried(m: NativeSessionManager, count: int = 8) -> Path:
    """Records events, the first of which are carried over: the file that has them."""
    for n in range(3):
        m.record_events(WS, [{"type": "noted", "properties": {"n": n, "of": each}} for each in range(count)])
        m.create_session(WS, title="x" * 50_000)
        m.checkpoint(WS)
    return min((Path(m.data_dir) / WS / "events").iterdir())


def seqs(m: NativeSessionManager) -> list[int]:
    return [event.seq for event in m.events(WS, recorded=True)]


def in_quarantine(m: NativeSessionManager) -> bytes:
    folder = Path(m.data_dir) / WS / "quarantine"
    return b"".join(each.read_bytes() for each in sorted(folder.glob("*.events*")))


def record(seq: int, text: str = "") -> bytes:
    return frame(encode({"seq": seq, "type": "event.recorded", "event": {"type": "x", "properties": {"text": text}}}))


LINES = [record(seq, "é" * seq) for seq in range(4, 9)]


def test_no_byte_of_a_file_can_be_changed_or_cut_off_without_being_found() -> None:
    data = build(4, LINES)
    assert [entry.record["seq"] for entry in parse("p", 4, data).intact()] == [4, 5, 6, 7, 8]
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        for wrong in (bytes(changed), data[:at]):
            found = parse("p", 4, wrong)
            assert found.damage, at
            assert all(found.line(entry) in LINES for entry in found.entries)
            assert all(0 <= offset <= len(wrong) for offset, _, _ in found.damage)


def test_lines_that_are_exchanged_doubled_or_of_another_file_are_found() -> None:
    header, *lines = build(4, LINES).splitlines(keepends=True)
    assert parse("p", 4, b"".join([header, *reversed(lines)])).damage
    assert parse("p", 4, b"".join([header, *lines, lines[0]])).damage
    assert parse("p", 9, b"".join([header, *lines])).damage
    assert [entry.record["seq"] for entry in parse("p", 9, b"".join([header, *lines])).entries] == [4, 5, 6, 7, 8]


def test_a_file_of_a_newer_format_is_refused() -> None:
    newer = frame(encode({"events": 2, "firstSeq": 4})) + LINES[0]
    with pytest.raises(UnsupportedFormatError):
        parse("p", 4, newer)


def test_a_file_without_a_header_is_read_as_ever(m: NativeSessionManager) -> None:
    path = carried(m)
    before = seqs(m)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    assert seqs(m) == before
    assert m.check(WS).ok
    last = path.read_bytes()
    path.write_bytes(last[:-5])
    (problem,) = m.check(WS).problems
    assert (problem.kind, problem.path) == ("events-damaged", str(path))
    assert 0 < problem.offset < problem.offset + problem.length == len(last) - 5


def test_a_damaged_line_is_found_and_mended_and_the_others_stay(m: NativeSessionManager) -> None:
    path = carried(m)
    before, whole = seqs(m), path.read_bytes()
    at = whole.index(b'"of":2')
    path.write_bytes(whole.replace(b'"of":2', b'"of":7', 1))
    with pytest.raises(JournalCorruptError) as error:
        seqs(m)
    assert error.value.path == str(path)
    (problem,) = m.check(WS).problems
    assert (problem.kind, problem.path) == ("events-damaged", str(path))
    assert problem.offset < at < problem.offset + problem.length
    report = m.repair(WS)
    assert not report.after.ok, "what cannot be read is left out only when asked for"
    assert "drop_corrupt" in " ".join(report.actions)
    report = m.repair(WS, drop_corrupt=True)
    assert report.after.ok
    assert "made" in report.actions[0]
    assert seqs(m) == [seq for seq in before if seq != before[2]]
    assert b'"of":7' in in_quarantine(m)
    assert len(report.actions) == 1, "the rest of the workspace was not damaged"


@pytest.mark.parametrize("lines", [0, 1, 5])
def test_a_cut_between_two_lines_is_found_and_mended(m: NativeSessionManager, lines: int) -> None:
    path = carried(m)
    before, whole = seqs(m), path.read_bytes()
    rest = b"".join(whole.splitlines(keepends=True)[: 1 + lines])
    path.write_bytes(rest)
    (problem,) = m.check(WS).problems
    assert (problem.offset, problem.length) == (len(rest), len(whole) - len(rest))
    assert f"{lines} of 8 records" in problem.detail
    report = m.repair(WS, drop_corrupt=True)
    assert report.after.ok
    assert seqs(m) == before[:lines] + before[8:]
    assert whole.splitlines()[0] in in_quarantine(m), "it says how many there were"


def test_an_empty_file_is_damage(m: NativeSessionManager) -> None:
    path = carried(m)
    before = seqs(m)
    path.write_bytes(b"")
    assert [problem.detail for problem in m.check(WS).problems] == ["it is empty"]
    assert m.repair(WS, drop_corrupt=True).after.ok
    assert not path.exists()
    assert seqs(m) == before[8:]


def test_a_damaged_file_hides_no_other_from_check(m: NativeSessionManager) -> None:
    carried(m)
    paths = sorted((Path(m.data_dir) / WS / "events").iterdir())
    assert len(paths) > 1
    paths[0].write_bytes(frame(encode({"events": 9})))
    for path in paths[1:]:
        path.write_bytes(path.read_bytes()[:-3])
    kinds = {(problem.kind, problem.path) for problem in m.check(WS).problems}
    assert kinds == {("events-unreadable", str(paths[0])), *(("events-damaged", str(path)) for path in paths[1:])}


def test_a_file_is_not_replaced_by_less_of_a_damaged_segment(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between carrying over and removing; then the segment is damaged, and a repair takes what it can of it."""
    seqs_of = m.record_events(WS, [{"type": "noted", "properties": {"n": n, "x": "y" * 300}} for n in range(200)])
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "prune", lambda journal, keep_from: [])
        for _ in range(3):
            seqs_of.append(m.record_event(WS, "later"))
            m.checkpoint(WS)
    folder = Path(m.data_dir) / WS
    carried_over = folder / "events" / name_of(1)
    assert len(carried_over.read_bytes().splitlines()) > 200
    m.close()
    segment = folder / "journal" / name_of(1)
    data = bytearray(segment.read_bytes())
    data[data.index(b'"n":100')] ^= 1
    segment.write_bytes(data)
    with NativeSessionManager(m.data_dir, durability="os") as again:
        assert again.repair(WS, drop_corrupt=True).after.ok
        assert seqs(again) == seqs_of


def test_a_repair_carries_over_nothing_of_a_group_that_was_not_acknowledged(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data") as m:
        kept = [m.record_event(WS, "noted", {"n": n}) for n in range(5)]
        m.record_events(WS, [{"type": "grouped"} for _ in range(3)])
        shutil.copytree(m.data_dir, tmp_path / "copy")
    segment = tmp_path / "copy" / WS / "journal" / name_of(1)
    data = bytearray(segment.read_bytes()[:-9])
    data[data.index(b'"n":2')] ^= 1
    segment.write_bytes(data)
    with NativeSessionManager(tmp_path / "copy", durability="os") as again:
        assert again.repair(WS, drop_corrupt=True).after.ok
        kept.remove(kept[2])
        assert [entry.record["seq"] for entry in entries_of(REAL, str(tmp_path / "copy" / WS), 1)] == kept
        kept.append(again.record_event(WS, "later"))
        assert seqs(again) == kept
        assert [event.type for event in again.events(WS, recorded=True)] == ["noted"] * 4 + ["later"]


def test_of_two_records_of_one_seq_the_file_s_goes_to_quarantine(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="os") as m:
        m.configure_workspace(WS, retention={"bytes": 0})
        folder = tmp_path / WS / "events"
        folder.mkdir()
        other = record(2, "of another past")
        (folder / name_of(1)).write_bytes(build(1, [other, record(40, "kept")]))
        path = carried(m)
        assert path.name == name_of(1)
        assert [entry.record["seq"] for entry in entries_of(REAL, str(tmp_path / WS), 1)][-1] == 40
        assert other in in_quarantine(m)
        assert other not in path.read_bytes()
        assert m.check(WS).ok


def test_a_segment_stays_while_its_file_is_damaged(m: NativeSessionManager, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(m.data_dir) / WS / "events"
    folder.mkdir()
    (folder / name_of(1)).write_bytes(build(1, [record(1)])[:-4])
    carried(m)
    assert "cannot be read" in caplog.text
    assert (folder.parent / "journal" / name_of(1)).exists()
    assert m.repair(WS, drop_corrupt=True).after.ok
    before = seqs(m)
    m.record_event(WS, "later")
    m.checkpoint(WS)
    assert not (folder.parent / "journal" / name_of(1)).exists()
    assert [seq for seq in seqs(m) if seq in before] == before


def test_mending_what_is_not_damaged_changes_nothing(m: NativeSessionManager) -> None:
    path = carried(m)
    stat = path.stat()
    assert mend(REAL, str(path.parent.parent)) == []
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def store(disk: ModelDisk) -> NativeSessionManager:
    """A store in a model of a disk, the next checkpoint of which carries over events."""
    manager = manager_on(disk.process())
    manager.configure_workspace(WS, retention={"bytes": 0})
    for _ in range(2):
        manager.record_events(WS, [{"type": "noted", "properties": {"x": "y" * 20_000}} for _ in range(3)])
        manager.checkpoint(WS)
    manager.record_event(WS, "later")
    return manager


def names_in_events(disk: ModelDisk) -> list[str]:
    return [Path(path).name for path in disk.tree() if f"/{WS}/events/" in path]


@pytest.mark.parametrize("op", ["pwrite_all", "sync", "replace"])
def test_a_full_disk_while_carrying_over_is_said_to_be_one_and_leaves_nothing_behind(op: str) -> None:
    for nth in range(1, 40):
        disk = ModelDisk()
        manager = store(disk)
        process = manager._fs
        assert isinstance(process, ModelFS)
        fault = process.inject(errno.ENOSPC, op=op, nth=nth, forever=True)
        with contextlib.suppress(DiskFullError):
            manager.checkpoint(WS)
        fault.remove()
        names = names_in_events(disk)
        assert not [name for name in names if not name.endswith(".jsonl")], nth
        again = manager_on(disk.process())
        assert again.check(WS).ok
        assert len(seqs(again)) == 7
        if not fault.fired:
            assert names == [name_of(1), name_of(5)], "now it was carried over"
            assert nth > 1
            return
    raise AssertionError("it never got through")


def test_what_a_crash_left_half_written_is_swept(m: NativeSessionManager) -> None:
    path = carried(m)
    left = path.with_name(f"{name_of(77)}.tmp")
    left.write_bytes(b"half")
    assert m.check(WS).ok
    m.record_event(WS, "later")
    m.checkpoint(WS)
    assert not left.exists()
