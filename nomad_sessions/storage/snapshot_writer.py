"""Writing a snapshot: groups, then each group's items, then further keys, then the index that `snapshot.py` reads.

Invariant: the file is complete and synced when `finish` returns, and has the shape that FORMAT.md gives; nobody sees
it before it is moved into place. Verified by `tests/unit/test_snapshot.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from nomad_sessions.storage import checksum
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import encode, encode_name
from nomad_sessions.storage.snapshot import FORMAT_VERSION, TRAILER, TRAILER_LENGTH
from nomad_sessions.storage.table import Region, checked, row

__all__ = ["BLOCK_BYTES", "BLOCK_ITEMS", "Item", "SnapshotWriter", "line_of"]

BLOCK_ITEMS = 32
BLOCK_BYTES = 64 * 1024
_BUFFER = 1 << 20
_SEPARATOR = b",\n"


Item = tuple[str, bytes, bytes, int]
"""One item to write: its id, that as JSON, its whole line (`line_of`), the number at which it was created."""


def line_of(name: bytes, body: bytes) -> bytes:
    """The line `"<id>":<json>` of a record; `name` is its id as JSON."""
    return b"%b:%b" % (name, body)


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
        line = line_of(encode_name(identifier), body)
        place = Region.of(line, self._position() + len(self._separator))
        self._put(self._separator, line)
        self._separator = _SEPARATOR
        self._groups[identifier] = (place, info)

    def group_without_record(self, identifier: str, info: list[Any]) -> None:
        """Announces a run of items that belong to no group; the id must not be one of a group."""
        self._groups[identifier] = (Region(0, 0, 0), info)

    def items(self, group: str, items: Iterable[Item]) -> None:
        """Writes a group's run of items."""
        self._enter_items()
        record, info = self._groups.pop(group)
        of, blocks = encode_name(group), list[str]()
        start = at = self._position() + len(self._separator)
        lines, size = list[bytes](), 0
        for identifier, name, line, created in items:
            length = len(line)
            fields = b"%b,%b,%d,%d,%d,%d]" % (name, of, at, length, checksum.crc32(line), created)
            self._item_rows.append((identifier, checked(fields)))
            lines.append(line)
            at += length + len(_SEPARATOR)
            size += length
            if len(lines) >= BLOCK_ITEMS or size >= BLOCK_BYTES:
                blocks.append(self._block(lines))
                lines, size = [], 0
        if lines:
            blocks.append(self._block(lines))
        # Numbers in one string: a list of all groups is parsed often, the blocks of one rarely.
        self._group_rows.append((group, row([group, *info, *record, start, " ".join(blocks)])))

    def extra(self, key: str, body: bytes) -> None:
        """Writes a further top-level key with its JSON value."""
        self._enter_extras()
        line = line_of(encode_name(key), body)
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

    def _block(self, lines: list[bytes]) -> str:
        """Writes a block of lines; gives what the index says of it: bytes with what stands between them, CRC, lines."""
        data = _SEPARATOR.join(lines)
        self._put(self._separator, data)
        self._separator = _SEPARATOR
        return f"{len(data)} {checksum.crc32(data)} {len(lines)}"

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
        return Region.of(data, self._position())

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
