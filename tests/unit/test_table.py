"""Rows are found by key, and a damaged one is never returned."""

from __future__ import annotations

import os
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.storage import table
from nomad_sessions.storage.table import Region, TableDamaged
from tests.support.modelfs import ModelDisk, ModelFS


def stored(rows: list[list[Any]], separator: bytes, before: bytes = b"before") -> tuple[ModelFS, int, Region]:
    data = separator.join(table.row(fields) for fields in rows)
    disk = ModelDisk()
    disk.write("/t", before + data + b"\nafter")
    fs = disk.process()
    return fs, fs.open("/t", os.O_RDWR), Region(len(before), len(data), zlib.crc32(data))


@pytest.mark.parametrize("separator", [b",\n", b"\n"])
@given(keys=st.sets(st.text(max_size=12), max_size=60), size=st.sampled_from([1, 30, 900]))
@settings(max_examples=60, deadline=None)
def test_each_key_is_found_and_no_other(separator: bytes, keys: set[str], size: int) -> None:
    rows: list[list[Any]] = [[key, number, "x" * size] for number, key in enumerate(sorted(keys))]
    fs, fd, region = stored(rows, separator)
    assert [fields[1:] for fields in table.rows(fs, fd, region)] == rows
    for row in rows:
        assert table.lookup(fs, fd, region, row[0]) == row
    for key in ("", "zzzz", "0", "\N{GRINNING FACE}!"):
        assert (table.lookup(fs, fd, region, key) is not None) == (key in keys)


def test_a_lookup_reads_a_few_kilobytes_of_a_large_table() -> None:
    rows = [[f"{number:08d}", "x" * 40] for number in range(20_000)]
    fs, fd, region = stored(rows, b",\n")
    fs.disk.trace.clear()
    assert table.lookup(fs, fd, region, "00012345") == rows[12345]
    assert sum(int(str(call.args[0])) for call in fs.disk.trace if call.op == "pread") < 32_000


def test_rows_longer_than_any_window_are_found() -> None:
    rows = [[f"{number:03d}", "y" * 20_000] for number in range(30)]
    fs, fd, region = stored(rows, b"\n")
    for row in rows:
        assert table.lookup(fs, fd, region, row[0]) == row
    assert table.lookup(fs, fd, region, "0005") is None


@pytest.mark.parametrize("separator", [b",\n", b"\n"])
def test_no_flipped_bit_gives_a_wrong_row(separator: bytes) -> None:
    rows: list[list[Any]] = [[f"key{number:02d}", number, ["a", None]] for number in range(12)]
    fs, fd, region = stored(rows, separator)
    whole = fs.pread(fd, region.length, region.offset)
    for at in range(region.length):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        fs.pwrite_all(fd, bytes(damaged), region.offset)
        with pytest.raises(TableDamaged):
            table.rows(fs, fd, region)
        for row in rows:
            try:
                found = table.lookup(fs, fd, region, row[0])
            except TableDamaged:
                continue
            assert found in (row, None)


def test_a_table_that_is_cut_off_is_damaged() -> None:
    fs, fd, region = stored([["a", 1], ["b", 2]], b"\n", before=b"")
    fs.truncate(fd, region.length - 3)
    with pytest.raises(TableDamaged):
        table.rows(fs, fd, region)


def test_an_empty_table_has_no_rows() -> None:
    fs, fd, region = stored([], b"\n")
    assert table.rows(fs, fd, region) == []
    assert table.lookup(fs, fd, region, "a") is None
