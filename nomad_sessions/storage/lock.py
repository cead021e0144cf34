"""The lock of a workspace: one writer at a time, whatever the processes.

Invariant: `held` means that this process holds the kernel lock of the inode that now lies at the path. The kernel frees
it when the holder dies, so there is no stale lock and nobody is ever robbed of one. The descriptor stays open between
acquisitions: opening the file anew each time, as `filelock.FileLock` does, costs as much as the sync it protects. It is
the same kernel lock, so holders of a `FileLock` on the file and holders of this exclude each other.

Verified by `tests/unit/test_lock.py`, with real processes, and `tests/unit/test_lock_failures.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Iterable
from types import TracebackType

from nomad_sessions.errors import (
    DiskFullError,
    LockTimeoutError,
    LockUnsupportedError,
    StorageError,
    StoreReadOnlyError,
)
from nomad_sessions.errors.base import plain
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.counters import Counters

__all__ = ["StoreLock", "fork_guard", "held"]

_FIRST_PAUSE = 50e-6
_LONGEST_PAUSE = 2e-3
# A lock file that is replaced this often in a row is being fought over: wait like everybody else.
_REOPENS = 5
_PROBES = 3
_PROBE_PAUSE = 0.001
_NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK})
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT}) if hasattr(errno, "EDQUOT") else frozenset({errno.ENOSPC})


class StoreLock:
    """An exclusive lock between processes on a permanent empty file, kept open between acquisitions.

    Not reentrant and not for several threads at once: the caller has a mutex of its own for those. After `fork()` the
    child's copy is not held; it opens the file itself when it first acquires.
    """

    __slots__ = ("__weakref__", "_fd", "_fs", "_held", "_inode", "_path", "_timeout", "counters")

    def __init__(self, fs: FileSystem, path: str, timeout: float = 10.0) -> None:
        """Touches nothing yet. `path` lies in an existing folder; `timeout` is in seconds, for `acquire`."""
        self._fs = fs
        self._path = path
        self._timeout = timeout
        self.counters: Counters | None = None
        self._fd = -1
        self._inode = (0, 0)
        self._held = False

    @property
    def path(self) -> str:
        """The lock file."""
        return self._path

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, as far as it knows; `verify` looks at the disk."""
        return self._held

    def acquire(self, timeout: float | None = None, *, unchecked: bool = False) -> None:
        """Take the lock, waiting up to `timeout` seconds (None: the constructor's; 0: one attempt).

        `unchecked` is for who calls `verify` before relying on it: the path is not looked at twice.

        Raises LockTimeoutError when another process holds it all that time, LockUnsupportedError where the file system
        has no such lock, StoreReadOnlyError or DiskFullError where the lock file cannot be opened or created,
        FileNotFoundError without its folder, RuntimeError when it is held already. Uncontended: a few microseconds.
        """
        if self._held:
            raise RuntimeError("this StoreLock is held already: it is not reentrant")
        if not self._attempt(unchecked):
            self._wait(self._timeout if timeout is None else timeout)

    def release(self) -> None:
        """Free the lock and keep the descriptor. Does nothing when it is not held, as in a forked child."""
        if not self._held:
            return
        self._held = False
        try:
            self._fs.unlock(self._fd)
        except BaseException:
            # An error or a Ctrl-C before the kernel was asked: an idle process would keep everybody out.
            self._drop()
            raise

    def verify(self) -> bool:
        """Whether the lock still guards: held, and its file neither deleted nor replaced. Ask before a commit."""
        # A file that was deleted, or replaced by another, has no name left; asking the descriptor is the cheaper look.
        return self._held and self._fs.fstat(self._fd).nlink > 0

    def close(self) -> None:
        """Free the lock if held and close the descriptor. May be called again; `acquire` opens it anew."""
        self._held = False
        self._drop()

    def __enter__(self) -> StoreLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def _attempt(self, unchecked: bool = False) -> bool:
        """Take the lock if it is free now; an inode that is no longer at the path is let go and the new one opened."""
        try:
            for _ in range(_REOPENS):
                if self._fd < 0:
                    self._open()
                if not self._fs.lock(self._fd):
                    return False
                if unchecked or self._guards_path():
                    self._held = True
                    return True
                self._drop()
        except BaseException as error:
            # Ctrl-C between the lock and the flag would leave a lock that nobody releases.
            self._held = False
            self._drop()
            if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                raise LockUnsupportedError(path=self._path) from error
            raise
        return False

    def _wait(self, timeout: float) -> None:
        fs = self._fs
        start = fs.monotonic()
        pause = _FIRST_PAUSE
        waited = 0.0
        try:
            while waited < timeout:
                fs.sleep(min(pause, timeout - waited))
                pause = min(pause * 2, _LONGEST_PAUSE)
                if self._attempt():
                    return
                waited = fs.monotonic() - start
        finally:
            if self.counters is not None:
                self.counters.lock_waits += 1
                self.counters.lock_wait_seconds += fs.monotonic() - start
        raise LockTimeoutError(path=self._path, waited=waited)

    def _guards_path(self) -> bool:
        found = self._fs.stat(self._path)
        if found is None:
            return False
        return (found.dev, found.ino) == self._inode

    def _open(self) -> None:
        try:
            with fork_guard:
                # Never O_TRUNC, never unlinked: the file may be a holder's.
                self._fd = self._fs.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                _opened.add(self)
            # What an open descriptor stands for cannot change: asked once, not for each commit.
            mine = self._fs.fstat(self._fd)
            self._inode = (mine.dev, mine.ino)
        except OSError as error:
            if error.errno in _READ_ONLY:
                raise StoreReadOnlyError(path=self._path, errno=error.errno or errno.EACCES) from error
            if error.errno in _FULL:
                raise DiskFullError(path=self._path, errno=error.errno) from error
            if error.errno == errno.EISDIR:
                text = f"{plain(self._path)} is a folder, and has to be an empty file: move it away"
                raise StorageError(path=self._path, message=text) from error
            raise

    def _drop(self) -> None:
        """Close the descriptor, which frees the lock."""
        with fork_guard:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                # Nothing was written through it, so a failing close loses nothing.
                with contextlib.suppress(OSError):
                    self._fs.close(fd)


