"""Writing a snapshot: groups, then each group's items, then further keys, then the index that `snapshot.py` reads.

Invariant: the file is complete and synced when `finish` returns, and has the shape that FORMAT.md gives; nobody sees
it before it is moved into place. Verified by `tests/unit/test_snapshot.py`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import encode
from nomad_sessions.storage.snapshot import FORMAT_VERSION, TRAILER, TRAILER_LENGTH
from nomad_sessions.storage.table import Region, checked, row

__all__ = ["BLOCK_BYTES", "BLOCK_ITEMS", "Item", "SnapshotWriter", "line_of"]

BLOCK_ITEMS = 32
BLOCK_BYTES = 64 * 1024
_BUFFER = 1 << 20
_SEPARATOR = b",\n"


class Item(NamedTuple):
    """One item to write: its id, its whole line (`line_of`), the number at which it was created."""

    id: str
    line: bytes
    created: int


def line_of(identifier: str, body: bytes) -> bytes:
    """The line `"<id>":<json>` of a record."""
    return b"%b:%b" % (encode(identifier, finite=True), body)


class SnapshotWriter:
    """Writes one snapshot to a new file. Call order: `group`…, `items`… (same order), `extra`…, `finish`.

    Memory: a megabyte of buffer and one small row for each record.
    """

    def __init__(self, fs: FileSystem, path: str, keys: tuple[str, str] = ("sessions", "messages")) -> None:
        self._fs = fs
        self._fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._flushed = 0
        self._item_key = keys[1]
        self._separator = b""
        self._groups: dict[str, tuple[Region, list[Any]]] = {}
        self._group_rows: list[tuple[str, bytes]] = []
        self._item_rows: list[tuple[str, bytes]] = []
        self._extras: dict[str, Region] = {}
        self._section = 0
        self._put(b"{" + encode(keys[0]) + b":{")
        self._separator = b"\n"

    def group(self, identifier: str, body: bytes, info: list[Any]) -> None:
        """Writes a group's record; `info` is any JSON list to keep beside its place in the index."""
        self._groups[identifier] = (self._line(line_of(identifier, body)), info)

    def group_without_record(self, identifier: str, info: list[Any]) -> None:
        """Announces a run of items that belong to no group; the id must not be one of a group."""
        self._groups[identifier] = (Region(0, 0, 0), info)

    def items(self, group: str, items: Iterable[Item]) -> None:
        """Writes a group's run of items."""
        self._enter_items()
        record, info = self._groups.pop(group)
        name, blocks = encode(group), list[str]()
        start = self._position() + len(self._separator)
        count = size = crc = 0
        for identifier, line, created in items:
            place = self._line(line)
            fields = b"%b,%b,%d,%d,%d,%d]" % (encode(identifier, finite=True), name, *place, created)
            self._item_rows.append((identifier, checked(fields)))
            crc = zlib.crc32(line, zlib.crc32(_SEPARATOR, crc) if count else 0)
            count += 1
            size += place.length
            if count >= BLOCK_ITEMS or size >= BLOCK_BYTES:
                blocks.append(_block(count, size, crc))
                count = size = crc = 0
        if count:
            blocks.append(_block(count, size, crc))
        # Numbers in one string: a list of all groups is parsed often, the blocks of one rarely.
        self._group_rows.append((group, row([group, *info, *record, start, " ".join(blocks)])))

    def extra(self, key: str, body: bytes) -> None:
        """Writes a further top-level key with its JSON value."""
        self._enter_extras()
        line = line_of(key, body)
        self._extras[key] = self._place(line)
        self._put(line + b",\n")

    def finish(self, head: dict[str, Any], tables: dict[str, list[list[Any]]]) -> int:
        """Writes the index, syncs and closes the file; returns its size in bytes.

        `head` must have `seq`; `tables` are further sorted tables of the layer above, rows with their key first.
        """
        self._enter_extras()
        self._put(b'"nomad":{\n')
        places = {"groups": self._table("groups", self._group_rows), "items": self._table("items", self._item_rows)}
        for name, fields in tables.items():
            places[name] = self._table(name, [(each[0], row(each)) for each in fields])
        body = {"format": FORMAT_VERSION, **head, "extras": self._extras, "tables": places}
        line = b'"head":' + encode(body)
        place = self._place(line)
        self._put(line + b",\n")
        size = self._position() + TRAILER_LENGTH
        self._put(TRAILER % (size, place.offset, place.crc, head["seq"]))
        self._flush()
        self._fs.sync(self._fd)
        self.close()
        return size

    def close(self) -> None:
        """Gives the descriptor back, also after a failure; the file itself is the caller's to remove."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._fs.close(fd)

    def _table(self, name: str, entries: list[tuple[str, bytes]]) -> Region:
        entries.sort()
        data = b",\n".join([line for _, line in entries])
        self._put(encode(name) + b":[\n")
        place = self._place(data)
        self._put(data + b"\n],\n")
        return place

    def _line(self, line: bytes) -> Region:
        place = Region(self._position() + len(self._separator), len(line), zlib.crc32(line))
        self._put(self._separator, line)
        self._separator = _SEPARATOR
        return place

    def _enter_items(self) -> None:
        if self._section == 0:
            self._section = 1
            self._put(b"\n},\n" + encode(self._item_key) + b":{")
            self._separator = b"\n"

    def _enter_extras(self) -> None:
        self._enter_items()
        if self._section == 1:
            self._section = 2
            for group in list(self._groups):
                self.items(group, ())
            self._put(b"\n},\n")

    def _place(self, data: bytes) -> Region:
        return Region(self._position(), len(data), zlib.crc32(data))

    def _position(self) -> int:
        return self._flushed + self._buffered

    def _put(self, *pieces: bytes) -> None:
        self._buffer += pieces
        self._buffered += sum(map(len, pieces))
        if self._buffered >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._fs.pwrite_all(self._fd, data, self._flushed)
        self._flushed += len(data)
        self._buffer, self._buffered = [], 0


def _block(count: int, size: int, crc: int) -> str:
    """What the index says of a block of so many lines, of so many bytes without what stands between them."""
    return f"{size + (count - 1) * len(_SEPARATOR)} {crc} {count}"
