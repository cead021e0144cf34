"""Sorted tables inside a file: one JSON row a line, each with a checksum of its own, found by bisection.

Invariant: a row that `lookup` or `rows` returns has every byte as `row` wrote it; anything else is `TableDamaged`. A
lookup reads O(log n) kilobytes whatever the size of the table, as in the index blocks of an SSTable (LevelDB), so that
opening costs nothing that grows. Verified by `tests/unit/test_table.py` and `test_table_keys.py`.

A row is `["<crc32 of the rest, 8 hex digits>",<key>,<field>,…]`, one a line, separated by `,\n` where the table stands
inside a JSON array and by `\n` where it stands in a file of lines; sorted by key as Python sorts `str` (code points).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection
from typing import Any, NamedTuple

from nomad_sessions.storage import checksum
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode

__all__ = ["Keys", "Region", "TableDamaged", "checked", "lookup", "lookup_many", "row", "rows"]


_PREFIX = len('["00000000",')
_WINDOW = 4096
_MANY = 16


class TableDamaged(Exception):
    """A table's bytes are not the ones that were written (or the file was replaced in place)."""


class Region(NamedTuple):
    """Where a table lies: byte offset, byte length, CRC-32 of all of it."""

    offset: int
    length: int
    crc: int

    @classmethod
    def of(cls, data: bytes, offset: int) -> Region:
        """The place of bytes that begin at this offset."""
        return cls(offset, len(data), checksum.crc32(data))


def row(fields: list[Any]) -> bytes:
    """The line of a row, without separator; `fields[0]` is the key, a `str`."""
    return checked(encode(fields, finite=True)[1:])


def checked(rest: bytes) -> bytes:
    """The same of a row's JSON without the bracket that begins it."""
    return b'["%08x",%b' % (checksum.crc32(rest), rest)


def _parse(line: bytes) -> list[Any]:
    fields: list[Any] = decode(b"[" + _verified(line))
    return fields


def _key(line: bytes) -> str:
    """The key of a row, which may be long: only that is decoded."""
    rest = _verified(line)
    name = rest[1 : rest.find(b'"', 1)]
    return _parse(line)[0] if b"\\" in name else name.decode("utf-8")


def _verified(line: bytes) -> bytes:
    rest = line[_PREFIX:]
    if line[:_PREFIX] != b'["%08x",' % checksum.crc32(rest):
        raise TableDamaged("a row does not match its checksum")
    return rest


def rows(fs: FileSystem, fd: int, region: Region) -> list[list[Any]]:
    """All rows of a table, verified as a whole; each begins with its checksum, and its key stands second."""
    data = fs.pread(fd, region.length, region.offset)
    if len(data) != region.length or checksum.crc32(data) != region.crc:
        raise TableDamaged("a table does not match its checksum")
    if b",\n" not in data:
        data = data.replace(b"\n", b",")
    parsed: list[list[Any]] = decode(b"[" + data + b"]")
    return parsed


def lookup(fs: FileSystem, fd: int, region: Region, key: str) -> list[Any] | None:
    """The row of `key` without its checksum, or None."""
    low, high = 0, region.length
    while high - low > _WINDOW:
        start, end, line = _row_at(fs, fd, region, (low + high) // 2)
        found = _key(line)
        if found == key:
            return _parse(line)
        if key < found:
            high = start
        else:
            low = end
    return _bisect_lines(fs.pread(fd, high - low, region.offset + low), key) if high > low else None


def lookup_many(fs: FileSystem, fd: int, region: Region, keys: Collection[str]) -> dict[str, list[Any]]:
    """The rows of those `keys` that are there, by key. Cost: that of looking for each, or of reading all, whichever is
    less."""
    if len(keys) * _cost(region) < region.length:
        return {key: fields for key in keys if (fields := lookup(fs, fd, region, key)) is not None}
    wanted = frozenset(keys)
    return {fields[1]: fields[1:] for fields in rows(fs, fd, region) if fields[1] in wanted} if wanted else {}


def _cost(region: Region) -> int:
    """About how many bytes one lookup reads."""
    return _WINDOW + 1024 * max(0, (region.length // _WINDOW).bit_length())


class Keys:
    """What is known of a table's keys without reading it: enough to say of most keys that they are not there.

    Nothing at first; the first and the last once many keys are asked for at once, for ids begin with a time (an SSTable
    is passed over in the same way). Once the lookups have cost what reading the table whole costs, it is read whole,
    and 8 bytes of each key are kept. So however many keys are asked for, at most about twice the least possible is
    read, and who asks for a few reads and keeps nothing more (ski rental).
    """

    __slots__ = ("_ends", "_prints", "_spent")

    def __init__(self) -> None:
        self._ends: tuple[str, str] | None = None
        self._prints: array[int] | None = None
        self._spent = 0

    def find(self, fs: FileSystem, fd: int, region: Region, keys: Collection[str]) -> dict[str, list[Any]]:
        """As `lookup_many`, of the one table that this is of."""
        if len(keys) >= _MANY and region.length:
            if self._ends is None:
                first, last = (_key(_row_at(fs, fd, region, at)[2]) for at in (0, region.length - 1))
                self._ends = first, last
            first, last = self._ends
            keys = [key for key in keys if first <= key <= last]
        prints = self._prints
        if prints is None and self._spent < region.length:
            self._spent += min(len(keys) * _cost(region), region.length)
        elif keys:
            if prints is None:
                prints = self._prints = array("q", sorted(hash(fields[1]) for fields in rows(fs, fd, region)))
            keys = [key for key in keys if _among(prints, hash(key))]
        return lookup_many(fs, fd, region, keys)


def _among(prints: array[int], wanted: int) -> bool:
    at = bisect_left(prints, wanted)
    return at < len(prints) and prints[at] == wanted


def _bisect_lines(data: bytes, key: str) -> list[Any] | None:
    lines = [line.rstrip(b",") for line in data.strip(b",\n").split(b"\n")]
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high) // 2
        found = _key(lines[middle])
        if found == key:
            return _parse(lines[middle])
        if key < found:
            high = middle
        else:
            low = middle + 1
    return None


def _row_at(fs: FileSystem, fd: int, region: Region, position: int) -> tuple[int, int, bytes]:
    """The row that covers `position`: its start, the start of the next one, and its line, which is not verified."""
    window = 512
    while True:
        begin = max(0, position - window)
        end = min(region.length, position + window)
        data = fs.pread(fd, end - begin, region.offset + begin)
        start = data.rfind(b"\n", 0, position - begin) + 1
        stop = data.find(b"\n", position - begin)
        if (start or not begin) and (stop >= 0 or end == region.length):
            line = data[start : stop if stop >= 0 else len(data)]
            return begin + start, begin + start + len(line) + 1, line.rstrip(b",")
        if not begin and end == region.length:
            raise TableDamaged("a table has no row where one should be")
        window *= 8
