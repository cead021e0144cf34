"""How far a comparison of a target with the store has come: `sync/<target>-verify.jsonl` in a workspace's folder, while
one is under way, so that one that was cut short goes on where it was.

Invariant: what it names as compared was compared as a whole, and what was found there is named with it. It is for the
target of that name in its place, and for a day: what was seen longer ago says little. Who makes the target right by
other means than the log, or begins with another log, forgets it. Verified by `tests/unit/test_verifying.py`.

The first line says when it began, and of which target; each further one up to which id of which kind it has come (the
kinds before it are done), and what was found since the last. One is written for a thousand records or more, so that a
small comparison writes nothing. A last line that was cut is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import make_folder, read_whole
from nomad_sessions.sync.comparing import RANGE, Difference, Range
from nomad_sessions.sync.dead_letters import FOLDER
from nomad_sessions.sync.target import Key, Kind, SyncTarget
from nomad_sessions.workspace.faults import translated

__all__ = ["Verifying"]

_DAY = 24 * 3600 * 1000


class Verifying:
    """That of one workspace and target; `found` is what it had found when it was cut short. Not for several threads at
    once."""

    def __init__(self, fs: FileSystem, folder: str, target: SyncTarget) -> None:
        """Reads nothing yet."""
        info = target.describe()
        self._target: list[Any] = [info.kind, info.place, info.details.get("agent"), *target.kinds]
        self._kinds: Sequence[Kind] = list(target.kinds)
        self._fs = fs
        self._folder = f"{folder}/{FOLDER}"
        self._path = f"{self._folder}/{target.name}-verify.jsonl"
        self._begin_at(0)

    def _begin_at(self, now: int) -> None:
        self._began = now
        self._end = 0
        self._at: tuple[int, str] = (0, "")
        self._records = 0
        self._fresh: list[Difference] = []
        self.found: list[Difference] = []

    def begin(self, now: int) -> None:
        """Goes on where the last one was cut short, or begins anew. Durable on return."""
        self._begin_at(now)
        try:
            data = read_whole(self._fs, self._path)
        except FileNotFoundError:
            return
        try:
            goes_on = self._read(data)
        except (ValueError, TypeError):  # Spoilt, or of another version: it saves work, no more.
            goes_on = False
        if not goes_on:
            self.forget()
            self._begin_at(now)

    def _read(self, data: bytes) -> bool:
        """Takes over what is there, if it is of this comparison."""
        end = data.rfind(b"\n") + 1
        (began, target), *steps = map(decode, data[:end].splitlines())
        if target != self._target or not 0 <= self._began - began < _DAY:
            return False
        for number, last, rows in steps:
            self._at = (int(number), str(last))
            self.found += [Difference(Key(kind, str(name)), *rest) for kind, name, *rest in rows]
        self._began, self._end = began, end
        return True

    def left(self) -> list[tuple[Kind, str]]:
        """The kinds that are not compared to their end, each with the id after which it goes on."""
        number, last = self._at
        return list(zip(self._kinds[number:], [last, *([""] * len(self._kinds))], strict=False))

    def note(self, compared: Range, differences: Iterable[Difference]) -> None:
        """This was compared, and what differs. Durable on return, once it is a thousand records with those before."""
        number = self._kinds.index(compared.kind)
        self._at = (number, compared.last) if compared.last else (number + 1, "")
        self._records += compared.records
        self._fresh += differences
        if self._records >= RANGE:
            self._write()

    def _write(self) -> None:
        head = b"" if self._end else encode([self._began, self._target]) + b"\n"
        line = head + encode([*self._at, [[*each.key, *each[1:]] for each in self._fresh]]) + b"\n"
        with translated(self._folder):
            make_folder(self._fs, self._folder)
            fd = self._fs.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                self._fs.truncate(fd, self._end)  # A line that was cut.
                self._fs.pwrite_all(fd, line, self._end)
                self._fs.sync(fd)
            finally:
                self._fs.close(fd)
            if head:
                self._fs.sync_dir(self._folder)
        self._end += len(line)
        self._records = 0
        self._fresh = []

    def forget(self) -> None:
        """The next one begins anew. Durable on return."""
        with translated(self._folder):
            if self._fs.unlink(self._path):
                self._fs.sync_dir(self._folder)
