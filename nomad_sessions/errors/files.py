"""Errors of the files, and of the disk that they lie on."""

from __future__ import annotations

import errno as _errno

from nomad_sessions.errors.base import NomadSessionsError, plain, short


class StorageError(NomadSessionsError):
    """The files could not be read or written as they should. `path` is the file or folder concerned."""

    def __init__(self, *, path: str, message: str) -> None:
        self.path = path
        super().__init__(message=message)


class DiskFullError(StorageError, OSError):
    """No room (ENOSPC), quota (EDQUOT) or size limit (EFBIG): nothing of the call was kept, the next may succeed."""

    def __init__(self, *, path: str, errno: int = _errno.ENOSPC) -> None:
        super().__init__(path=path, message=f"no room to write {plain(path)}: free some space and repeat the call")
        _set_os_fields(self, errno, path)


class DurabilityLostError(StorageError, OSError):
    """A sync failed: what was written may or may not be on the disk, and the handle refuses writes until reopened."""

    def __init__(self, *, path: str, errno: int = _errno.EIO) -> None:
        text = f"could not sync {plain(path)}: its last changes may be lost; check the disk, then reopen the store"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


_DENIED = "permission denied; check the owner and the permissions of the folder and of those above it"
_MEND = "run check, then repair"
_REFUSED = {_errno.EROFS: "the file system is mounted read-only; reading works"}


class StoreReadOnlyError(StorageError, PermissionError):
    """The store's folder cannot be written, or not even read (EROFS, EACCES, EPERM). What may be read is read."""

    def __init__(self, *, path: str, errno: int = _errno.EACCES) -> None:
        super().__init__(path=path, message=f"{plain(path)}: {_REFUSED.get(errno, _DENIED)}")
        _set_os_fields(self, errno, path)


class DataDirError(StorageError, NotADirectoryError):
    """The data folder, a workspace's folder or one in it, is a file: `path`, or what it lies in."""

    def __init__(self, *, path: str, errno: int = _errno.ENOTDIR) -> None:
        text = f"{plain(path)} is not a folder, or lies in a file: move that away, or choose another data folder"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


class LockTimeoutError(StorageError, TimeoutError):
    """Another process kept the lock for longer than `lock_timeout`. `waited` is in seconds; nothing was written."""

    def __init__(self, *, path: str, waited: float, errno: int = _errno.ETIMEDOUT) -> None:
        self.waited = waited
        text = f"the lock {plain(path)} was held elsewhere for {waited:.1f} s: is a writer stopped? else retry"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


class LockUnsupportedError(StorageError, OSError):
    """The file system has no kernel locks, so that several writers could destroy each other's data."""

    def __init__(self, *, path: str, errno: int = _errno.ENOLCK) -> None:
        text = f"the file system of {plain(path)} has no file locks: put the data folder on a local disk"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


class CrossDeviceError(StorageError, OSError):
    """`sessions.json` is a link to another file system, where it cannot be replaced in one step. Nothing is lost: the
    journal has everything."""

    def __init__(self, *, path: str, errno: int = _errno.EXDEV) -> None:
        text = f"{plain(path)} is a link to another file system: put the whole workspace folder there, and link that"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


class UnsupportedFormatError(StorageError):
    """A file was written by a newer version, or is not ours. `found` and `supported` are format versions."""

    def __init__(self, *, path: str, found: object, supported: object) -> None:
        self.found = found
        self.supported = supported
        versions = f"has format {short(found)}, this version reads {short(supported)}"
        text = f"{plain(path)} {versions}: upgrade nomad-sessions"
        super().__init__(path=path, message=text)


class CorruptionError(StorageError):
    """Stored bytes are damaged; `reason` says how. Nothing was changed: `check` says more and `repair` mends."""

    def __init__(self, *, path: str, reason: str, hint: str = _MEND) -> None:
        self.reason = reason
        super().__init__(path=path, message=f"{plain(path)} is damaged: {reason}; {hint}")


class JournalCorruptError(CorruptionError):
    """A journal segment is damaged before its end, or a file of `events/` is. `offset` and `length` are bytes in the
    file at `path`."""

    def __init__(self, *, path: str, offset: int, length: int, reason: str, hint: str = _MEND) -> None:
        self.offset = offset
        self.length = length
        super().__init__(path=path, reason=f"{length} bytes at offset {offset}, {reason}", hint=hint)
        self.reason = reason


class JournalGapError(CorruptionError):
    """Changes are missing between two that are there: `expected_seq` was due at `path`, `found_seq` came."""

    def __init__(self, *, path: str, expected_seq: int, found_seq: int) -> None:
        self.expected_seq = expected_seq
        self.found_seq = found_seq
        super().__init__(
            path=path,
            reason=f"change {expected_seq} is missing, {found_seq} follows",
            hint="restore the missing segment from a backup, or run repair",
        )


class SnapshotUnreadableError(CorruptionError):
    """`sessions.json` cannot be read and nothing can stand in for it. It is never taken for an empty store."""

    def __init__(self, *, path: str, reason: str, hint: str = "restore it from a backup, or run repair") -> None:
        super().__init__(path=path, reason=reason, hint=hint)


class AttachmentMissingError(CorruptionError, FileNotFoundError):
    """The bytes of an attachment are gone, or are not those that `sha256` (lower-case hex) names."""

    def __init__(
        self, *, path: str, sha256: str, reason: str = "the file is missing", errno: int = _errno.ENOENT
    ) -> None:
        self.sha256 = sha256
        super().__init__(path=path, reason=reason, hint=f"restore attachment {sha256} from a backup")
        _set_os_fields(self, errno, path)


def _set_os_fields(error: OSError, errno: int, path: str) -> None:
    """What a handler of the plain OSError looks at; its constructor would take them by position only."""
    error.errno = errno
    error.filename = path
    error.strerror = error.args[0]
