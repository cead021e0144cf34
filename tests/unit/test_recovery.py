"""The table of file states: what opening makes of each, with the promises 8 to 13.

A workspace is new only where there is no snapshot, no journal and no `.prev`; in every other state all that was
acknowledged is there, or an error names what is missing. Opening and reading change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from nomad_sessions.errors import (
    CorruptionError,
    JournalCorruptError,
    JournalGapError,
    SnapshotUnreadableError,
    UnsupportedFormatError,
)
from nomad_sessions.storage.segment import name_of
from nomad_sessions.workspace import folding, retention
from tests.crash.life import manager_on, small_store
from tests.crash.model import WS, State, Step, contents, expect, perform
from tests.support.drawing import at_random
from tests.support.modelfs import ModelDisk

FOLDER = "/data/w"
SNAPSHOT = f"{FOLDER}/sessions.json"
PREVIOUS = f"{SNAPSHOT}.prev"
Change = Callable[[ModelDisk], None]


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_store() as patch:
        # Folds and pruning only when a test says so.
        patch.setattr(folding, "FLOOR", 1 << 20)
        patch.setattr(retention, "BUDGET_BYTES", 1 << 20)
        yield


def add(number: int) -> Step:
    return Step("add", "chat", (f"text {number} " + "x" * 120,))


def stored(*, folds: int, after: int = 2) -> tuple[ModelDisk, State]:
    """A store with this many snapshots behind it and some records above the last."""
    disk = ModelDisk()
    manager = manager_on(disk.process())
    state: State = {}
    steps = [Step("create", "chat"), *(add(number) for number in range(folds * 5 + after))]
    for number, step in enumerate(steps):
        perform(manager, step)
        state = expect(state, step)
        if folds and number % 5 == 4:
            manager.checkpoint(WS)
            folds -= 1
    return disk, state


def segments(disk: ModelDisk) -> list[str]:
    return sorted(path for path in disk.tree() if path.endswith(".jsonl") and "/journal/" in path)


def remove(*paths: str) -> Change:
    def change(disk: ModelDisk) -> None:
        for path in paths:
            assert disk.process().unlink(path)
        disk.settle()

    return change


def without_journal(disk: ModelDisk) -> None:
    remove(*segments(disk))(disk)


def without_segment(number: int) -> Change:
    return lambda disk: remove(segments(disk)[number])(disk)


def holding(path: str, data: bytes) -> Change:
    return lambda disk: disk.write(path, data)


def cut(path: str) -> Change:
    return lambda disk: disk.write(path, disk.read(path)[:-40])


def flipped(path: str, at: bytes) -> Change:
    def change(disk: ModelDisk) -> None:
        data = bytearray(disk.read(path))
        data[data.index(at)] ^= 1
        disk.write(path, bytes(data))

    return change


def both(*changes: Change) -> Change:
    def change(disk: ModelDisk) -> None:
        for each in changes:
            each(disk)

    return change


EMPTY = b""
NULS = bytes(4096)
HALF = b'{"sessions":{\n"s":{"id":"s"'
NO_STORE = b'["something else"]'

# From a store that was folded twice, so that there are sessions.json, .prev and a journal from seq 1.
COMPLETE: dict[str, Change] = {
    "untouched": lambda disk: None,
    "no snapshot": remove(SNAPSHOT),
    "no .prev": remove(PREVIOUS),
    "no snapshot and no .prev": remove(SNAPSHOT, PREVIOUS),
    "no snapshot and a damaged .prev": both(remove(SNAPSHOT), holding(PREVIOUS, NULS)),
    "an empty snapshot": holding(SNAPSHOT, EMPTY),
    "a snapshot of NULs": holding(SNAPSHOT, NULS),
    "half a snapshot": holding(SNAPSHOT, HALF),
    "a snapshot that is no store": holding(SNAPSHOT, NO_STORE),
    "a snapshot with its end cut off": cut(SNAPSHOT),
    "a snapshot with a damaged trailer": flipped(SNAPSHOT, b"nomad1 "),
    "an empty snapshot and no .prev": both(holding(SNAPSHOT, EMPTY), remove(PREVIOUS)),
    "stale temporary files": holding(f"{SNAPSHOT}.77.tmp", HALF),
    "a torn tail": lambda disk: disk.write(segments(disk)[-1], disk.read(segments(disk)[-1]) + b'{"crc":"0'),
    "a tail of NULs": lambda disk: disk.write(segments(disk)[-1], disk.read(segments(disk)[-1]) + NULS),
    "other files in the journal's folder": holding(f"{FOLDER}/journal/notes.txt", b"mine"),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_everything_is_there_with(name: str) -> None:
    disk, state = stored(folds=2)
    COMPLETE[name](disk)
    tree = disk.tree()
    assert contents(manager_on(disk.process())) == state
    assert disk.tree() == tree, "reading changes nothing"
    manager = manager_on(disk.process())
    perform(manager, add(99))
    assert contents(manager_on(disk.process())) == expect(state, add(99))


# What is missing is named, and the store is neither empty nor old.
REFUSED: dict[str, tuple[Change, type[CorruptionError], str]] = {
    "an empty snapshot alone": (
        both(holding(SNAPSHOT, EMPTY), remove(PREVIOUS), without_journal),
        SnapshotUnreadableError,
        "it is empty",
    ),
    "half a snapshot alone": (
        both(holding(SNAPSHOT, HALF), remove(PREVIOUS), without_journal),
        SnapshotUnreadableError,
        "not JSON",
    ),
    "no snapshot, and a journal that does not begin at 1": (
        both(remove(SNAPSHOT, PREVIOUS), without_segment(0)),
        SnapshotUnreadableError,
        "begins at seq",
    ),
    "no snapshot, a damaged .prev, and a journal that does not begin at 1": (
        both(remove(SNAPSHOT), holding(PREVIOUS, NULS), without_segment(0)),
        SnapshotUnreadableError,
        ".prev is damaged",
    ),
    "only .prev": (both(remove(SNAPSHOT), without_journal), SnapshotUnreadableError, "so is the journal"),
    "a segment missing in the middle": (
        both(remove(SNAPSHOT, PREVIOUS), without_segment(1)),
        JournalGapError,
        "is missing",
    ),
    "a segment missing above .prev": (both(remove(SNAPSHOT), without_segment(-2)), JournalGapError, "is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_opening_refuses(name: str) -> None:
    change, kind, words = REFUSED[name]
    disk, _ = stored(folds=2, after=16)
    change(disk)
    tree = disk.tree()
    manager = manager_on(disk.process())
    with pytest.raises(kind, match=words):
        contents(manager)
    with pytest.raises(kind, match=words):
        manager.create_session(WS, title="new")
    assert not manager.check(WS).ok
    left = {path: data for path, data in disk.tree().items() if path != f"{FOLDER}/lock"}
    assert left == {path: data for path, data in tree.items() if path != f"{FOLDER}/lock"}


def test_nothing_at_all_is_a_new_workspace() -> None:
    disk = ModelDisk()
    assert contents(manager_on(disk.process())) == {}
    assert disk.tree() == {}


def test_a_journal_whose_first_segment_has_no_whole_header_is_a_new_workspace() -> None:
    for data in (b"", b'{"crc', bytes(50)):
        disk = ModelDisk()
        disk.write(f"{FOLDER}/journal/{name_of(1)}", data)
        manager = manager_on(disk.process())
        assert contents(manager) == {}
        perform(manager, Step("create", "chat"))
        assert contents(manager_on(disk.process())) == expect({}, Step("create", "chat"))
        assert manager.check(WS).ok


def test_a_missing_journal_is_warned_of_where_the_snapshot_knew_of_one(caplog: pytest.LogCaptureFixture) -> None:
    disk, state = stored(folds=2, after=0)
    manager = manager_on(disk.process())
    manager.checkpoint(WS)
    without_journal(disk)
    with caplog.at_level(logging.WARNING, "nomad_sessions"):
        again = manager_on(disk.process())
        assert contents(again) == state
    assert "journal that this snapshot knows of is missing" in caplog.text
    perform(again, add(99))
    assert contents(manager_on(disk.process())) == expect(state, add(99))


def test_a_snapshot_ahead_of_the_journal_goes_on_in_a_new_segment() -> None:
    older, state = stored(folds=0, after=1)
    older.settle()
    disk = older.crash(at_random(0))  # The same store, which goes on.
    later = manager_on(disk.process())
    perform(later, add(98))
    later.checkpoint(WS)
    older.write(SNAPSHOT, disk.read(SNAPSHOT))
    manager = manager_on(older.process())
    state = expect(state, add(98))
    assert contents(manager) == state
    perform(manager, add(99))
    assert contents(manager_on(older.process())) == expect(state, add(99))


def test_a_newer_format_is_refused_and_not_taken_for_damage() -> None:
    disk, _ = stored(folds=1)
    disk.write(SNAPSHOT, disk.read(SNAPSHOT).replace(b'"trailer":"nomad1 ', b'"trailer":"nomad2 '))
    with pytest.raises(UnsupportedFormatError):
        contents(manager_on(disk.process()))


def test_a_torn_tail_is_healed_by_the_first_write_and_kept_and_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    disk, state = stored(folds=0)
    path = segments(disk)[-1]
    whole = disk.read(path)
    disk.write(path, whole + b'{"crc":"01234567","torn')
    manager = manager_on(disk.process())
    with caplog.at_level(logging.WARNING, "nomad_sessions"):
        assert contents(manager) == state
        assert not caplog.records
        perform(manager, add(99))
        perform(manager, add(100))
    assert len(caplog.records) == 1
    assert f"offset {len(whole)}" in caplog.text
    assert "23 bytes" in caplog.text
    assert [data for name, data in disk.tree().items() if "/quarantine/" in name] == [None, b'{"crc":"01234567","torn'][
        1:
    ]
    assert disk.read(path).startswith(whole)
    assert contents(manager_on(disk.process())) == expect(expect(state, add(99)), add(100))


def test_damage_inside_a_sealed_segment_is_found_when_its_record_is_asked_for_and_others_are_read() -> None:
    disk, state = stored(folds=0, after=20)
    manager = manager_on(disk.process())
    perform(manager, Step("create", "other"))
    flipped(segments(disk)[0], b"text 1 ")(disk)
    again = manager_on(disk.process())
    assert {session.title for session in again.list_sessions(WS)} == {"chat", "other"}
    with pytest.raises(JournalCorruptError) as caught:
        contents(again)
    assert caught.value.path == segments(disk)[0]
    assert caught.value.length > 0
    report = again.check(WS)
    assert [problem.path for problem in report.problems if problem.kind == "journal-damaged"]
    assert state


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damaged_tables_of_a_sealed_segment_are_done_without(number: int) -> None:
    disk, state = stored(folds=0, after=24)
    assert len(segments(disk)) > 4
    path = segments(disk)[number]
    data = bytearray(disk.read(path))
    start = data.index(b'"tables":')
    for at in range(data.index(b"\n", start) + 1, data.index(b'"seal":') - 20):
        data[at] = 0
    disk.write(path, bytes(data))
    manager = manager_on(disk.process())
    assert contents(manager) == state
    assert not manager.check(WS).ok
    for extra in range(200, 212):
        perform(manager, add(extra))
        state = expect(state, add(extra))
    assert contents(manager) == state
    assert contents(manager_on(disk.process())) == state


def test_an_undamaged_store_is_the_same_byte_for_byte_after_open_read_check_and_close() -> None:
    for folds in (0, 1, 3):
        disk, state = stored(folds=folds, after=9)
        tree = disk.tree()
        with manager_on(disk.process()) as manager:
            assert contents(manager) == state
            assert manager.check(WS).ok
            manager.stats(WS)
            manager.status(WS)
        assert disk.tree() == tree


@pytest.mark.parametrize("left", [b"", b'{"crc"'])
def test_an_emptied_journal_beside_unreadable_snapshots_is_no_empty_store(left: bytes) -> None:
    disk, _ = stored(folds=2)
    remove(*segments(disk))(disk)
    disk.write(f"{FOLDER}/journal/{1:016d}.jsonl", left)
    for each in (SNAPSHOT, f"{SNAPSHOT}.prev"):
        disk.write(each, b"{")
    manager = manager_on(disk.process())
    with pytest.raises(SnapshotUnreadableError):
        contents(manager)
    with pytest.raises(SnapshotUnreadableError):
        perform(manager, Step("create", "new"))
    remove(SNAPSHOT)(disk)
    with pytest.raises(SnapshotUnreadableError):
        contents(manager_on(disk.process()))


def test_the_first_snapshot_has_no_copy_beside_it_and_the_journal_stays_whole_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "BUDGET_BYTES", 0)
    disk, state = stored(folds=1, after=6)
    assert disk.process().stat(PREVIOUS) is None
    for damage in (remove(SNAPSHOT), holding(SNAPSHOT, NULS)):
        damaged, _ = stored(folds=1, after=6)
        damage(damaged)
        assert contents(manager_on(damaged.process())) == state
    manager = manager_on(disk.process())
    manager.checkpoint(WS)
    assert disk.process().stat(PREVIOUS) is not None
    disk.process().unlink(SNAPSHOT)
    assert contents(manager_on(disk.process())) == state


def test_where_another_programs_file_is_displaced_the_first_snapshot_has_a_copy() -> None:
    disk, state = stored(folds=0)
    holding(SNAPSHOT, b'{"sessions":{},"messages":{}}')(disk)
    manager_on(disk.process()).checkpoint(WS)
    assert disk.process().stat(PREVIOUS) is not None
    disk.process().unlink(SNAPSHOT)
    assert contents(manager_on(disk.process())) == state
