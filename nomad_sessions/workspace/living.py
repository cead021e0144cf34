"""Who is alive: a record names a file, and whoever it stands for holds the kernel lock of that file.

Invariant: `lives(…, name)` is true only while the process that made `name` has not ended it, nor died. When it dies the
kernel frees the lock, so no clock and no process number is trusted. Verified by `tests/processes/`.
"""

from __future__ import annotations

import contextlib
import os
import weakref

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.lock import fork_guard, held
from nomad_sessions.workspace.faults import translated

__all__ = ["Living", "everybody", "lives"]

_FOLDER = "streams"


class Living:
    """The lock that says that somebody (a stream's writer, a consumer of messages) lives. `name` is the file's."""

    def __init__(self, fs: FileSystem, workspace: str, about: str = "") -> None:
        """`workspace` is its folder, `about` the session that a stream is of. Raises `StoreReadOnlyError`,
        `DiskFullError`."""
        self._fs = fs
        self.name = f"{os.getpid()}-{os.urandom(8).hex()}"
        self._path = f"{workspace}/{_FOLDER}/{self.name}"
        with translated(workspace):
            fs.mkdir(f"{workspace}/{_FOLDER}", 0o700)
            with fork_guard:
                self._fd = fs.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                _LIVING.add(self)
            fs.lock(self._fd)
            # Behind the first byte: on Windows nobody else can read what is locked.
            fs.pwrite_all(self._fd, about.encode("utf-8", "surrogatepass"), 1)

    @property
    def held(self) -> bool:
        """Whether the lock is this process's still."""
        return self._fd >= 0

    def end(self) -> None:
        """It is over. Does nothing in a forked child: who lives is its parent."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):  # A file that stays says nothing once its lock is free.
            self._fs.unlink(self._path)
        self.forget()

    def forget(self) -> None:
        """Gives the descriptor back; in a forked child the parent's lock stays."""
        with fork_guard:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                self._fs.close(fd)


_LIVING: weakref.WeakSet[Living] = weakref.WeakSet()


def _forget_inherited() -> None:
    """In a forked child: a copy of the descriptor would keep the lock of a parent that died."""
    for living in list(_LIVING):
        living.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)


def lives(fs: FileSystem, workspace: str, name: str) -> bool:
    """Whether whom this name stands for lives. Costs a system call or two where not, some 3 ms where so."""
    return bool(name) and "/" not in name and bool(held(fs, [f"{workspace}/{_FOLDER}/{name}"]))


def everybody(fs: FileSystem, workspace: str) -> list[str]:
    """What each of those who live is about. Cost: a few system calls for each."""
    found = []
    for path in held(fs, [f"{workspace}/{_FOLDER}/{name}" for name in fs.listdir(f"{workspace}/{_FOLDER}")]):
        with contextlib.suppress(FileNotFoundError):  # It has just ended.
            found.append(_about(fs, path))
    return found


def _about(fs: FileSystem, path: str) -> str:
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.pread(fd, max(0, fs.fstat(fd).size - 1), 1).decode("utf-8", "surrogatepass")
    finally:
        fs.close(fd)
