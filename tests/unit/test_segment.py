"""A segment hands out whole records only, and tells a torn tail from corruption."""

from __future__ import annotations

import os
from typing import Any

import pytest

from nomad_sessions.errors import JournalCorruptError, UnsupportedFormatError
from nomad_sessions.storage.codec import encode, frame
from nomad_sessions.storage.segment import Scan, Segment, header, name_of
from tests.support.modelfs import ModelDisk

FOLDER = "/w/journal"


def line(seq: int, durable: int | None = None, **more: Any) -> bytes:
    record = {"seq": seq, "type": "x", **({} if durable is None else {"durable": durable}), **more}
    return frame(encode(record))


def segment_of(data: bytes, first: int = 1) -> Segment:
    disk = ModelDisk()
    disk.write(f"{FOLDER}/{name_of(first)}", data)
    return Segment.open(disk.process(), FOLDER, first, writable=False)


def scan(data: bytes, first: int = 1) -> Scan:
    return segment_of(data, first).scan()


def records(count: int) -> bytes:
    """A segment as a careful writer leaves it: each record knows that all before it is durable."""
    data = header(1)
    for seq in range(1, count + 1):
        data += line(seq, len(data), text="x" * (seq * 7 % 50))
    return data


def test_the_name_sorts_as_the_number() -> None:
    assert name_of(9) < name_of(10) < name_of(10**12)


def test_all_whole_records_come_with_their_places() -> None:
    data = records(5)
    found = scan(data)
    assert [entry.record["seq"] for entry in found.entries] == [1, 2, 3, 4, 5]
    assert found.end == len(data)
    assert (found.torn, found.seal) == (0, None)
    assert segment_of(data).record(found.entries[2].offset, found.entries[2].length)["seq"] == 3


def test_a_scan_may_begin_where_another_ended() -> None:
    data = records(5)
    at = scan(records(3)).end
    found = segment_of(data).scan(at, 4)
    assert [entry.record["seq"] for entry in found.entries] == [4, 5]
    assert found.end == len(data)


@pytest.mark.parametrize("first", [1, 42])
def test_every_prefix_of_sixty_records_gives_the_records_that_are_whole(first: int) -> None:
    data, ends = header(first), []
    for seq in range(first, first + 60):
        data += line(seq, len(data), text="x" * (seq % 9))
        ends.append(len(data))
    for size in range(len(data) + 1):
        found = scan(data[:size], first)
        whole = sum(end <= size for end in ends)
        assert len(found.entries) == whole
        start = len(header(first)) if size >= len(header(first)) else 0
        assert found.end == (ends[whole - 1] if whole else start)
        assert found.torn == size - found.end


@pytest.mark.parametrize(
    "tail", [bytes(1), bytes(5000), b"\n", b"\n\n\n", b"garbage", b'{"crc":"00000000","seq":4}\n', b"\xff" * 99]
)
def test_nuls_and_garbage_at_the_end_are_a_torn_tail(tail: bytes) -> None:
    data = records(3)
    found = scan(data + tail)
    assert len(found.entries) == 3
    assert (found.end, found.torn) == (len(data), len(tail))


def test_one_flipped_bit_in_any_byte_is_never_undetected() -> None:
    data = records(8)
    last = data.rfind(b"\n", 0, -1) + 1
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        if at < last:
            # The last record says that everything before it was durable.
            with pytest.raises(JournalCorruptError) as caught:
                scan(bytes(damaged))
            assert caught.value.path.endswith(name_of(1))
            assert caught.value.offset <= at < caught.value.offset + max(caught.value.length, 1)
        else:
            found = scan(bytes(damaged))
            assert len(found.entries) == 7
            assert found.torn


def test_damage_before_a_record_that_did_not_know_it_durable_is_an_unsynced_tail() -> None:
    data = header(1)
    known = len(data)
    for seq in range(1, 5):
        data += line(seq, known)
    damaged = data.replace(b'"seq":2', b'"seq":7')
    found = scan(damaged)
    assert [entry.record["seq"] for entry in found.entries] == [1]
    assert found.torn == len(data) - found.end


def test_a_group_counts_only_when_all_of_it_is_there() -> None:
    data = records(2)
    group = [line(3, len(data), until=5), line(4, len(data), until=5), line(5, len(data), until=5)]
    for size in range(len(b"".join(group))):
        found = scan(data + b"".join(group)[:size])
        assert len(found.entries) == 2
        assert found.end == len(data)
    assert len(scan(data + b"".join(group)).entries) == 5


def test_a_seq_out_of_order_is_corruption() -> None:
    with pytest.raises(JournalCorruptError, match="seq 4 where 3 is due"):
        scan(records(2) + line(4, 10))


def test_a_header_of_another_segment_is_corruption_and_one_of_a_newer_format_says_so() -> None:
    with pytest.raises(JournalCorruptError, match="header says seq 9"):
        scan(header(9))
    with pytest.raises(UnsupportedFormatError):
        scan(frame(encode({"journal": 2, "firstSeq": 1})))


def test_a_torn_header_is_an_unfinished_creation_only_while_nothing_follows_it() -> None:
    for size in range(len(header(1))):
        assert scan(header(1)[:size]) == Scan([], 0, size, None, 0)
    data = bytearray(records(2))
    data[3] ^= 1
    with pytest.raises(JournalCorruptError):
        scan(bytes(data))


def test_salvage_takes_every_record_that_can_be_read_and_names_the_rest() -> None:
    data = bytearray(records(6))
    third = data.find(b'"seq":3')
    data[third] ^= 1
    entries, skipped = segment_of(bytes(data)).salvage()
    assert [entry.record["seq"] for entry in entries] == [1, 2, 4, 5, 6]
    assert len(skipped) == 1
    assert skipped[0][0] < third < sum(skipped[0])


def test_a_record_that_was_damaged_after_the_scan_is_refused() -> None:
    disk = ModelDisk()
    data = records(3)
    disk.write(f"{FOLDER}/{name_of(1)}", data)
    segment = Segment.open(disk.process(), FOLDER, 1, writable=True)
    entry = segment.scan().entries[1]
    segment.fs.pwrite_all(segment.fd, b"?", entry.offset + 30)
    with pytest.raises(JournalCorruptError, match="checksum"):
        segment.record(entry.offset, entry.length)


def test_an_open_segment_outlives_its_name() -> None:
    disk = ModelDisk()
    disk.write(f"{FOLDER}/{name_of(1)}", records(3))
    process = disk.process()
    segment = Segment.open(process, FOLDER, 1, writable=False)
    process.unlink(segment.path)
    assert len(segment.scan().entries) == 3
    segment.close()
    assert not process.open_paths
    with pytest.raises(FileNotFoundError):
        Segment.open(process, FOLDER, 1, writable=False)
    assert os.path.basename(segment.path) == name_of(1)
