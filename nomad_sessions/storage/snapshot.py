"""Reading a snapshot: a plain JSON file that is opened without being parsed.

A snapshot is one JSON object. Its first key holds *groups*, one record a line; its second holds *items*, each group's
items as one contiguous run, one record a line; further keys follow, and last comes our own, `"nomad"`: tables that say
where each record lies, a head, and a trailer line of fixed width. So the end of the file leads to everything else (as a
Parquet footer does), and what is not asked for is not read. FORMAT.md beside this file has the bytes.

Invariant: no byte is handed out that its checksum does not cover; a mismatch raises `SnapshotChanged`, and the caller
looks at the file afresh. Verified by `tests/unit/test_snapshot.py`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat as stat_bits
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, TypeVar

from nomad_sessions.errors import UnsupportedFormatError
from nomad_sessions.storage import checksum, table
from nomad_sessions.storage._os import FileStat, FileSystem
from nomad_sessions.storage.codec import decode
from nomad_sessions.storage.table import Keys, Region, TableDamaged

__all__ = ["FORMAT_VERSION", "TRAILER", "TRAILER_LENGTH", "Block", "GroupRow", "ItemRow", "Snapshot", "SnapshotChanged"]

T = TypeVar("T")
FORMAT_VERSION = 1
TRAILER = b'"trailer":"nomad1 %016d %016d %08x %016d"}}\n'
TRAILER_LENGTH = len(TRAILER % (0, 0, 0, 0))
_TRAILER = re.compile(rb'"trailer":"nomad(\d+) (\d{16}) (\d{16}) ([0-9a-f]{8}) (\d{16})"}}\n\Z')
_TAIL = 4096


class SnapshotChanged(Exception):
    """A snapshot's bytes are no longer those that its index describes: replaced in place, or damaged."""


class Block(NamedTuple):
    """A verified stretch of a run: byte length, CRC-32, number of items."""

    length: int
    crc: int
    items: int


class GroupRow(NamedTuple):
    """Where a group's record and run of items lie, and what the layer above stored beside it."""

    id: str
    record: Region
    run_offset: int
    blocks: list[Block]
    info: list[Any]

    @classmethod
    def of(cls, fields: list[Any]) -> GroupRow:
        """The row that a table holds as these fields."""
        identifier, *info = fields
        # Places come last, so that what lists need is one slice.
        info, (offset, length, crc, run_offset, blocks) = info[:-5], info[-5:]
        numbers = list(map(int, blocks.split()))
        triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        return cls(identifier, Region(offset, length, crc), run_offset, list(map(Block._make, triples)), info)

    def block_offset(self, number: int) -> int:
        """The byte at which block `number` starts; blocks are separated by the two bytes `,\\n`."""
        return self.run_offset + sum(block.length + 2 for block in self.blocks[:number])


class ItemRow(NamedTuple):
    """Where an item's line lies, which group it belongs to, and the number at which it was created."""

    id: str
    group: str
    line: Region
    created: int


