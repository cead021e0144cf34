"""The real file system on Linux and other POSIX systems, and on macOS, which needs another call to reach the drive.

Calls that need nothing around them are the functions of `os` themselves, so that the seam costs an attribute access.
Interrupted calls (EINTR) are repeated by Python itself (PEP 475). Verified by `tests/contract/test_filesystem.py`,
`tests/unit/test_os.py`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import stat as stat_bits
import sys
import time
from collections.abc import Callable

from nomad_sessions.storage._os_protocol import Buffer, FileStat

assert sys.platform != "win32"

_new_stat = tuple.__new__
_EXCLUSIVE_NOW = fcntl.LOCK_EX | fcntl.LOCK_NB
# Some file systems answer EACCES where others say EAGAIN: both mean that somebody else holds it.
_HELD_ELSEWHERE = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_CANNOT_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_MUCH = 1 << 20  # bytes; ext4 takes twice as long for each byte of a write of several MiB
_F_FULLFSYNC: int = getattr(fcntl, "F_FULLFSYNC", 51)
# What file systems answer that have no F_FULLFSYNC (SMB, some FUSE). Anything else, EIO above all, is a failed sync.
_NO_FULL_SYNC = frozenset({errno.ENOTSUP, errno.EINVAL, errno.ENOTTY})
_fsync: Callable[[int], None] = os.fsync
_fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


if sys.platform == "linux":

    def _advise_unneeded(fd: int, offset: int, length: int) -> None:
        # Linux drops the pages that are clean and begins to write those that are dirty, and waits for nothing. So after
        # a write the disk works while more is made ready, and a sync has little left to wait for.
        with contextlib.suppress(OSError):  # A hint: whoever refuses it loses nothing.
            os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)

else:

    def _advise_unneeded(fd: int, offset: int, length: int) -> None:
        pass  # There is no such call.


def _file_stat(s: os.stat_result) -> FileStat:
    # Unpacking and tuple.__new__, not FileStat(s.st_dev, ...): half the time, and the lock asks twice for each commit.
    mode, ino, dev, nlink, uid, gid, size, _, _, _ = s
    return _new_stat(FileStat, (dev, ino, size, s.st_mtime_ns, mode, nlink, uid, gid))


class PosixFileSystem:
    """`FileSystem` over the system calls. It has no state: one instance serves all threads, and a forked child."""

    __slots__ = ()

    replaces_open = True
    close = staticmethod(os.close)
    sync = staticmethod(_fsync)
    datasync = staticmethod(_fdatasync)
    truncate = staticmethod(os.ftruncate)
    replace = staticmethod(os.replace)
    link = staticmethod(os.link)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def open(self, path: str, flags: int, mode: int = 0o600, /) -> int:
        # Not os.open itself: its default would let everybody read the file. What is a pipe is not waited for.
        return os.open(path, flags | os.O_NONBLOCK, mode)

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        data = os.pread(fd, n, offset)
        if len(data) == n:
            return data
        # A short read is not the end of the file: only an empty one is (2 GiB limit, signals, FUSE).
        parts = [data]
        got = len(data)
        while got < n and parts[-1]:
            parts.append(os.pread(fd, n - got, offset + got))
            got += len(parts[-1])
        return b"".join(parts)

    def pwrite_all(self, fd: int, data: Buffer, offset: int, /) -> None:
        written = os.pwrite(fd, data, offset) if len(data) < _MUCH else 0
        if written == len(data):
            return
        # A nearly full disk writes a part and reports no error; the next call says ENOSPC.
        view = memoryview(data)
        while written < len(view):
            step = os.pwrite(fd, view[written : written + _MUCH], offset + written)
            if step == 0:
                raise OSError(errno.EIO, "the write makes no progress")
            _advise_unneeded(fd, offset + written, step)
            written += step

    def uncache(self, fd: int, /) -> None:
        _advise_unneeded(fd, 0, 0)

    def sync_dir(self, path: str, /) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(fd)
        except OSError as error:
            # Some file systems (FUSE, 9p) cannot sync a folder at all and say EINVAL: there is nothing to do better.
            if error.errno != errno.EINVAL:
                raise
        finally:
            os.close(fd)

    def fstat(self, fd: int, /) -> FileStat:
        return _file_stat(os.fstat(fd))

    def stat(self, path: str, /) -> FileStat | None:
        try:
            return _file_stat(os.stat(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # As a link to nowhere: there is no file.
                return None
            raise

    def renew(self, path: str, /) -> bool:
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def resolve(self, path: str, /) -> str:
        return os.path.realpath(path)

    def exchange(self, a: str, b: str, /) -> bool:
        # Imported here: only a checkpoint needs ctypes, and importing the package should not pay for it.
        import ctypes

        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is None:
            return False
        if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
            return True
        code = ctypes.get_errno()
        if code in _CANNOT_EXCHANGE:
            return False
        raise OSError(code, os.strerror(code), a, None, b)

    def unlink(self, path: str, /) -> bool:
        try:
            os.unlink(path)
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
            os.rmdir(path)
        except FileNotFoundError:
            return False
        return True

    def listdir(self, path: str, /) -> list[str]:
        while True:
            try:
                return os.listdir(path)
            except FileNotFoundError:
                return []
            except InterruptedError:
                continue  # The one call here that Python does not repeat itself (PEP 475 leaves opendir out).

    def lock(self, fd: int, /) -> bool:
        try:
            fcntl.flock(fd, _EXCLUSIVE_NOW)
        except OSError as error:
            if error.errno in _HELD_ELSEWHERE:
                return False
            raise
        return True

    def unlock(self, fd: int, /) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)

    def chmod_like(self, fd: int, like: FileStat, /) -> None:
        mode = stat_bits.S_IMODE(like.mode)
        mine = os.fstat(fd)
        if mine.st_gid != like.gid and not _chown(fd, -1, like.gid):
            # The file keeps our group: rights that another group had must not become ours.
            mode &= ~stat_bits.S_IRWXG
        if mine.st_uid != like.uid:
            _chown(fd, like.uid, -1)
        # After the owner: changing that clears bits of the mode.
        try:
            os.fchmod(fd, mode)
        except PermissionError:
            return


def _chown(fd: int, uid: int, gid: int) -> bool:
    try:
        os.fchown(fd, uid, gid)
    except PermissionError:
        return False
    return True


def _full_sync(fd: int) -> None:
    try:
        fcntl.fcntl(fd, _F_FULLFSYNC)
    except OSError as error:
        if error.errno not in _NO_FULL_SYNC:
            raise
        os.fsync(fd)


class DarwinFileSystem(PosixFileSystem):
    """macOS: `fsync` leaves the bytes in the drive's own cache, `F_FULLFSYNC` does not."""

    __slots__ = ()

    sync = staticmethod(_full_sync)
    datasync = staticmethod(_full_sync)

    def exchange(self, a: str, b: str, /) -> bool:
        return False


def most_files() -> int:
    """How many files this process may have open at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
