"""The operating system's errors as ours: a caller learns what happened to the call, not which syscall said so."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from nomad_sessions.errors import DataDirError, DiskFullError, DurabilityLostError, StorageError, StoreReadOnlyError

__all__ = ["FULL", "translated"]

FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Turns an `OSError` out of the block into the error of ours that says what it means for the store at `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        number = error.errno or errno.EIO
        if number in FULL:
            raise DiskFullError(path=path, errno=number) from error
        if number in _READ_ONLY:
            raise StoreReadOnlyError(path=path, errno=number) from error
        if number == errno.ENOTDIR:
            raise DataDirError(path=path, errno=number) from error
        if number == errno.EIO:
            raise DurabilityLostError(path=path, errno=number) from error
        raise
