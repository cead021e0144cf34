"""The operating system's errors as ours: a caller learns what happened to the call, not which syscall said so."""

from __future__ import annotations

import errno
from types import TracebackType

from nomad_sessions.errors import DataDirError, DiskFullError, DurabilityLostError, StorageError, StoreReadOnlyError

__all__ = ["FULL", "translated"]

FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class translated:
    """Turns an `OSError` out of the block into the error of ours that says what it means for the store at `path`.

    A class, not a generator: every commit enters two of these.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, OSError) or isinstance(error, StorageError):
            return
        path = self._path
        number = error.errno or errno.EIO
        if number in FULL:
            raise DiskFullError(path=path, errno=number) from error
        if number in _READ_ONLY:
            raise StoreReadOnlyError(path=path, errno=number) from error
        if number == errno.ENOTDIR:
            raise DataDirError(path=error.filename or path, errno=number) from error
        if number == errno.EIO:
            raise DurabilityLostError(path=path, errno=number) from error
