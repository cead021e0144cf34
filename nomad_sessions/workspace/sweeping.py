"""Attachments that nothing names any more: found, and removed.

Invariant: a file is removed only if no byte of the workspace names it, whatever holds the name (hidden, detached and
deleted records, `sessions.json.prev`, every segment of the journal, quarantine, files of other programs), and nobody
asked for it to be kept since a time that the caller says. Whoever attaches a file again renews its time under the
workspace's lock, which the removal holds; what a commit named since the files were looked through is looked through
again, under the lock. Verified by `tests/unit/test_sweeping.py`.
"""

from __future__ import annotations

import os
import re
import stat as stat_bits
from collections.abc import Iterator
from typing import NamedTuple

from nomad_sessions.storage._os import FileStat, FileSystem
from nomad_sessions.storage.attachments import FOLDER
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.store import Workspace

__all__ = ["Unreferenced", "find", "sweep"]

_BLOCK = 1 << 20
# A name of an attachment is a string of its own, as JSON has it. That other strings look so too only keeps a file.
_NAME = re.compile(rb'"([0-9a-f]{64})"')
_OVERLAP = 65  # of a name with its quotation marks, all but one byte
_OURS = re.compile(r"([0-9a-f]{64})(\.\d+\.[0-9a-f]{8}\.tmp)?")
_DERIVED = "index.sqlite"


class Unreferenced(NamedTuple):
    """A file in `attachments/` that nothing names: what it is called there, how large it is, when it was last asked for
    (ms)."""

    name: str
    bytes: int
    time: int


class _Seen(NamedTuple):
    """A file that was looked through, as it was then."""

    ino: int
    size: int
    mtime_ns: int


class _Names:
    """The names in a workspace's files, read once: a file that has changed since is read again."""

    def __init__(self, fs: FileSystem, folder: str) -> None:
        self._fs = fs
        self._folder = folder
        self._seen: dict[str, _Seen] = {}
        self.found: set[str] = set()

    def look(self) -> None:
        """Reads what is new. Raises `OSError`: where a file cannot be read, nobody knows what it names."""
        for path, stat in _files(self._fs, self._folder):
            seen = _Seen(stat.ino, stat.size, stat.mtime_ns)
            if self._seen.get(path) != seen and self._read(path):
                self._seen[path] = seen

    def _read(self, path: str) -> bool:
        try:
            fd = self._fs.open(path, os.O_RDONLY)
        except FileNotFoundError:  # Folded or replaced meanwhile: what it named is in a file that is new.
            return False
        try:
            offset = 0
            while block := self._fs.pread(fd, _BLOCK, offset):
                self.found.update(name.decode("ascii") for name in _NAME.findall(block))
                if len(block) < _BLOCK:
                    break
                offset += _BLOCK - _OVERLAP
        finally:
            self._fs.close(fd)
        return True


def _files(fs: FileSystem, folder: str) -> Iterator[tuple[str, FileStat]]:
    """All files of a workspace in which a name may be."""
    for name in fs.listdir(folder):
        path = f"{folder}/{name}"
        stat = fs.stat(path)
        if stat is None or not stat.size or name.startswith(_DERIVED):  # What has no bytes may be locked.
            continue
        if stat_bits.S_ISREG(stat.mode):
            yield path, stat
        elif stat_bits.S_ISDIR(stat.mode) and name != FOLDER:
            yield from _files(fs, path)


def find(fs: FileSystem, folder: str, before: int) -> list[Unreferenced]:
    """The attachments that nothing names and that nobody has asked for since `before` (ms), the oldest first.

    Changes nothing. Reads every byte of the workspace but the attachments.
    """
    with translated(folder):
        names = _Names(fs, folder)
        names.look()
        return _unreferenced(fs, folder, names.found, before)


def sweep(workspace: Workspace, before: int) -> list[Unreferenced]:
    """Removes what `find` finds, and says what that was. Durable on return. Raises `LockTimeoutError`, `StorageError`.

    What is written meanwhile waits only while the files that have changed since they were read are read again.
    """
    fs, folder = workspace.fs, workspace.folder
    names = _Names(fs, folder)
    with translated(folder):
        names.look()
        if not _unreferenced(fs, folder, names.found, before):
            return []
    with workspace.locked(), translated(folder):
        names.look()
        gone = _unreferenced(fs, folder, names.found, before)
        for each in gone:
            fs.unlink(f"{folder}/{FOLDER}/{each.name}")
        fs.sync_dir(f"{folder}/{FOLDER}")
    return gone


def _unreferenced(fs: FileSystem, folder: str, named: set[str], before: int) -> list[Unreferenced]:
    found = []
    for name in fs.listdir(f"{folder}/{FOLDER}"):
        ours = _OURS.fullmatch(name)  # The second kind is what a writer that died left behind.
        if ours is None or (ours[2] is None and ours[1] in named):
            continue
        stat = fs.stat(f"{folder}/{FOLDER}/{name}")
        if stat is not None and stat_bits.S_ISREG(stat.mode) and stat.mtime_ns < before * 1_000_000:
            found.append(Unreferenced(name, stat.size, stat.mtime_ns // 1_000_000))
    return sorted(found, key=lambda each: (each.time, each.name))