class Snapshot:
    """An open snapshot of ours. Reads cost what is read; the descriptor stays open until `close`.

    Attributes: `head` (the JSON object that the trailer leads to), `seq` (the last change folded in), `stat` (identity
    of the file when it was opened).
    """

    def __init__(self, fs: FileSystem, path: str, fd: int, stat: FileStat, head: dict[str, Any]) -> None:
        self._fs = fs
        self._fd = fd
        # Where an open file cannot be replaced, none is held: each read opens it, and sees whether it is the same.
        self._trailer = b"" if fs.replaces_open else fs.pread(fd, TRAILER_LENGTH, stat.size - TRAILER_LENGTH)
        self.path = path
        self.stat = stat
        self.head = head
        self.seq: int = head["seq"]
        self._groups = Region(*head["tables"]["groups"])
        self._items = Region(*head["tables"]["items"])
        self._item_keys = Keys()

    @classmethod
    def open(cls, fs: FileSystem, path: str) -> Snapshot | None:
        """The snapshot at `path`, or None when there is no file or its trailer is not ours and intact.

        Raises `UnsupportedFormatError` for a snapshot of a newer version.
        """
        try:
            fd = fs.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            stat = fs.fstat(fd)
            head = _read_head(fs, fd, stat.size, path) if stat_bits.S_ISREG(stat.mode) else None
        except BaseException:
            fs.close(fd)
            raise
        if head is None:
            fs.close(fd)
            return None
        snapshot = cls(fs, path, fd, stat, head)
        if not fs.replaces_open:
            snapshot.close()
        return snapshot

    @classmethod
    def intact(cls, fs: FileSystem, path: str) -> Snapshot | None:
        """As `open`, but None also where any byte is not as written. Cost: all of them."""
        snapshot = cls.open(fs, path)
        try:
            if snapshot is not None:
                snapshot.verify()
        except SnapshotChanged:
            return None
        return snapshot

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # Only read through; nobody could be told.
            self.close()

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._fs.close(fd)

    def group(self, identifier: str) -> GroupRow | None:
        """The row of one group."""
        fields = self._verified(lambda fd: table.lookup(self._fs, fd, self._groups, identifier))
        return None if fields is None else GroupRow.of(fields)

    def groups(self) -> Iterator[GroupRow]:
        """The rows of all groups, sorted by id."""
        return (GroupRow.of(fields[1:]) for fields in self.group_fields())

    def group_fields(self) -> list[list[Any]]:
        """The same as the table holds them: a checksum, then what `GroupRow.of` takes, the id and `info` first."""
        return self._rows(self._groups)

    def item(self, identifier: str) -> ItemRow | None:
        """The row of one item."""
        return self.items_of((identifier,)).get(identifier)

    def items_of(self, ids: Collection[str]) -> dict[str, ItemRow]:
        """The rows of those `ids` that are there, by id; who asks for many is answered from memory where they are not
        there."""

        found = self._verified(lambda fd: self._item_keys.find(self._fs, fd, self._items, ids))
        return {key: _item(fields) for key, fields in found.items()}

    def items(self) -> Iterator[ItemRow]:
        """The rows of all items, sorted by id."""
        return (_item(fields[1:]) for fields in self._rows(self._items))

    def table(self, name: str) -> list[list[Any]]:
        """All rows of a further table named in the head, key first; empty when there is none."""
        place = self.head["tables"].get(name)
        return [fields[1:] for fields in self._rows(Region(*place))] if place else []

    def read(self, region: Region) -> bytes:
        """The verified bytes of one record line: `"<id>":<json>`."""
        data = self._through(lambda fd: self._fs.pread(fd, region.length, region.offset))
        if len(data) != region.length or checksum.crc32(data) != region.crc:
            raise SnapshotChanged(f"{self.path}: bytes at {region.offset} do not match their checksum")
        return data

    def value(self, region: Region) -> Any:
        """The JSON value of one record line."""
        ((_, value),) = decode(b"{" + self.read(region) + b"}").items()
        return value

    def block(self, row: GroupRow, number: int) -> list[bytes]:
        """The item lines of one block of a group's run, verified."""
        block = row.blocks[number]
        return self.read(Region(row.block_offset(number), block.length, block.crc)).split(b",\n")

    def verify(self) -> None:
        """Reads every record and table. Raises `SnapshotChanged` at the first byte that is not as written."""
        for group in self.groups():
            if group.record.length:
                self.read(group.record)
            for number in range(len(group.blocks)):
                self.block(group, number)
        for item in self.items():
            self.read(item.line)
        for name in self.head["tables"]:
            self.table(name)
        for place in self.head["extras"].values():
            self.read(Region(*place))

    def _through(self, read: Callable[[int], T]) -> T:
        """`read(descriptor)`."""
        if not self._trailer:
            return read(self._fd)
        try:
            fd = self._fs.open(self.path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise SnapshotChanged(f"{self.path}: it has gone") from error
        try:
            if self._fs.pread(fd, TRAILER_LENGTH + 1, self.stat.size - TRAILER_LENGTH) != self._trailer:
                raise SnapshotChanged(f"{self.path}: another file is there")
            return read(fd)
        finally:
            self._fs.close(fd)

    def _rows(self, region: Region) -> list[list[Any]]:
        return self._verified(lambda fd: table.rows(self._fs, fd, region))

    def _verified(self, read: Callable[[int], T]) -> T:
        """`read(descriptor)` of a table."""
        try:
            return self._through(read)
        except TableDamaged as error:
            raise SnapshotChanged(f"{self.path}: {error}") from error


def _item(fields: list[Any]) -> ItemRow:
    identifier, group, offset, length, crc, created = fields
    return ItemRow(identifier, group, Region(offset, length, crc), created)


def _read_head(fs: FileSystem, fd: int, size: int, path: str) -> dict[str, Any] | None:
    """The head, when the trailer says that this very file is ours; None otherwise."""
    start = max(0, size - _TAIL)
    tail = fs.pread(fd, size - start, start)
    match = _TRAILER.search(tail)
    if not match or int(match[2]) != size:
        return None
    if int(match[1]) != FORMAT_VERSION:
        raise UnsupportedFormatError(path=path, found=int(match[1]), supported=FORMAT_VERSION)
    offset, crc, seq = int(match[3]), int(match[4], 16), int(match[5])
    end = start + match.start()
    if not 0 <= offset < end:
        return None
    line = tail[offset - start : match.start()] if offset >= start else fs.pread(fd, end - offset, offset)
    line = line.rstrip(b",\n")
    if checksum.crc32(line) != crc:
        return None
    head = decode(b"{" + line + b"}")["head"]
    return head if isinstance(head, dict) and head.get("seq") == seq else None
