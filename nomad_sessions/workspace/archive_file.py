"""One file of `events/`: a header that says how many records follow, and their lines, byte for byte as the journal had
them.

Invariant: what `build` makes is told from every other file by `parse`, a cut or a changed one included; files without a
header, of the time before there was one, are read as well, and only of those a cut between two lines goes unnoticed.
Verified by `tests/unit/test_carried_events.py`; FORMAT.md has the bytes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from nomad_sessions.errors import JournalCorruptError, UnsupportedFormatError
from nomad_sessions.storage import checksum
from nomad_sessions.storage.codec import decode, encode, frame, unframe
from nomad_sessions.storage.segment import Entry

__all__ = ["Archive", "Damage", "build", "parse"]

_VERSION = 1
_HEAD = b'{"events":'


class Damage(NamedTuple):
    """Bytes that are not as written: offset and length in the file (of what is missing, where it was), and how."""

    offset: int
    length: int
    reason: str


class Archive(NamedTuple):
    """What a file holds: its bytes, the length of its header (0: it has none), the intact records, the damage."""

    path: str
    data: bytes
    head: int
    entries: list[Entry]
    damage: list[Damage]

    def intact(self) -> list[Entry]:
        """The records, of a file without damage. Raises `JournalCorruptError`."""
        for offset, length, reason in self.damage:
            raise JournalCorruptError(path=self.path, offset=offset, length=length, reason=reason)
        return self.entries

    def line(self, entry: Entry) -> bytes:
        """A record's line, as it is in the file."""
        return self.data[entry.offset : entry.offset + entry.length]

    def rejected(self) -> bytes:
        """What would not be in the file if it were made anew of its intact records."""
        return b"".join([self.data[: self.head], *(self.data[at : at + length] for at, length, _ in self.damage)])


def build(first_seq: int, lines: Iterable[bytes]) -> bytes:
    """The file of these lines, each with its newline, carried over from the segment that begins with this seq."""
    all_lines = list(lines)
    body = b"".join(all_lines)
    told = {"events": _VERSION, "firstSeq": first_seq, "records": len(all_lines), "bytes": len(body)}
    told["sum"] = checksum.crc32(body)
    return frame(encode(told)) + body


def parse(path: str, first_seq: int, data: bytes) -> Archive:
    """Whatever of a file's bytes can be read. Raises `UnsupportedFormatError` for one of a newer format."""
    entries: list[Entry] = []
    damage: list[Damage] = []
    head, told = _head(path, data)
    if told is not None and told["firstSeq"] != first_seq:
        damage.append(Damage(0, head, f"the header is of the segment from seq {told['firstSeq']}"))
        head, told = 0, None
    at = head if told is not None else sum(each.length for each in damage)
    while at < len(data):
        after = data.find(b"\n", at) + 1 or len(data)
        record = _record(data[at:after])
        if record is None:
            damage.append(Damage(at, after - at, "checksum"))
        else:
            entries.append(Entry(record, at, after - at))
        at = after
    if told is not None:
        damage += _difference(told, data, head, len(entries), whole=not damage)
    elif not data:
        damage.append(Damage(0, 0, "it is empty"))
    return Archive(path, data, head, entries, damage)


def _head(path: str, data: bytes) -> tuple[int, dict[str, Any] | None]:
    """The header and its length; None where there is none, or none that is intact."""
    end = data.find(b"\n") + 1
    body = unframe(data[:end]) if end else None
    if body is None or not body.startswith(_HEAD):
        return 0, None
    told: dict[str, Any] = decode(body)
    if told["events"] != _VERSION:
        raise UnsupportedFormatError(path=path, found=told["events"], supported=_VERSION)
    return end, told


def _record(line: bytes) -> dict[str, Any] | None:
    body = unframe(line) if line.endswith(b"\n") else None
    record: dict[str, Any] | None = decode(body) if body is not None else None
    return record if record is not None and "seq" in record else None


def _difference(told: dict[str, Any], data: bytes, head: int, count: int, *, whole: bool) -> list[Damage]:
    """Where the lines are not those that the header tells of, though each that is there is intact (`whole`) or not."""
    size = len(data) - head
    if size < told["bytes"]:
        reason = f"the end is missing: {count} of {told['records']} records are intact"
        return [Damage(len(data), told["bytes"] - size, reason)]
    if size > told["bytes"] or (whole and checksum.crc32(memoryview(data)[head:]) != told["sum"]):
        return [Damage(head, 0, f"the lines are not the {told['records']} that the header tells of")]
    return []
