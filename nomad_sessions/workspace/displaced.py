"""Files that a checkpoint took out of the way, looked at again: another program may have been writing into them.

Invariant: what another program wrote into a file that was `sessions.json` when it opened it is merged, also when that
file had lost its name by the time the bytes arrived. A program that opened the file just before the exchange goes on
writing into the displaced one: the descriptor is kept for a while, and for less where there are many. After a crash in
that moment the file still has a name, as `.prev` or as a temporary file. Verified by
`tests/processes/test_checkpoint_races.py` and `tests/unit/test_rested.py`.
"""

from __future__ import annotations

import os
import stat as stat_bits
import threading
import weakref
from collections import deque
from typing import NamedTuple

from nomad_sessions.storage import quarantine
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.files import read_whole
from nomad_sessions.storage.snapshot import Snapshot
from nomad_sessions.workspace.foreign import ForeignFile
from nomad_sessions.workspace.recovery import PREVIOUS, SNAPSHOT, Identity, identity, parse
from nomad_sessions.workspace.resting import AWAKE

__all__ = ["TEMPORARY", "Displaced", "stray"]

TEMPORARY = (".tmp", ".tmp.old")
_WATCH = 5.0


class _Watched(NamedTuple):
    fd: int
    seen: Identity | None
    until: float


class Displaced:
    """The files that this handle displaced a short while ago."""

    def __init__(self, fs: FileSystem, folder: str) -> None:
        self._fs = fs
        self._folder = folder
        self._files: list[_Watched] = []
        # `touched` is asked without the workspace's lock, while another thread may drop a descriptor: one that was
        # closed twice may by then be somebody else's.
        self._guard = threading.RLock()

    def __bool__(self) -> bool:
        return bool(self._files)

    def watch(self, fd: int, seen: Identity | None) -> None:
        """Keeps an eye on a displaced file, and its descriptor; `seen` is what it was when it was merged or folded."""
        file = _Watched(fd, seen, self._fs.monotonic() + _WATCH)
        with self._guard:
            self._files.append(file)
        _WATCHLIST.add(self, file)

    def let_go(self, file: _Watched, *, early: bool) -> bool:
        """Gives one back that was left alone long enough, or until now if that is to be `early`; whether it is."""
        with self._guard:
            if file not in self._files:
                return True
            try:
                written = identity(self._fs.fstat(file.fd)) != file.seen
            except OSError:  # Its file system's, which is no error of whose checkpoint asks.
                return False
            if written or not (early or self._fs.monotonic() > file.until):
                return False
            self._drop(file)
            return True

    def shares(self, other: Displaced) -> bool:
        """Whether both are of one file system, and so of one number of descriptors."""
        return self._fs is other._fs

    def touched(self) -> bool:
        """Whether somebody has written into one; those that were left alone long enough are let go."""
        with self._guard:
            now = self._fs.monotonic()
            for file in list(self._files):
                if identity(self._fs.fstat(file.fd)) != file.seen:
                    return True
                if now > file.until:
                    self._drop(file)
            return False

    def written(self) -> list[ForeignFile]:
        """What somebody has written into them since, where it is complete. Under the lock.

        What is still half written when its time is up goes to quarantine.
        """
        with self._guard:
            found = []
            for file in list(self._files):
                stat = self._fs.fstat(file.fd)
                if identity(stat) == file.seen:
                    continue
                raw = self._fs.pread(file.fd, stat.size, 0)
                content = parse(raw, stat)
                if isinstance(content, ForeignFile):
                    found.append(content)
                elif self._fs.monotonic() <= file.until:
                    continue
                else:
                    quarantine.keep(self._fs, self._folder, f"{SNAPSHOT}.raced", raw)
                self._drop(file)
            return found

    def close(self) -> None:
        """Gives every descriptor back."""
        with self._guard:
            for file in list(self._files):
                self._drop(file)

    def abandon(self) -> None:
        """Gives every descriptor back without asking who else is at work: after a fork, nobody is."""
        for file in self._files:
            self._fs.close(file.fd)
        self._files.clear()

    def _drop(self, file: _Watched) -> None:
        self._files.remove(file)
        self._fs.close(file.fd)


class _Watchlist:
    """The displaced files of all workspaces of this process, the oldest first: who is not written to any more would
    hold on to its own for ever, and folding often, or many workspaces at once, would take all files there may be."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a forked child: they are the parent's, and another thread, which is not here, may have held the guard."""
        self._guard = threading.Lock()
        self._all: deque[tuple[weakref.ref[Displaced], _Watched]] = deque()

    def add(self, owner: Displaced, file: _Watched) -> None:
        """Notes one. Those whose time is up are given back, and of too many the oldest, unless they were written to."""
        with self._guard:
            self._all.append((weakref.ref(owner), file))
            for _ in range(len(self._all)):
                early = len(self._all) > AWAKE.few()
                reference, oldest = self._all[0]
                displaced = reference()
                if displaced is None or not displaced.shares(owner) or displaced.let_go(oldest, early=early):
                    self._all.popleft()
                elif early:
                    self._all.rotate(-1)
                else:
                    return


_WATCHLIST = _Watchlist()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WATCHLIST.forget)


def stray(fs: FileSystem, folder: str) -> list[tuple[str, ForeignFile]]:
    """What another program wrote into `.prev` or a temporary file that a crash left, by path. Under the lock."""
    found = []
    for name in fs.listdir(folder):
        path = f"{folder}/{name}"
        temporary = name.startswith(f"{SNAPSHOT}.") and name.endswith(TEMPORARY)
        if not (temporary or name == PREVIOUS) or Snapshot.open(fs, path) is not None:
            continue
        stat = fs.stat(path)
        if stat is None or not stat_bits.S_ISREG(stat.mode):
            continue
        content = parse(read_whole(fs, path), stat)
        if isinstance(content, ForeignFile):
            found.append((path, content))
    return found
