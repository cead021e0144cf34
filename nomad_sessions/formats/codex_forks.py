"""Forks of Codex: whole histories, with the times at which things happened.

A fork of generation 4 has its new lines only: those of its origin come before them, and before these those of its
origin's origin. A fork of before is a copy of its origin with every line stamped anew: the times are in the origin.

Invariant: each file is read line by line and none of it is kept but, of a copied one, a digest and a time for each line
of its history. Verified by `tests/unit/test_codex.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from nomad_sessions.formats.codex_packed import PACKED, can_unpack
from nomad_sessions.formats.codex_rollout import HISTORY, NAMED, Head, Record, records
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import as_json

__all__ = ["Threads", "Told", "history"]

_NEAR = 8
"""How many lines of an origin may be missing in its copy, one after the other, before the copy counts as ended."""
_PLAIN = re.compile(r"[0-9A-Za-z-]{8,64}")
_OWN = ("id", "metadata", "internal_chat_message_metadata_passthrough")
_Known = list[tuple[bytes, int | None]]


class Threads:
    """The rollouts by thread: those of an import, and those beside them or in Codex's home that they continue."""

    def __init__(self, heads: Iterable[Head], home: Path | None) -> None:
        self._heads: dict[str, Head | None] = {head.name: head for head in heads}
        self._home = home
        self._listed: dict[tuple[Path, bool], dict[str, list[Path]]] = {}

    def head(self, name: str, near: Path) -> Head | None:
        """The rollout of a thread, looked for in the folder of the file `near` too; None where there is none."""
        if name not in self._heads:
            self._heads[name] = next((Head(path) for path in self._files(name, near.parent)), None)
        return self._heads[name]

    def _files(self, name: str, folder: Path) -> Iterator[Path]:
        if not _PLAIN.fullmatch(name):
            return
        for end in (".jsonl", ".jsonl" + PACKED) if can_unpack() else (".jsonl",):
            ending = os.path.normcase(name + end)
            for place, below in self._places(folder):
                if (place, below) not in self._listed:
                    self._listed[place, below] = _by_ending(place, below)
                yield from self._listed[place, below].get(ending, ())

    def _places(self, folder: Path) -> Iterator[tuple[Path, bool]]:
        """Where a thread may lie, and whether also in folders below."""
        yield folder, False
        if self._home is not None:
            yield self._home / "sessions", True
            yield self._home / "archived_sessions", True

    def origins(self, head: Head) -> list[Head]:
        """The threads that one continues, the nearest first, as far as they are there."""
        found: list[Head] = []
        seen = {head.name}
        at: Head | None = head
        while at is not None and at.parent is not None and at.parent not in seen:
            seen.add(at.parent)
            at = self.head(at.parent, at.path)
            if at is not None:
                found.append(at)
        return found


def _by_ending(folder: Path, below: bool) -> dict[str, list[Path]]:
    """The rollouts in a folder by all that may be their thread's name, as no name tells where its time ends."""
    found: dict[str, list[Path]] = {}
    for path in (folder.rglob if below else folder.glob)(f"{NAMED}*-*.jsonl*"):
        _, *endings = os.path.normcase(path.name).removeprefix(NAMED).split("-")
        for start in range(len(endings)):
            found.setdefault("-".join(endings[start:]), []).append(path)
    return found


class Told(NamedTuple):
    """A line of a history: its record, the key that it is known by in this session, where it stands, and when it
    happened (ms; its record has the time that its file says)."""

    record: Record
    key: str
    place: str
    time: int | None


def history(head: Head, threads: Threads, report: ImportReport) -> Iterator[Told]:
    """The lines that are a thread's history, those of its origins first. What is missing or torn goes to the report."""
    for origin, end in reversed(_bases(head, threads, report)):
        empty = True
        for told in _timed(origin, threads, report, f"{origin.name}/"):
            if told.record.ordinal is None:
                continue
            if told.record.ordinal >= end:
                break
            empty = False
            yield told
        if empty:
            report.warn(str(head.path), f"nothing is left of thread {origin.name}, which it was forked from")
    yield from _timed(head, threads, report, "")


def _bases(head: Head, threads: Threads, report: ImportReport) -> list[tuple[Head, int]]:
    """The origins whose lines the thread begins with, the nearest first, each with the ordinal at which it ends."""
    found: list[tuple[Head, int]] = []
    seen = {head.name}
    at = head
    while at.base is not None:
        origin = threads.head(at.base.thread, at.path)
        if at.base.thread in seen:
            report.warn(str(at.path), f"thread {at.base.thread} was forked from itself: what was before is not known")
            break
        if origin is None:
            report.warn(str(at.path), f"thread {at.base.thread} is not there, with which it begins: it begins later")
            break
        seen |= {at.base.thread, origin.name}
        found.append((origin, min(at.base.end, found[-1][1]) if found else at.base.end))
        at = origin
    return found


def _timed(head: Head, threads: Threads, report: ImportReport, prefix: str) -> Iterator[Told]:
    times = _times(head, threads)
    for record in records(head.path, report):
        time = record.time
        if record.kind in HISTORY and record.number < len(times):
            time = times[record.number]
        yield Told(record, f"{prefix}{record.number}", f"{head.path} at byte {record.offset}", time)


def _times(head: Head, threads: Threads) -> list[int | None]:
    """When the lines of a copied history happened; none for a thread that copied nothing."""
    origins = [] if head.base or not head.origin else threads.origins(head)
    if not origins:
        return []
    known: _Known = []
    for each in [*reversed(origins), head]:
        known = list(_matched(each, known))
    return [time for _, time in known]


def _matched(head: Head, origin: _Known) -> Iterator[tuple[bytes, int | None]]:
    """The lines of a rollout as digests, each with the time of its original as long as it is a copy."""
    at: int | None = 0
    for record in records(head.path, None):
        if record.kind not in HISTORY:
            continue
        digest = _digest(record)
        time = record.time
        if at is not None:
            found = next((n for n in range(at, min(at + _NEAR, len(origin))) if origin[n][0] == digest), None)
            if found is not None:
                time = origin[found][1]
            at = None if found is None else found + 1
        yield digest, time


def _digest(record: Record) -> bytes:
    """What tells whether two lines say the same, whichever version wrote them."""
    said = {key: value for key, value in sorted(record.payload.items()) if value is not None and key not in _OWN}
    return hashlib.sha256(as_json(said).encode("utf-8")).digest()[:16]
