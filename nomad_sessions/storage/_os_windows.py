"""The real file system on Windows.

There are no positional reads and writes, so a mutex goes around seek and transfer. Folders cannot be synced: NTFS
journals names. Renaming fails while anybody has the target open, so that is tried again for a bounded time, on the
three sharing errors only. The lock is filelock's native one (`LockFileEx`, byte 0) on our open descriptor, never soft.
Everything is written with portable functions of `os`, so that tests named "simulated" can run it anywhere.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable

import filelock

from nomad_sessions.storage._os_protocol import Buffer, FileStat

_O_BINARY: int = getattr(os, "O_BINARY", 0)
# ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: a reader or a virus scanner has the file open.
_SHARING_ERRORS = frozenset({5, 32, 33})
_RETRY_FOR = 1.0
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


def _file_stat(s: os.stat_result) -> FileStat:
    return FileStat(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_mode, s.st_nlink, s.st_uid, s.st_gid)


def retry_sharing(call: Callable[[], None], sleep: Callable[[float], None] = time.sleep) -> None:
    """Call until no sharing error comes, for about a second; then let the error out. Other errors come out at once."""
    pause = _FIRST_PAUSE
    waited = 0.0
    while True:
        try:
            call()
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _SHARING_ERRORS or waited >= _RETRY_FOR:
                raise
        sleep(pause)
        waited += pause
        pause = min(pause * 2, _LONGEST_PAUSE)


class WindowsFileSystem:
    """`FileSystem` for Windows. One instance serves all threads."""

    __slots__ = ("_seek",)

    replaces_open = False
    close = staticmethod(os.close)
    sync = staticmethod(os.fsync)
    datasync = staticmethod(os.fsync)
    truncate = staticmethod(os.ftruncate)
    link = staticmethod(os.link)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._seek = threading.Lock()

    def open(self, path: str, flags: int, mode: int = 0o600, /) -> int:
        # Without O_BINARY the C runtime turns every newline into two bytes and checksums fail.
        return os.open(path, flags | _O_BINARY, mode)

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        parts: list[bytes] = []
        with self._seek:
            os.lseek(fd, offset, os.SEEK_SET)
            while n > 0 and (part := os.read(fd, n)):
                parts.append(part)
                n -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pwrite_all(self, fd: int, data: Buffer, offset: int, /) -> None:
        view = memoryview(data)
        with self._seek:
            os.lseek(fd, offset, os.SEEK_SET)
            while view:
                written = os.write(fd, view)
                if written == 0:
                    raise OSError(errno.EIO, "the write makes no progress")
                view = view[written:]

    def uncache(self, fd: int, /) -> None:
        pass  # There is no such call.

    def sync_dir(self, path: str, /) -> None:
        return

    def fstat(self, fd: int, /) -> FileStat:
        return _file_stat(os.fstat(fd))

    def stat(self, path: str, /) -> FileStat | None:
        try:
            return _file_stat(os.stat(path))
        except FileNotFoundError:
            return None

    def replace(self, src: str, dst: str, /) -> None:
        retry_sharing(lambda: os.replace(src, dst), self.sleep)

    def renew(self, path: str, /) -> bool:
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def resolve(self, path: str, /) -> str:
        return os.path.realpath(path)

    def exchange(self, a: str, b: str, /) -> bool:
        return False

    def unlink(self, path: str, /) -> bool:
        try:
            retry_sharing(lambda: os.unlink(path), self.sleep)
        except FileNotFoundError:
            return False
        return True

    def mkdir(self, path: str, mode: int = 0o700, /) -> bool:
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not os.path.isdir(path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
            return False
        return True

    def remove_dir(self, path: str, /) -> bool:
        try:
            retry_sharing(lambda: os.rmdir(path), self.sleep)
        except FileNotFoundError:
            return False
        return True

    def listdir(self, path: str, /) -> list[str]:
        try:
            return os.listdir(path)
        except FileNotFoundError:
            return []

    def lock(self, fd: int, /) -> bool:
        return filelock.lock_descriptor(fd, blocking=False)

    def unlock(self, fd: int, /) -> None:
        filelock.unlock_descriptor(fd)

    def chmod_like(self, fd: int, like: FileStat, /) -> None:
        # Rights are the folder's access control list here: a new file inherits them.
        return


def most_files() -> int:
    """How many files this process may have open at once: as many as the C runtime that Python is built on numbers."""
    return 8192
