"""A journal is read ahead where it is read in order, and only there; what is given is what lies there."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.errors import JournalCorruptError
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.codec import encode, frame, unframe
from nomad_sessions.storage.segment import Segment, header, name_of
from nomad_sessions.workspace.places import Ahead

MOST = 256 << 10
RECORDS = 600


class _Counting:
    """The real file system; counts what is read."""

    def __init__(self) -> None:
        self.reads = self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(REAL, name)

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        data = REAL.pread(fd, n, offset)
        self.reads += 1
        self.bytes += len(data)
        return data


class Journal:
    """A segment of records of 1 to 5 KB, and where each lies."""

    def __init__(self, folder: Path) -> None:
        chance = random.Random(1)
        self.bodies = [encode({"seq": n, "text": "x" * chance.randint(1_000, 5_000)}) for n in range(1, RECORDS + 1)]
        self.places: list[tuple[int, int]] = []
        data = header(1)
        for line in map(frame, self.bodies):
            self.places.append((len(data), len(line)))
            data += line
        (folder / name_of(1)).write_bytes(data)
        self.size = len(data)
        self.fs = _Counting()
        self.segment = Segment.open(self.fs, str(folder), 1, writable=False)
        self.ahead = Ahead()
        self.ahead.most = MOST

    def read(self, number: int) -> None:
        data, start, stop = self.ahead.span(self.segment, *self.places[number])
        assert unframe(data[start:stop]) == self.bodies[number]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path)
    yield made
    made.segment.close()


def test_in_order_it_takes_few_reads_and_each_byte_once(journal: Journal) -> None:
    for number in range(RECORDS):
        journal.read(number)
    assert journal.fs.reads < 25
    assert journal.fs.bytes < 1.2 * journal.size


@pytest.mark.parametrize("together", [1, 2])
def test_of_records_that_lie_apart_little_more_is_read_than_they_are_long(journal: Journal, together: int) -> None:
    wanted = [at + each for at in range(0, RECORDS - 8, 8) for each in range(together)]
    random.Random(2).shuffle(wanted)
    if together > 1:
        wanted.sort()
    for number in wanted:
        journal.read(number)
    assert journal.fs.bytes <= 3 * sum(journal.places[number][1] for number in wanted)


def test_nothing_is_read_ahead_unless_it_is_asked_for(journal: Journal) -> None:
    journal.ahead.most = 0
    for number in range(50):
        journal.read(number)
    assert journal.fs.bytes == sum(length for _, length in journal.places[:50])


def test_damage_is_found_in_what_was_read_ahead(journal: Journal) -> None:
    offset, length = journal.places[300]
    with open(journal.segment.path, "r+b") as file:
        os.pwrite(file.fileno(), b"\0", offset + length // 2)
    for number in range(300):
        journal.read(number)
    with pytest.raises(JournalCorruptError, match="checksum"):
        journal.read(300)
    journal.read(301)
