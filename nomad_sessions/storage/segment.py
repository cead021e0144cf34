"""One journal segment: an append-only file of checksummed lines, read and verified line by line.

A segment is a header line, record lines, and, once it is full, tables that say where each record lies and a seal line
that names the successor. FORMAT.md beside this file has the bytes.

Invariant: a record is handed out only when its line is intact and, in a group of several, every line of the group is
there. What follows the last such record is either an unsynced tail (to be skipped, and cut by the next writer) or
corruption; the difference is told by what later valid records knew to be durable. Verified by
`tests/unit/test_segment.py` and `tests/crash/`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat as stat_bits
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from nomad_sessions.errors import JournalCorruptError, UnsupportedFormatError
from nomad_sessions.storage._os import FileStat, FileSystem
from nomad_sessions.storage.codec import FRAME_PREFIX_LENGTH, FRAME_START, decode, encode, frame, is_framed, unframe
from nomad_sessions.storage.table import Region

__all__ = ["JOURNAL_VERSION", "Entry", "Scan", "Seal", "Segment", "first_seq_of", "header", "name_of"]

JOURNAL_VERSION = 1
_DIGITS = 16
_NAME = re.compile(rf"[0-9]{{{_DIGITS}}}\.jsonl")
_TAIL = 512
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_SEAMS = 32  # Places in a damaged line that are looked at: each is tried with each after it.


class Entry(NamedTuple):
    """A record and the place of its line: byte offset and length in its segment."""

    record: dict[str, Any]
    offset: int
    length: int


class Seal(NamedTuple):
    """The last line of a full segment: the last seq in it, the first seq of each segment that its tables cover
    (itself last), where the tables are, and what the layer above noted."""

    last_seq: int
    covers: list[int]
    tables: dict[str, Region]
    note: dict[str, Any]


class Scan(NamedTuple):
    """What a scan found from an offset on.

    `entries` are whole groups only; `end` is the offset after the last of them; `torn` is the number of bytes after
    `end` that are not (yet) a record; `seal` is set when the segment is closed; `durable` is the highest offset that
    any of the records knew to be synced.
    """

    entries: list[Entry]
    end: int
    torn: int
    seal: Seal | None
    durable: int


def name_of(first_seq: int) -> str:
    """The file name of the segment whose first record has this seq."""
    return f"{first_seq:0{_DIGITS}d}.jsonl"


def first_seq_of(name: str) -> int:
    """The first seq of the segment in a file of this name; 0 where it is the name of none."""
    return int(name[:_DIGITS]) if _NAME.fullmatch(name) else 0


def header(first_seq: int) -> bytes:
    """The first line of a segment."""
    return frame(encode({"journal": JOURNAL_VERSION, "firstSeq": first_seq}))


class Segment:
    """An open segment. Appending and syncing are for the holder of the workspace's lock; reading is for anyone."""

    def __init__(
        self, fs: FileSystem, path: str, first_seq: int, fd: int, stat: FileStat, *, writable: bool = True
    ) -> None:
        self.fs = fs
        self.path = path
        self.first_seq = first_seq
        self.fd = fd
        self.identity = (stat.dev, stat.ino)
        self.writable = writable

    @classmethod
    def open_as_may_be(cls, fs: FileSystem, folder: str, first_seq: int) -> Segment:
        """Opens an existing segment, for reading only where that is all one may."""
        try:
            return cls.open(fs, folder, first_seq, writable=True)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            return cls.open(fs, folder, first_seq, writable=False)

    @classmethod
    def open(cls, fs: FileSystem, folder: str, first_seq: int, *, writable: bool) -> Segment:
        """Opens an existing segment. Raises `FileNotFoundError` when it is gone, `PermissionError`, `OSError`,
        `JournalCorruptError` where something stands there that is no file."""
        path = f"{folder}/{name_of(first_seq)}"
        try:
            fd = fs.open(path, os.O_RDWR if writable else os.O_RDONLY)
        except IsADirectoryError as error:
            raise JournalCorruptError(path=path, offset=0, length=0, reason="it is no file") from error
        try:
            stat = fs.fstat(fd)
            if not stat_bits.S_ISREG(stat.mode):
                raise JournalCorruptError(path=path, offset=0, length=0, reason="it is no file")
            return cls(fs, path, first_seq, fd, stat, writable=writable)
        except BaseException:
            fs.close(fd)
            raise

    def __del__(self) -> None:
        # Places in messages that are still being read keep the segment, and so the bytes of a pruned file, alive.
        with contextlib.suppress(OSError):  # Nothing waits for this descriptor any more, and nobody could be told.
            self.close()

    def close(self) -> None:
        """Gives the descriptor back."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self.fs.close(fd)

    def record(self, offset: int, length: int) -> dict[str, Any]:
        """The record at a known place. Raises `JournalCorruptError` when its bytes are not as written."""
        value: dict[str, Any] = decode(self.raw(offset, length))
        return value

    def raw(self, offset: int, length: int) -> bytes:
        """The same as JSON, not decoded."""
        line = self.fs.pread(self.fd, length, offset)
        body = unframe(line)
        if body is None:
            raise self.damaged(offset, len(line))
        return body

    def damaged(self, offset: int, length: int) -> JournalCorruptError:
        """What to raise where the bytes of a line are not as written."""
        return JournalCorruptError(path=self.path, offset=offset, length=length, reason="checksum")

    def refuse_hole(self, scan: Scan, after: int) -> None:
        """Raises `JournalCorruptError` where a scan took for a torn tail what has intact records above the seq `after`
        behind it: a snapshot of that seq tells that what lies before them was synced."""
        if scan.torn and any(entry.record["seq"] > after for entry in self.salvage()[0]):
            reason = "records that the snapshot has do not match their checksum, and it has not all that follow"
            raise JournalCorruptError(path=self.path, offset=scan.end, length=scan.torn, reason=reason)

    def changed_unlocked(self, expected: int, size: int) -> JournalCorruptError:
        """The error for a segment that is `size` bytes long where, under the lock, it was read up to `expected`."""
        offset, length = min(expected, size), abs(size - expected)
        if size < expected:
            reason = "cut off by somebody who had no lock"
            return JournalCorruptError(path=self.path, offset=offset, length=length, reason=reason)
        reason = "written by somebody who had no lock"
        hint = "nothing was written over: call again, and see that no other program writes there"
        return JournalCorruptError(path=self.path, offset=offset, length=length, reason=reason, hint=hint)

    def seal(self) -> Seal | None:
        """The seal, read from the end of the file, or None while the segment is the live one. A few kilobytes read."""
        size = self.fs.fstat(self.fd).size
        start = max(0, size - _TAIL)
        tail = self.fs.pread(self.fd, size - start, start)
        while tail.count(b"\n") < 2 and start:
            start = max(0, start - 64 * _TAIL)
            tail = self.fs.pread(self.fd, size - start, start)
        if not tail.endswith(b"\n"):
            return None
        body = unframe(tail[tail.rfind(b"\n", 0, -1) + 1 :])
        return None if body is None or not body.startswith(b'{"seal":') else _seal(decode(body))

    def id_of(self, seq: int) -> str:
        """The id of the record with this seq, or, where a seal ends with it, of the last one that has an id; "" where
        that cannot be told. Cost: the seal, else the bytes of the segment."""
        seal = self.seal()
        if seal is not None and seal.last_seq == seq:
            return str(seal.note.get("lastId", ""))
        data = self.fs.pread(self.fd, self.fs.fstat(self.fd).size, 0)
        at = data.find(mark := b'","seq":%d,' % seq)
        while at >= 0:
            start, stop = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
            if at + 2 == start + FRAME_PREFIX_LENGTH and stop > 0 and is_framed(data, start, stop):
                return str(self.record(start, stop - start).get("id", ""))
            at = data.find(mark, at + 1)
        return ""

    def salvage(self) -> tuple[list[Entry], list[tuple[int, int]]]:
        """Every intact record of the file, and the places (offset, length) of what is damaged between them."""
        keep: list[Entry] = []
        skipped: list[tuple[int, int]] = []
        _salvage(self.fs.pread(self.fd, self.fs.fstat(self.fd).size, 0), keep, skipped)
        return keep, skipped

    def scan(self, start: int = 0, next_seq: int | None = None, *, unsealed: bool = False) -> Scan:
        """Reads and verifies all lines from `start` (0, or an offset that a scan gave as `end`) to the end.

        `unsealed` says that tables and seal are not to be believed: they count as a torn tail.
        Raises `JournalCorruptError` for damage that a later record proves to have been durable, or for a seq out of
        order; `UnsupportedFormatError` for a newer format. Cost: the bytes read.
        """
        data = self.fs.pread(self.fd, max(0, self.fs.fstat(self.fd).size - start), start)
        return _Scanner(self.path, self.first_seq, data, start, next_seq, unsealed).run()


def _salvage(data: bytes, keep: list[Entry], skipped: list[tuple[int, int]]) -> None:
    at = 0
    while at < len(data):
        stop = data.find(b"\n", at)
        stop = len(data) if stop < 0 else stop
        start, end = _intact_in(data, at, stop)
        if start > at:
            skipped.append((at, start - at))
        after = stop + 1
        if end:
            # Where the newline is damaged, the line is as long as what is intact of it.
            record = decode(b"{" + data[start + FRAME_PREFIX_LENGTH : end])
            after = end + 1
            if "tables" in record:
                after += int(record["tables"])
            elif "seq" in record:
                keep.append(Entry(record, start, end - start + (end == stop)))
        at = after


def _intact_in(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """From where to where in a line, which ends at `stop`, the first intact one is: all of it, or, where a newline was
    damaged, one of those that it seems to be. Where there is none, its end, with the newline, and 0."""
    if is_framed(data, start, stop):
        return start, stop
    starts = list(islice(_places(data, start, stop), _SEAMS))
    for number, begin in enumerate(starts):
        for end in (*(each - 1 for each in starts[number + 1 :]), stop):
            if is_framed(data, begin, end):
                return begin, end
    return min(stop + 1, len(data)), 0


def _places(data: bytes, start: int, stop: int) -> Iterator[int]:
    at = data.find(FRAME_START, start, stop)
    while at >= 0:
        yield at
        at = data.find(FRAME_START, at + 1, stop)


def _seal(body: Any) -> Seal:
    seal = body["seal"]
    places = {name: Region(*place) for name, place in seal["tables"].items()}
    return Seal(seal["lastSeq"], seal["covers"], places, seal["note"])


class _Scanner:
    """Walks the lines of one buffer."""

    def __init__(
        self, path: str, first_seq: int, data: bytes, start: int, next_seq: int | None, unsealed: bool
    ) -> None:
        self.path, self.first_seq, self.data, self.start = path, first_seq, data, start
        self.unsealed = unsealed
        self.next_seq = first_seq if next_seq is None else next_seq
        self.entries: list[Entry] = []
        self.group: list[Entry] = []
        self.end = 0
        self.durable = 0
        self.seal: Seal | None = None

    def run(self) -> Scan:
        data, size = self.data, len(self.data)
        at = 0 if self.start else self._header()
        while 0 <= at < size and self.seal is None:
            stop = data.find(b"\n", at)
            body = unframe(data[at:stop]) if stop >= 0 else None
            if body is None:
                break
            at = self._line(body, at, stop + 1 - at)
        torn = size - self.end
        if torn and self.seal is None:
            self._judge(max(min(at, size), self.end))
        return Scan(self.entries, self.start + self.end, 0 if self.seal else torn, self.seal, self.durable)

    def _header(self) -> int:
        """The offset after the header; -1 for a segment whose creation was cut short."""
        stop = self.data.find(b"\n")
        body = unframe(self.data[:stop]) if stop >= 0 else None
        if body is None:
            return -1
        head = decode(body)
        if head.get("journal") != JOURNAL_VERSION:
            raise UnsupportedFormatError(path=self.path, found=head.get("journal"), supported=JOURNAL_VERSION)
        if head.get("firstSeq") != self.first_seq:
            raise self._corrupt(0, stop + 1, f"the header says seq {head.get('firstSeq')}")
        self.end = stop + 1
        return stop + 1

    def _line(self, body: bytes, at: int, length: int) -> int:
        """Takes one intact line; where the next one starts."""
        record = decode(body)
        after = at + length
        if "seal" in record:
            if not self.unsealed:
                self.seal = _seal(record)
                self.end = after
        elif "tables" in record:
            after += int(record["tables"])
        else:
            self._record(record, at, length)
        return after

    def _record(self, record: dict[str, Any], at: int, length: int) -> None:
        seq = record.get("seq")
        if seq != self.next_seq:
            raise self._corrupt(at, length, f"seq {seq} where {self.next_seq} is due")
        self.next_seq += 1
        self.durable = max(self.durable, record.get("durable", 0))
        entry = Entry(record, self.start + at, length)
        last = record.get("until", seq)
        if self.group or last != seq:
            self.group.append(entry)
            if last != seq:
                return
            self.entries += self.group
            self.group = []
        else:
            self.entries.append(entry)
        self.end = at + length

    def _judge(self, at: int) -> None:
        """Damage at `at`: corruption if a valid record after it knew that offset to be durable."""
        position = at
        # Not by newlines: the damaged byte may be the one that ended the record before a valid one.
        while (position := self.data.find(FRAME_START, position + 1)) >= 0:
            stop = self.data.find(b"\n", position)
            body = unframe(self.data[position:stop]) if stop >= 0 else None
            if body is None:
                continue
            record = decode(body)
            if record.get("durable", 0) > self.start + at:
                raise self._corrupt(at, position - at, "bytes known to be durable do not match their checksum")

    def _corrupt(self, at: int, length: int, reason: str) -> JournalCorruptError:
        return JournalCorruptError(path=self.path, offset=self.start + at, length=length, reason=reason)
