"""Recorded events that outlive the journal: carried over to `events/` before the segment that holds them goes.

Invariant: whoever recorded an event finds it in the journal or in `events/`, and in both for a moment at most; it goes
when a policy for it says so, never with the journal's retention. What `events/` has is never replaced by less. Verified
by `tests/unit/test_recorded_events.py`, `tests/unit/test_carried_events.py` and `tests/crash/`.

A file of `events/` is named as the segment it comes from, and holds those of its lines that are recorded events.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from nomad_sessions.storage import quarantine
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import encode, frame, unframe
from nomad_sessions.storage.files import make_folder, read_whole, replace_whole
from nomad_sessions.storage.segment import Entry, Segment, name_of
from nomad_sessions.workspace.archive_file import Archive, build, parse
from nomad_sessions.workspace.state import RECORDED, Body

__all__ = ["FOLDER", "archived", "archives", "carry_over", "entries_of", "mend", "open_archive", "remove_temporary"]

FOLDER = "events"
_MARK, _TABLES = encode(RECORDED), b'{"tables":'
_PIECE = 1 << 20
_NAME = re.compile(r"[0-9]+\.jsonl")
_TEMPORARY = ".jsonl.tmp"


def carry_over(fs: FileSystem, folder: str, segments: Iterable[Segment], *, salvage_to: int | None = None) -> None:
    """Keeps the recorded events of these segments, which are about to go, beside those that were carried over from them
    before. Durable on return. Under the lock.

    With `salvage_to`, whatever can be read of damaged segments and files, up to this seq; what cannot is in quarantine.
    Cost: the bytes of the segments, read once. Raises `OSError`, and without `salvage_to` `CorruptionError`.
    """
    made = False
    for segment in segments:
        if salvage_to is None and not _may_hold(segment):
            continue
        entries = segment.scan().entries if salvage_to is None else segment.salvage()[0]
        lines = {
            each.record["seq"]: frame(segment.raw(each.offset, each.length))
            for each in entries
            if each.record.get("type") == RECORDED and (salvage_to is None or each.record["seq"] <= salvage_to)
        }
        if not lines:
            continue
        if not made:
            make_folder(fs, f"{folder}/{FOLDER}")
            made = True
        _add(fs, folder, segment.first_seq, lines, salvage=salvage_to is not None)
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


def _add(fs: FileSystem, folder: str, first: int, lines: dict[int, bytes], *, salvage: bool) -> None:
    """Puts a segment's lines, by seq, into its file, which may have some: after a crash, or of a segment that was put
    back. Where both have another line for a seq the segment's stays, and the file's goes to quarantine."""
    path = f"{folder}/{FOLDER}/{name_of(first)}"
    former, rejected = b"", b""
    if fs.stat(path) is not None:
        there = open_archive(fs, folder, first)
        former, rejected = there.data, there.rejected() if salvage and there.damage else b""
        for entry in there.entries if salvage else there.intact():
            line = there.line(entry)
            if lines.setdefault(entry.record["seq"], line) != line:
                rejected += line
    data = build(first, (line for _, line in sorted(lines.items())))
    if data != former:
        _replace(fs, folder, first, data, rejected)


def _replace(fs: FileSystem, folder: str, first: int, data: bytes, rejected: bytes) -> str | None:
    """Writes a file anew, once what it will have no more is in quarantine; where that is. Durable on return."""
    name = name_of(first)
    kept = quarantine.keep(fs, folder, f"{name}.events", rejected) if rejected else None
    replace_whole(fs, f"{folder}/{FOLDER}/{name}", data)
    return kept


def mend(fs: FileSystem, folder: str) -> list[str]:
    """Makes every damaged file anew of the records in it that are intact, the rest of its bytes in quarantine; says
    what was done. Durable on return. Under the lock. Raises `OSError`, `UnsupportedFormatError`."""
    actions = []
    for first in archives(fs, folder):
        found = open_archive(fs, folder, first)
        if not found.damage:
            continue
        if found.entries:
            data = build(first, map(found.line, found.entries))
            kept = _replace(fs, folder, first, data, found.rejected())
        else:
            kept = quarantine.keep(fs, folder, f"{name_of(first)}.events", found.data) if found.data else None
            fs.unlink(found.path)
        fs.sync_dir(f"{folder}/{FOLDER}")
        rest = f", the rest is {kept}" if kept is not None else ""
        reasons = ", ".join(dict.fromkeys(each.reason for each in found.damage))
        actions.append(f"made {found.path} anew of {len(found.entries)} recorded events ({reasons}){rest}")
    return actions


def remove_temporary(fs: FileSystem, folder: str) -> None:
    """Removes files that a crash left half written. Only under the lock: then nobody is writing one."""
    for name in fs.listdir(f"{folder}/{FOLDER}"):
        if name.endswith(_TEMPORARY):
            with contextlib.suppress(OSError):
                fs.unlink(f"{folder}/{FOLDER}/{name}")


def archived(fs: FileSystem, folder: str, *, after: int = 0) -> Iterator[Body]:
    """The records that were carried over with a seq above `after`, the newest first. Raises `CorruptionError`."""
    for first in reversed(archives(fs, folder)):
        yield from reversed([each.record for each in entries_of(fs, folder, first) if each.record["seq"] > after])


def archives(fs: FileSystem, folder: str) -> list[int]:
    """The first seqs of the segments from which records were carried over, sorted."""
    return sorted(int(name[:-6]) for name in fs.listdir(f"{folder}/{FOLDER}") if _NAME.fullmatch(name))


def entries_of(fs: FileSystem, folder: str, first: int) -> list[Entry]:
    """The records that were carried over from the segment with this first seq. Raises `CorruptionError`,
    `FileNotFoundError`."""
    return open_archive(fs, folder, first).intact()


def open_archive(fs: FileSystem, folder: str, first: int) -> Archive:
    """What was carried over from that segment, with what is damaged of it. Raises `FileNotFoundError`, `OSError`,
    `UnsupportedFormatError`."""
    path = f"{folder}/{FOLDER}/{name_of(first)}"
    return parse(path, first, read_whole(fs, path))
