"""A snapshot is plain JSON, opens from its end, and hands out no byte that its checksums do not cover."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.errors import UnsupportedFormatError
from nomad_sessions.storage.codec import encode
from nomad_sessions.storage.snapshot import Snapshot, SnapshotChanged
from nomad_sessions.storage.snapshot_writer import BLOCK_ITEMS, Item, SnapshotWriter, line_of
from tests.support.drawing import every
from tests.support.modelfs import ModelDisk, ModelFS

PATH = "/w.json"
Groups = dict[str, list[str]]


def item(identifier: str) -> Item:
    name = encode(identifier)
    return identifier, name, line_of(name, encode({"id": identifier, "text": "x" * 50})), 7


def write(fs: ModelFS, groups: Groups, extras: dict[str, Any] | None = None, seq: int = 9) -> int:
    writer = SnapshotWriter(fs, PATH)
    for group, ids in groups.items():
        writer.group(group, encode({"id": group, "ids": ids}), [len(ids), None, "info"])
    for group, ids in groups.items():
        writer.items(group, map(item, ids))
    for key, value in (extras or {}).items():
        writer.extra(key, encode(value))
    return writer.finish({"seq": seq, "more": "head"}, {"graves": [["a", 1], ["b", 2]]})


def written(groups: Groups, **extras: Any) -> tuple[ModelDisk, Snapshot]:
    disk = ModelDisk()
    assert write(disk.process(), groups, extras) == len(disk.read(PATH))
    snapshot = Snapshot.open(disk.process(), PATH)
    assert snapshot is not None
    return disk, snapshot


MANY = {f"g{number:03d}": [f"g{number:03d}-{each:04d}" for each in range(number * 9)] for number in range(12)}


@pytest.mark.parametrize("groups", [{}, {"a": []}, {"a": ["1"]}, MANY], ids=["none", "empty", "one", "many"])
def test_it_is_json_that_anything_reads(groups: Groups) -> None:
    disk, _ = written(groups, tasks={"t": 1}, mailbox=[1, "\ud83d"])
    data = json.loads(disk.read(PATH))
    assert list(data) == ["sessions", "messages", "tasks", "mailbox", "nomad"]
    assert {key: value["ids"] for key, value in data["sessions"].items()} == groups
    assert set(data["messages"]) == {each for ids in groups.values() for each in ids}
    assert data["tasks"] == {"t": 1}
    assert data["mailbox"] == [1, "\ud83d"]


def test_every_record_is_found_by_its_id_and_every_run_in_order() -> None:
    _, snapshot = written(MANY)
    assert (snapshot.seq, snapshot.head["more"]) == (9, "head")
    assert [row.id for row in snapshot.groups()] == sorted(MANY)
    for group, ids in MANY.items():
        row = snapshot.group(group)
        assert row is not None
        assert row.info == [len(ids), None, "info"]
        assert snapshot.value(row.record) == {"id": group, "ids": ids}
        lines = [line for number in range(len(row.blocks)) for line in snapshot.block(row, number)]
        assert lines == [item(each)[2] for each in ids]
        assert all(block.items <= BLOCK_ITEMS for block in row.blocks)
        for each in ids[::50]:
            found = snapshot.item(each)
            assert found is not None
            assert (found.group, found.created) == (group, 7)
            assert snapshot.value(found.line)["id"] == each
    assert snapshot.group("zzz") is None
    assert snapshot.item("zzz") is None
    assert snapshot.table("graves") == [["a", 1], ["b", 2]]
    assert snapshot.table("nothing") == []
    snapshot.verify()


@given(ids=st.sets(st.text(min_size=1, max_size=9), max_size=40))
@settings(max_examples=60, deadline=None)
def test_ids_may_be_any_text(ids: set[str]) -> None:
    _, snapshot = written({"g": sorted(ids)})
    assert sorted(row.id for row in snapshot.items()) == sorted(ids)
    assert all(snapshot.item(each) is not None for each in ids)


def test_opening_reads_the_end_and_not_the_rest() -> None:
    disk, _ = written({"g": [f"{number:05d}" for number in range(5_000)]})
    disk.trace.clear()
    snapshot = Snapshot.open(disk.process(), PATH)
    assert snapshot is not None
    assert snapshot.item("02500") is not None
    read = sum(int(str(call.args[0])) for call in disk.trace if call.op == "pread")
    assert read < len(disk.read(PATH)) / 10


def test_a_file_that_is_cut_or_longer_or_without_trailer_is_not_ours() -> None:
    disk, _ = written({"g": ["1", "2"]})
    data = disk.read(PATH)
    for changed in (
        data[:-1],
        data + b"\n",
        b"x" + data,
        data[:-40],
        b"",
        b"{}",
        bytes(len(data)),
        data[: len(data) // 2],
    ):
        disk.write(PATH, changed)
        assert Snapshot.open(disk.process(), PATH) is None
    disk.process().unlink(PATH)
    assert Snapshot.open(disk.process(), PATH) is None


def test_a_newer_format_says_so() -> None:
    disk, _ = written({})
    disk.write(PATH, disk.read(PATH).replace(b'"nomad1 ', b'"nomad2 '))
    fs = disk.process()
    with pytest.raises(UnsupportedFormatError):
        Snapshot.open(fs, PATH)
    assert not fs.open_paths


def test_no_flipped_bit_in_a_record_or_a_table_passes() -> None:
    disk, _ = written({"g": ["1", "2"], "h": ["3"]}, tasks={"a": 1})
    data = disk.read(PATH)
    keys = [
        b'{"sessions":{\n',
        b'\n},\n"messages":{\n',
        b"\n},\n",
        b',\n"nomad":{\n',
        b'"groups":[\n',
        b'"items":[\n',
        b'"graves":[\n',
        b"\n],\n",
    ]
    structure = bytearray(len(data))
    for key in keys:
        at = data.find(key)
        while at >= 0:
            structure[at : at + len(key)] = b"s" * len(key)
            at = data.find(key, at + 1)
    for at in range(data.index(b'"head"')):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        disk.write(PATH, bytes(damaged))
        snapshot = Snapshot.open(disk.process(), PATH)
        assert snapshot is not None
        if structure[at] or data[at : at + 2] == b",\n" or data[at : at + 1] == b"\n":
            continue  # What makes it JSON: `check` reads that.
        with pytest.raises(SnapshotChanged):
            snapshot.verify()


def test_a_snapshot_replaced_in_place_is_noticed_when_it_is_read() -> None:
    disk, snapshot = written({"g": ["1", "2"]})
    row = snapshot.item("1")
    assert row is not None
    fs = disk.process()
    fs.pwrite_all(fs.open(PATH, 2), b"#", row.line.offset + 3)
    with pytest.raises(SnapshotChanged):
        snapshot.value(row.line)


def test_it_is_synced_when_it_is_finished_and_a_failure_leaves_no_descriptor() -> None:
    disk = ModelDisk()
    fs = disk.process()
    write(fs, {"g": ["1"]})
    fs.sync_dir("/")
    assert {image.tree()[PATH] for image in every(disk.crash)} == {disk.read(PATH)}
    assert not fs.open_paths
    fs.unlink(PATH)
    with fs.inject(errno.ENOSPC, op="pwrite_all"), pytest.raises(OSError, match="No space"):
        write(fs, {"g": ["1"]})
