"""The folder of segments: no gap, sealed before the next begins, and fit to append to after any creation cut short."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from nomad_sessions.errors import DurabilityLostError, JournalCorruptError, JournalGapError
from nomad_sessions.storage.codec import encode, frame
from nomad_sessions.storage.journal import Journal, Sealed, TablesDamaged
from nomad_sessions.storage.segment import header, name_of
from tests.support.drawing import every
from tests.support.modelfs import MUTATING, Killed, ModelDisk, ModelFS

FOLDER = "/w/journal"


def new_disk() -> ModelDisk:
    disk = ModelDisk()
    disk.write("/w/lock", b"")
    return disk


def opened(fs: ModelFS, after: int = 0, **options: Any) -> Journal:
    journal = Journal(fs, "/w", **options)
    journal.load(after)
    return journal


@pytest.fixture
def disk() -> ModelDisk:
    return new_disk()


@pytest.fixture
def fs(disk: ModelDisk) -> ModelFS:
    return disk.process()


@pytest.fixture
def journal(fs: ModelFS) -> Journal:
    return opened(fs)


def write(journal: Journal, count: int = 1) -> None:
    journal.prepare()
    for _ in range(count):
        seq = journal.last_seq + 1
        journal.append([frame(encode({"seq": seq, "type": "x", "durable": journal.durable}))])
        journal.last_seq = seq
        live = journal.live
        assert live is not None
        live.fs.datasync(live.fd)
        journal.durable = journal.end


def seal(journal: Journal) -> Sealed:
    rows = [[f"key{journal.last_seq:03d}", journal.last_seq], ["z", 0]]
    return journal.rotate({"rows": rows, "none": []}, [journal.live_first], {"bytes": 1, "lastId": ""})


def seqs(disk: ModelDisk, after: int = 0) -> list[int]:
    journal = Journal(disk.process(), "/w", trust_tables=False)
    _, entries = journal.load(after)
    return [entry.record["seq"] for entry in [*(entry for _, older in journal.scanned for entry in older), *entries]]


def test_records_are_there_in_order_across_segments(disk: ModelDisk, journal: Journal) -> None:
    for _ in range(4):
        write(journal, 3)
        seal(journal)
    write(journal, 2)
    assert seqs(disk) == list(range(1, 15))
    assert journal.first_seqs() == [1, 4, 7, 10, 13]
    again = Journal(disk.process(), "/w")
    sealed, entries = again.load(0)
    assert [part.seal.last_seq for part in sealed] == [3, 6, 9, 12]
    assert [entry.record["seq"] for entry in entries] == [13, 14]
    assert sealed[1].lookup("rows", "key006") == ["key006", 6]
    assert sealed[1].lookup("rows", "key007") is None
    assert sealed[1].rows("none") == []
    assert again.last_seq == 14


def test_only_what_lies_above_a_seq_is_loaded(disk: ModelDisk, journal: Journal) -> None:
    for _ in range(3):
        write(journal, 3)
        seal(journal)
    write(journal)
    for after in range(11):
        sealed, _ = Journal(disk.process(), "/w").load(after)
        assert [part.seal.last_seq for part in sealed] == [last for last in (3, 6, 9) if last > after]


def test_refresh_tells_what_others_appended_and_when_to_load_afresh(disk: ModelDisk) -> None:
    writer = opened(disk.process())
    write(writer)
    reader = opened(disk.process())
    assert reader.refresh() == []
    write(writer, 2)
    assert [entry.record["seq"] for entry in reader.refresh() or []] == [2, 3]
    seal(writer)
    assert reader.refresh() is None
    reader.load(0)
    assert reader.refresh() == []
    write(writer)
    assert [entry.record["seq"] for entry in reader.refresh() or []] == [4]


def test_refresh_reads_a_half_written_record_again_when_it_is_whole(disk: ModelDisk) -> None:
    writer = opened(disk.process())
    write(writer)
    path = f"{FOLDER}/{name_of(1)}"
    before = disk.read(path)
    line = frame(encode({"seq": 2, "type": "x", "durable": 1}))
    reader = opened(disk.process())
    assert reader.live is not None
    fs = disk.process()
    fd = fs.open(path, 2)
    for size in range(1, len(line)):
        fs.pwrite_all(fd, line[:size], len(before))
        assert reader.refresh() == []
        assert reader.torn == size
    fs.pwrite_all(fd, line, len(before))
    assert [entry.record["seq"] for entry in reader.refresh() or []] == [2]


def test_a_seal_that_was_cut_off_again_is_noticed(disk: ModelDisk) -> None:
    writer = opened(disk.process())
    write(writer, 2)
    path = f"{FOLDER}/{name_of(1)}"
    unsealed = disk.read(path)
    fs = disk.process()
    other = opened(fs)
    with fs.inject(errno.ENOSPC, op="open"), pytest.raises(OSError, match="No space"):
        seal(other)
    reader = opened(disk.process())
    assert reader.live is None
    assert reader.refresh() == []
    disk.write(path, unsealed)
    assert reader.refresh() is None


@pytest.mark.parametrize("effect", ["none", "part", "all"])
def test_death_at_any_call_of_creating_and_sealing_leaves_a_journal_that_goes_on(effect: Any) -> None:
    nth = 1
    died = True
    while died:
        disk = new_disk()
        fs = disk.process()
        fs.die_at(nth, op=MUTATING, effect=effect)
        acked = 0
        died = False
        try:
            journal = opened(fs)
            for _ in range(3):
                write(journal)
                acked = journal.last_seq
                seal(journal)
        except Killed:
            died = True
        for image in [disk, *every(disk.crash, thin=3)]:
            found = seqs(image)
            assert found in (list(range(1, acked + 1)), list(range(1, acked + 2)))
            successor = opened(image.process())
            write(successor)
            acked_there = successor.last_seq
            for again in every(image.crash, thin=2):
                assert seqs(again) == list(range(1, acked_there + 1))
        nth += 1
    assert nth > 15


def test_a_missing_segment_is_a_gap(disk: ModelDisk, journal: Journal) -> None:
    for _ in range(4):
        write(journal, 3)
        seal(journal)
    write(journal)
    disk.process().unlink(f"{FOLDER}/{name_of(7)}")
    for trust in (True, False):
        with pytest.raises(JournalGapError) as caught:
            Journal(disk.process(), "/w", trust_tables=trust).load(0)
        assert caught.value.found_seq == 10
        Journal(disk.process(), "/w", trust_tables=trust).load(9)


def test_a_sealed_segment_that_lost_its_seal_is_read_line_by_line_up_to_its_successor(
    disk: ModelDisk, journal: Journal
) -> None:
    write(journal, 3)
    seal(journal)
    write(journal)
    path = f"{FOLDER}/{name_of(1)}"
    whole = disk.read(path)
    disk.write(path, whole[:-9])
    with pytest.raises(TablesDamaged) as caught:
        Journal(disk.process(), "/w").load(0)
    assert caught.value.path == path
    again = Journal(disk.process(), "/w", trust_tables=False)
    again.load(0)
    assert [entry.record["seq"] for _, entries in again.scanned for entry in entries] == [1, 2, 3]
    records = [line for line in whole.splitlines(keepends=True) if b'"seq":' in line]
    disk.write(path, whole[: whole.index(records[-1])])
    with pytest.raises(JournalCorruptError) as missing:
        Journal(disk.process(), "/w", trust_tables=False).load(0)
    assert missing.value.path == path


def test_a_hint_is_not_believed_where_the_segment_it_names_has_a_successor(disk: ModelDisk, journal: Journal) -> None:
    write(journal, 3)
    seal(journal)
    write(journal)
    path = f"{FOLDER}/{name_of(1)}"
    disk.write(path, disk.read(path)[:-9])
    with pytest.raises(JournalCorruptError):
        Journal(disk.process(), "/w").load(0, 1)
    again = Journal(disk.process(), "/w")
    again.load(3, 4)
    assert again.last_seq == 4


def test_damaged_tables_are_told_apart_from_damaged_records(disk: ModelDisk, journal: Journal) -> None:
    write(journal, 3)
    part = seal(journal)
    write(journal)
    path = f"{FOLDER}/{name_of(1)}"
    data = bytearray(disk.read(path))
    data[part.seal.tables["rows"].offset + 4] ^= 1
    disk.write(path, bytes(data))
    sealed, _ = Journal(disk.process(), "/w").load(0)
    with pytest.raises(TablesDamaged):
        sealed[0].rows("rows")
    assert not sealed[0].intact()
    assert seqs(disk) == [1, 2, 3, 4]


def test_a_seal_without_its_tables_is_no_seal_while_nothing_follows_it(
    disk: ModelDisk, fs: ModelFS, journal: Journal
) -> None:
    write(journal, 3)
    with fs.inject(errno.ENOSPC, op="open"), pytest.raises(OSError, match="No space"):
        seal(journal)
    path = f"{FOLDER}/{name_of(1)}"
    data = bytearray(disk.read(path))
    at = data.index(b'["', data.index(b'"tables"'))
    data[at : at + 20] = bytes(20)
    disk.write(path, bytes(data))
    again = opened(disk.process())
    assert again.torn
    write(again)
    assert seqs(disk) == [1, 2, 3, 4]
    assert any("quarantine" in name for name in disk.tree())


def test_nothing_is_written_over_what_somebody_wrote_unlocked(disk: ModelDisk, journal: Journal) -> None:
    write(journal, 2)
    other = opened(disk.process())
    write(other)
    with pytest.raises(JournalCorruptError, match=r"by somebody who had no lock; .*call again") as caught:
        write(journal)
    assert (caught.value.offset, caught.value.length) == (journal.end, other.end - journal.end)
    assert [entry.record["seq"] for entry in journal.refresh() or ()] == [3]
    write(journal)
    assert [entry.record["seq"] for entry in opened(disk.process()).refresh() or ()] == []
    assert opened(disk.process()).last_seq == 4


def test_what_somebody_cut_off_unlocked_is_no_call_to_go_on(disk: ModelDisk, journal: Journal) -> None:
    write(journal, 2)
    assert journal.live is not None
    fs = disk.process()
    fs.truncate(fs.open(journal.live.path, os.O_RDWR), journal.end - 10)
    with pytest.raises(JournalCorruptError, match="cut off by somebody who had no lock; run check") as caught:
        write(journal)
    assert (caught.value.offset, caught.value.length) == (journal.end - 10, 10)


def test_a_failed_append_leaves_the_segment_as_it_was(disk: ModelDisk, fs: ModelFS, journal: Journal) -> None:
    write(journal)
    before = disk.tree()
    with fs.inject(errno.ENOSPC, op="pwrite_all", effect="part"), pytest.raises(OSError, match="No space"):
        write(journal)
    assert disk.tree() == before
    write(journal)
    assert seqs(disk) == [1, 2]


def test_a_failed_append_that_cannot_be_cut_off_is_healed_by_the_next(
    disk: ModelDisk, fs: ModelFS, journal: Journal
) -> None:
    write(journal)
    with (
        fs.inject(errno.ENOSPC, op="pwrite_all", effect="part"),
        fs.inject(errno.EIO, op="truncate"),
        pytest.raises(OSError, match="No space"),
    ):
        write(journal)
    assert journal.torn
    write(journal)
    assert seqs(disk) == [1, 2]


def test_a_seal_whose_sync_failed_is_taken_back(disk: ModelDisk, fs: ModelFS, journal: Journal) -> None:
    write(journal, 2)
    before = disk.read(f"{FOLDER}/{name_of(1)}")
    with fs.inject(errno.ENOSPC, op="datasync"), pytest.raises(DurabilityLostError):
        seal(journal)
    assert disk.read(f"{FOLDER}/{name_of(1)}") == before


def test_pruning_removes_whole_segments_below_a_seq_only(disk: ModelDisk, journal: Journal) -> None:
    for _ in range(3):
        write(journal, 3)
        seal(journal)
    assert journal.prune(3) == []
    assert journal.prune(6) == [1]
    assert journal.prune(99) == [4, 7]
    assert journal.first_seqs() == [10]
    for image in every(disk.crash):
        assert image.names_in(FOLDER) == [name_of(10)]


def test_a_segment_begins_with_its_number(disk: ModelDisk) -> None:
    write(opened(disk.process(), after=41))
    assert disk.read(f"{FOLDER}/{name_of(42)}").startswith(header(42))
