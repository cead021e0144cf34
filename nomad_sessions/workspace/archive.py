"""Recorded events that outlive the journal: carried over to `events/` before the segment that holds them goes.

Invariant: whoever recorded an event finds it in the journal or in `events/`, and in both for a moment at most; it goes
when a policy for it says so, never with the journal's retention. Verified by `tests/unit/test_recorded_events.py` and
`tests/crash/`.

A file of `events/` is named as the segment it comes from, and holds those of its lines that are recorded events, byte
for byte.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from nomad_sessions.errors import CorruptionError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode, frame, unframe
from nomad_sessions.storage.files import make_folder, read_whole
from nomad_sessions.storage.segment import Entry, Segment, name_of
from nomad_sessions.workspace.state import RECORDED, Body

__all__ = ["FOLDER", "archived", "archives", "carry_over", "entries_of"]

FOLDER = "events"
_MARK, _TABLES = encode(RECORDED), b'{"tables":'
_PIECE = 1 << 20
_NAME = re.compile(r"[0-9]+\.jsonl")


def carry_over(fs: FileSystem, folder: str, segments: Iterable[Segment], *, salvage: bool = False) -> None:
    """Keeps the recorded events of these segments, which are about to go. Durable on return. Under the lock.

    With `salvage`, whatever of a damaged segment can be read. Cost: the bytes of the segments, read once. Raises
    `OSError`, and without `salvage` `CorruptionError`.
    """
    made = False
    for segment in segments:
        if not salvage and not _may_hold(segment):
            continue
        entries = segment.salvage()[0] if salvage else segment.scan().entries
        places = [(each.offset, each.length) for each in entries if each.record.get("type") == RECORDED]
        if not places:
            continue
        if not made:
            make_folder(fs, f"{folder}/{FOLDER}")
            made = True
        lines = b"".join(frame(segment.raw(*place)) for place in places)
        _write(fs, f"{folder}/{FOLDER}/{name_of(segment.first_seq)}", lines)
    if made:
        fs.sync_dir(f"{folder}/{FOLDER}")


def _may_hold(segment: Segment) -> bool:
    """Whether a line of a sealed segment may be a recorded event, or is damaged, which is a scan's to judge. Cost: each
    line's checksum; memory for some MiB or twice the longest line, and not for the segment, as a scan takes."""
    at, rest = 0, b""
    while data := segment.fs.pread(segment.fd, max(_PIECE, len(rest)), at):
        at += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            body = unframe(line)
            if body is None or _MARK in body:
                return True
            if body.startswith(_TABLES):
                return False
    return True


def archived(fs: FileSystem, folder: str, *, after: int = 0) -> Iterator[Body]:
    """The records that were carried over with a seq above `after`, the newest first. Raises `CorruptionError`."""
    for first in reversed(archives(fs, folder)):
        yield from reversed([each.record for each in entries_of(fs, folder, first) if each.record["seq"] > after])


def archives(fs: FileSystem, folder: str) -> list[int]:
    """The first seqs of the segments from which records were carried over, sorted."""
    return sorted(int(name[:-6]) for name in fs.listdir(f"{folder}/{FOLDER}") if _NAME.fullmatch(name))


def entries_of(fs: FileSystem, folder: str, first: int) -> Iterator[Entry]:
    """The records that were carried over from the segment with this first seq. Raises `CorruptionError`."""
    path = f"{folder}/{FOLDER}/{name_of(first)}"
    at = 0
    for line in read_whole(fs, path).split(b"\n")[:-1]:
        body = unframe(line)
        if body is None:
            reason = f"a recorded event at offset {at} does not match its checksum"
            raise CorruptionError(path=path, reason=reason, hint="the others are intact: see its lines")
        yield Entry(decode(body), at, len(line) + 1)
        at += len(line) + 1


def _write(fs: FileSystem, path: str, data: bytes) -> None:
    temporary = f"{path}.tmp"
    fs.unlink(temporary)
    fd = fs.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fs.pwrite_all(fd, data, 0)
        fs.sync(fd)
    finally:
        fs.close(fd)
    fs.replace(temporary, path)
