"""Many keys at once: found as one by one, and whoever asks for many soon reads nothing for those that are not there."""

from __future__ import annotations

import os
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.storage import table
from nomad_sessions.storage.table import Keys, Region, TableDamaged
from tests.support.modelfs import ModelDisk, ModelFS


class Stored:
    """A table on a disk, and how many bytes of it have been read."""

    def __init__(self, keys: list[str]) -> None:
        data = b",\n".join(table.row([key, number]) for number, key in enumerate(sorted(keys)))
        self.disk = ModelDisk()
        self.disk.write("/t", data)
        self.fs: ModelFS = self.disk.process()
        self.fd = self.fs.open("/t", os.O_RDWR)
        self.region = Region(0, len(data), zlib.crc32(data))
        self.keys = Keys()

    def find(self, *keys: str) -> dict[str, list[Any]]:
        return self.keys.find(self.fs, self.fd, self.region, keys)

    def read(self) -> int:
        """Bytes read since the last time."""
        count = sum(int(str(call.args[0])) for call in self.disk.trace if call.op == "pread")
        self.disk.trace.clear()
        return count


def numbered(count: int) -> list[str]:
    return [f"key {number:06d}" for number in range(count)]


@given(
    keys=st.sets(st.text(max_size=8), max_size=40),
    batches=st.lists(st.lists(st.text(max_size=8), max_size=30), max_size=6),
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_a_batch_finds_what_each_lookup_finds(keys: set[str], batches: list[list[str]], data: st.DataObject) -> None:
    stored = Stored(list(keys))
    for batch in batches:
        asked = [*batch, *data.draw(st.lists(st.sampled_from(sorted(keys)), max_size=8))] if keys else batch
        found = stored.find(*asked)
        single = {key: table.lookup(stored.fs, stored.fd, stored.region, key) for key in asked}
        assert found == {key: fields for key, fields in single.items() if fields is not None}


def test_one_lookup_does_not_read_the_table() -> None:
    stored = Stored(numbered(20_000))
    assert stored.find("key 012345") == {"key 012345": ["key 012345", 12345]}
    assert stored.find("nothing") == {}
    assert stored.read() < stored.region.length / 10


def test_a_large_batch_is_one_pass_over_the_table() -> None:
    keys = numbered(20_000)
    stored = Stored(keys)
    found = stored.find(*keys[::2], "nothing")
    assert {key: fields[1] for key, fields in found.items()} == dict(zip(keys[::2], range(0, 20_000, 2), strict=True))
    assert stored.read() < stored.region.length + 4096


def test_of_many_keys_that_all_lie_before_or_behind_it_reads_only_its_ends() -> None:
    stored = Stored(numbered(20_000))
    for _ in range(100):
        assert stored.find(*(f"before {number}" for number in range(500))) == {}
        assert stored.find(*(f"later {number}" for number in range(500))) == {}
    assert stored.read() < 4096


def test_however_many_are_missing_the_table_is_read_about_twice_and_then_not_again() -> None:
    stored = Stored(numbered(20_000))
    for number in range(2_000):
        assert stored.find(f"missing {number}", f"key {number}") == {}
    assert stored.read() < 2.2 * stored.region.length
    for number in range(2_000):
        assert stored.find(f"missing again {number}") == {}
    assert stored.read() == 0
    assert stored.find("key 000007") == {"key 000007": ["key 000007", 7]}
    assert 0 < stored.read() < stored.region.length / 10


def test_damage_is_found_when_the_keys_are_read_and_nothing_is_remembered_of_them() -> None:
    stored = Stored(numbered(2_000))
    whole = stored.fs.pread(stored.fd, stored.region.length, 0)
    stored.fs.pwrite_all(stored.fd, b"x", stored.region.length // 3)

    def look() -> None:
        for number in range(2_000):
            stored.find(f"key {number:06d}x")

    with pytest.raises(TableDamaged):
        look()
    stored.fs.pwrite_all(stored.fd, whole, 0)
    assert stored.find("key 000007", "missing") == {"key 000007": ["key 000007", 7]}