def held(fs: FileSystem, paths: Iterable[str]) -> set[str]:
    """Those of these files whose lock somebody holds, this process included; one that is not there has no holder.

    Asks the kernel, and changes nothing: a dead holder's lock is free at once. Cost: microseconds for each, and 2 ms
    where some are held.
    """
    asked = set(paths)
    for probe in range(_PROBES):
        if probe and asked:
            fs.sleep(_PROBE_PAUSE)  # Perhaps it was only somebody else who asked.
        asked = {path for path in asked if not _is_free(fs, path)}
    return asked


def _is_free(fs: FileSystem, path: str) -> bool:
    with fork_guard:
        try:
            fd = fs.open(path, os.O_RDONLY)
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:  # That says nothing about the holder.
                raise
            return True
        try:
            return fs.lock(fd)
        finally:
            fs.close(fd)


# Held while no object knows an open descriptor of a lock's file, as one is opened or closed: a fork in another thread
# would copy one that the child does not know of, and the child would keep the lock.
fork_guard = threading.RLock()
_opened: weakref.WeakSet[StoreLock] = weakref.WeakSet()


def _forget_inherited() -> None:
    """In a forked child: close the descriptors, never unlock them. flock belongs to the open file, which the parent
    shares, so unlocking here would take the parent's lock away; leaving it open would keep it locked when it dies."""
    try:
        for lock in list(_opened):
            lock.close()
    finally:
        fork_guard.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=fork_guard.acquire, after_in_parent=fork_guard.release, after_in_child=_forget_inherited)
