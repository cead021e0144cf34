"""Opening a workspace: which snapshot to start from, and what the journal adds.

Invariant: a workspace is new only when there is no snapshot, no journal and no `.prev`; in every other case either all
that was acknowledged is in the view, or an error names the file that is missing or damaged. Reading changes nothing.
Verified by `tests/unit/test_recovery.py` (a table of file states) and `tests/crash/`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import stat as stat_bits
from collections.abc import Sequence
from typing import Any, NamedTuple

from nomad_sessions.errors import JournalCorruptError, JournalGapError, SnapshotUnreadableError
from nomad_sessions.storage._os import FileStat, FileSystem
from nomad_sessions.storage.codec import decode
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import Entry
from nomad_sessions.storage.snapshot import Snapshot, SnapshotChanged
from nomad_sessions.workspace.foreign import ForeignFile
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.view import View

__all__ = [
    "NO_FILE",
    "PREVIOUS",
    "SNAPSHOT",
    "Identity",
    "Opened",
    "identity",
    "is_cut_short",
    "is_left_alone",
    "is_of_another_store",
    "load",
    "parse",
    "past",
]

_LOG = logging.getLogger("nomad_sessions")
SNAPSHOT = "sessions.json"
PREVIOUS = "sessions.json.prev"
NO_FILE = "a folder, a pipe or a device stands in its place, which somebody has to move away"
_RETRIES = 5
_STABLE_WAIT = 1.0
_STABLE_STEP = 0.01
_ABANDONED_MS = 10_000
_LARGE = re.compile(rb"\d[eE]\+?\d{3}")  # A number that may be too large for a float.

Identity = tuple[int, int, int, int]


class Opened(NamedTuple):
    """A view, with what stood at `sessions.json`: its identity (None: no file), a foreign file to merge, or a reason
    why it could not be read (somebody may be in the middle of writing it)."""

    view: View
    seen: Identity | None
    foreign: ForeignFile | None
    unreadable: str | None


def identity(stat: FileStat | None) -> Identity | None:
    """What tells one state of a file from another."""
    return None if stat is None else (stat.dev, stat.ino, stat.size, stat.mtime_ns)


def is_left_alone(seen: Identity | None, now: int) -> bool:
    """Whether nobody has written to a file for so long, at `now` (ms), that it will not get better by itself. One that
    is missing may be about to come."""
    return seen is not None and now - seen[3] // 1_000_000 > _ABANDONED_MS


def load(
    fs: FileSystem, folder: str, *, wait: bool, now: int = 0, distrust: bool = False, trust_tables: bool = True
) -> Opened:
    """Opens a workspace's files as they are. `wait` gives a foreign writer up to a second to finish, if it has written
    lately at `now` (ms); `distrust` says that the snapshot was found not to match its index: it is looked at as any
    program's file; without `trust_tables` the records of sealed segments are read, and not the tables over them.

    Raises `SnapshotUnreadableError`, `JournalCorruptError`, `JournalGapError`, `UnsupportedFormatError`, `OSError`.
    """
    path = f"{folder}/{SNAPSHOT}"
    deadline = fs.monotonic() + (_STABLE_WAIT if wait else 0.0)

    def is_final(seen: Identity | None) -> bool:
        """Whether a file that was this when the attempt began is not to be tried again."""
        return fs.monotonic() >= deadline or (is_left_alone(seen, now) and seen == identity(fs.stat(path)))

    tried: Identity | None = None
    attempt = 0
    shape: object = None
    while True:
        try:
            opened = _load(fs, folder, distrust, trust_tables)
        except (FileNotFoundError, JournalGapError):
            # Another process folded and pruned between our looking at the snapshot and at the journal.
            attempt += 1
            before, shape = shape, _shape(fs, folder)
            if attempt > _RETRIES and before == shape:
                raise
            continue
        except SnapshotUnreadableError:
            if is_final(tried):
                raise
            tried = identity(fs.stat(path))
        else:
            if opened.unreadable is None or is_final(opened.seen):
                return opened
        fs.sleep(_STABLE_STEP)


def past(fs: FileSystem, folder: str, seq: int) -> View | None:
    """The workspace as it was after `seq`, from `.prev` or from the beginning; None where that cannot be rebuilt."""
    for base in (_previous(fs, folder, Journal(fs, folder).first_seqs()), None):
        if base is not None and base.seq > seq:
            continue
        journal = Journal(fs, folder, trust_tables=False)
        try:
            sealed, entries = journal.load(base.seq if base is not None else 0)
        except (JournalGapError, JournalCorruptError):
            continue
        if journal.last_seq >= seq:
            return View(base, journal, sealed, entries, limit=seq)
    return None


def _previous(fs: FileSystem, folder: str, firsts: list[int]) -> Snapshot | None:
    """`.prev`; where the journal has everything from its beginning, only if every byte is right."""
    opened = Snapshot.intact if firsts[:1] == [1] else Snapshot.open
    return opened(fs, f"{folder}/{PREVIOUS}")


def _shape(fs: FileSystem, folder: str) -> tuple[Identity | None, list[str]]:
    return identity(fs.stat(f"{folder}/{SNAPSHOT}")), sorted(fs.listdir(f"{folder}/journal"))


def _load(fs: FileSystem, folder: str, distrust: bool, trust_tables: bool) -> Opened:
    path = f"{folder}/{SNAPSHOT}"
    journal = Journal(fs, folder, trust_tables=trust_tables)
    snapshot = None if distrust else Snapshot.open(fs, path)
    stranger = False
    if snapshot is not None:
        try:
            sealed, entries = journal.load(snapshot.seq, int(snapshot.head["journal"]))
        except JournalGapError:
            if not _is_put_back(fs, folder, snapshot):
                raise
            # Perhaps of another store: what it has not is not taken for deleted.
            stranger = True
            _LOG.warning("%s: this snapshot is older than %s and the journal: what it has is merged", folder, PREVIOUS)
        else:
            if is_cut_short(snapshot, journal):
                _LOG.warning("%s: the journal that this snapshot knows of is missing; going on without it", folder)
            stranger = is_of_another_store(snapshot, journal, entries, last=journal.overtaken)
            if not stranger:
                return Opened(View(snapshot, journal, sealed, entries), identity(snapshot.stat), None, None)
            _LOG.warning("%s: this snapshot is of another store than the journal: what it has is merged", folder)
        snapshot.close()
        journal.close()
        journal = Journal(fs, folder, trust_tables=trust_tables)
    stat = fs.stat(path)
    foreign = _read(fs, path) if stat is not None else None
    if isinstance(foreign, ForeignFile):
        foreign = foreign._replace(stranger=stranger)
    if isinstance(foreign, ForeignFile) and distrust and _is_ours(fs, path):
        foreign = foreign._replace(in_place=True)
    if isinstance(foreign, ForeignFile):
        seen: Identity | None = identity(foreign.stat)
    else:
        seen = identity(stat)
    view = _without_snapshot(fs, folder, journal, foreign)
    return Opened(
        view, seen, foreign if isinstance(foreign, ForeignFile) else None, foreign if isinstance(foreign, str) else None
    )


def _is_put_back(fs: FileSystem, folder: str, snapshot: Snapshot) -> bool:
    """Whether the snapshot is an old one, that was put back where the journal no longer reaches down to it."""
    previous = Snapshot.open(fs, f"{folder}/{PREVIOUS}")
    there = identity(fs.stat(f"{folder}/{SNAPSHOT}")) == identity(snapshot.stat)  # Else it was replaced just now.
    return there and previous is not None and previous.seq > snapshot.seq


def is_cut_short(snapshot: Snapshot, journal: Journal) -> bool:
    """Whether the segment that was live when the snapshot was written is gone, and every later one."""
    hint = int(snapshot.head["journal"])
    return bool(hint) and journal.live is None and not any(first >= hint for first in journal.first_seqs())


def is_of_another_store(
    snapshot: Snapshot, journal: Journal, entries: Sequence[Entry] = (), *, last: Body | None = None
) -> bool:
    """Whether the journal says that the snapshot is of another store: by the id of the change that both should have
    last, or because the journal's last change is newer than the snapshot's, whose number is higher, or is not in it.
    `entries` are those of the live segment, or `last` is the last record that has an id, as far as they have been read.
    """
    known = snapshot.head.get("lastId")
    if not known:
        return False
    if last is not None and last["seq"] < snapshot.seq:
        return bool(last.get("id", "") > known) or _lacks(snapshot, last)
    if not entries or snapshot.seq < journal.live_first:
        return bool((journal.id_at(snapshot.seq) or known) != known)
    ids = (each.record["id"] for each in entries if each.record["seq"] == snapshot.seq and "id" in each.record)
    return bool(next(ids, known) != known)


def _lacks(snapshot: Snapshot, record: Body) -> bool:
    """Whether what a record is about is neither in a snapshot nor among what was deleted."""
    session_id = record.get("sessionId", WORKSPACE)
    if session_id == WORKSPACE:
        return False
    try:
        if record.get("type") in ("message.added", "message.merged") and snapshot.item(record["messageId"]) is not None:
            return False
        gone = {row[0] for row in snapshot.table("tombstones")}
        if session_id in gone:
            return False
        if record.get("type") in ("message.added", "message.merged"):
            return record["messageId"] not in gone
        return snapshot.group(session_id) is None
    except SnapshotChanged:  # Found, and said, where it is read.
        return False


def _is_ours(fs: FileSystem, path: str) -> bool:
    """Whether the file is a snapshot of ours by size and index, whatever its records are."""
    snapshot = Snapshot.open(fs, path)
    if snapshot is not None:
        snapshot.close()
    return snapshot is not None


def _without_snapshot(fs: FileSystem, folder: str, journal: Journal, found: ForeignFile | str | None) -> View:
    """What is ours when `sessions.json` is missing, foreign or unreadable: `.prev` and the journal above it."""
    path = f"{folder}/{SNAPSHOT}"
    firsts = journal.first_seqs()
    previous = _previous(fs, folder, firsts)
    reason = found if isinstance(found, str) else "it is missing" if found is None else "it is not ours"
    whole = bool(firsts) and firsts[0] == 1
    if previous is None and not whole and fs.stat(f"{folder}/{PREVIOUS}") is not None:
        raise SnapshotUnreadableError(path=path, reason=f"{reason}, and {PREVIOUS} is damaged")
    if previous is not None and not firsts and not isinstance(found, ForeignFile):
        # What had been written since `.prev` was in the two that are gone: an old state must not pass for the newest.
        raise SnapshotUnreadableError(path=path, reason=f"{reason}, and so is the journal above {PREVIOUS}")
    if previous is None and not firsts and isinstance(found, str):
        raise SnapshotUnreadableError(path=path, reason=reason)
    if previous is None and firsts and firsts[0] != 1:
        raise SnapshotUnreadableError(path=path, reason=f"{reason}, and the journal begins at seq {firsts[0]}")
    sealed, entries = journal.load(previous.seq if previous is not None else 0)
    if previous is not None and found is None and firsts and journal.live is None:
        # A seal comes before its successor, but not when the snapshot goes: what was written since went with both.
        raise SnapshotUnreadableError(path=path, reason=f"{reason}, and the journal ends with a sealed segment")
    told = Snapshot.open(fs, path) if isinstance(found, str) else None
    if told is not None and told.seq > journal.last_seq:
        reason = f"{reason}; by its index it has {told.seq} changes, of which the journal ends with {journal.last_seq}"
        raise SnapshotUnreadableError(path=path, reason=reason)
    view = View(previous, journal, sealed, entries)
    if not view.seq and (isinstance(found, str) or fs.stat(f"{folder}/{PREVIOUS}") is not None):
        # There was something: a journal that was emptied must not pass for one that was just begun.
        raise SnapshotUnreadableError(path=path, reason=f"{reason}, and the journal has nothing")
    return view


def _read(fs: FileSystem, path: str) -> ForeignFile | str | None:
    """A foreign file, or the reason why it cannot be read as one, or None when it has gone."""
    try:
        fd = fs.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        before = fs.fstat(fd)
        if not stat_bits.S_ISREG(before.mode):
            return NO_FILE
        raw = fs.pread(fd, before.size, 0)
        after = fs.fstat(fd)
    finally:
        fs.close(fd)
    if identity(before) != identity(after) or len(raw) != before.size:
        return "it changes while it is read"
    if not raw.strip(b" \t\r\n\0"):
        return "it is empty"
    return parse(raw, after)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def parse(raw: bytes, stat: FileStat) -> ForeignFile | str:
    """What another program wrote, or the reason why it cannot be taken for sessions."""
    text = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        # A number that no float holds would be read as infinity, which JSON has not: its text is kept.
        data = json.loads(text, parse_float=_number, parse_constant=_refuse) if _LARGE.search(text) else decode(text)
    except (ValueError, RecursionError) as error:
        return f"it is not JSON ({str(error)[:120]})"
    if not isinstance(data, dict) or not {"sessions", "messages"} & data.keys():
        return "it is no session file (no object with 'sessions' and 'messages')"
    return ForeignFile(raw, data, stat)
