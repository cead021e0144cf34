"""Every error that this package raises on purpose, in one tree.

An error also subclasses the built-in that callers catch already, carries its facts as attributes, survives pickling
(process pools, queues), and prints as one line that names the thing and says what to do next.

    NomadSessionsError
    ├── NotFoundError (KeyError)                 kind, id
    │   ├── SessionNotFoundError                 session_id
    │   ├── MessageNotFoundError                 message_id
    │   ├── WorkspaceNotFoundError               workspace_id
    │   ├── TaskNotFoundError                    task_id
    │   ├── MailNotFoundError                    mail_id
    │   ├── LeaseNotFoundError                   lease_id
    │   └── OriginalNotFoundError                session_id
    ├── InvalidInputError (ValueError)           field, value, reason
    │   ├── InvalidWorkspaceIdError              workspace_id
    │   ├── ProtectedFieldError
    │   └── InvalidCursorError                   cursor
    ├── ConflictError                            current, expected_rev
    ├── AlreadyExistsError                       kind, id, current
    ├── TransactionError (RuntimeError)
    ├── StoreClosedError (RuntimeError)          path
    ├── EventsPrunedError (LookupError)          path, since, first
    ├── NoRouteError (LookupError)               type, rules
    └── StorageError                             path
        ├── DiskFullError (OSError)              errno
        ├── DurabilityLostError (OSError)        errno
        ├── StoreReadOnlyError (PermissionError) errno
        ├── DataDirError (NotADirectoryError)    errno
        ├── LockTimeoutError (TimeoutError)      errno, waited
        ├── LockUnsupportedError (OSError)       errno
        ├── CrossDeviceError (OSError)           errno
        ├── UnsupportedFormatError               found, supported
        └── CorruptionError                      reason
            ├── JournalCorruptError              offset, length
            ├── JournalGapError                  expected_seq, found_seq
            ├── SnapshotUnreadableError
            └── AttachmentMissingError (FileNotFoundError)   errno, sha256

The invariant, checked by tests/unit/test_errors.py for each class found in this module: documented, picklable with
all its attributes, one line when printed.
"""

from __future__ import annotations

import errno as _errno
import reprlib
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from .models.base import Model

_Error = TypeVar("_Error", bound="NomadSessionsError")


def _make_short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    return short


# reprlib cuts before it formats: a 10 MB text or a value nested 1,000 deep must not cost, or break, its own error.
_short = _make_short().repr


class NomadSessionsError(Exception):
    """Base of every error of this package. `message` is the one line that `str()` gives."""

    def __init__(self, *, message: str) -> None:
        self.message = " ".join(message.splitlines())
        super().__init__(self.message)

    def __str__(self) -> str:
        # KeyError prints the repr of its argument, and OSError prefixes the number: neither is a sentence.
        return self.message

    def __reduce__(self) -> tuple[Callable[..., NomadSessionsError], tuple[Any, ...], dict[str, Any]]:
        state = dict(self.__dict__)
        if isinstance(self, OSError):
            state.update(errno=self.errno, strerror=self.strerror, filename=self.filename)
        return _blank, (type(self), self.args), state


def _blank(cls: type[_Error], args: tuple[Any, ...]) -> _Error:
    """An instance without its fields: pickle puts them in. The default calls `cls(*args)`, but these take keywords."""
    error = cls.__new__(cls)
    error.args = args
    return error


class NotFoundError(NomadSessionsError, KeyError):
    """Something to be changed or deleted does not exist. `kind` is what it is ("session", …), `id` which one, `hint`
    where to look."""

    def __init__(self, *, kind: str, id: str, hint: str | None = None) -> None:
        self.kind = kind
        self.id = id
        self.hint = hint or "it never existed or was deleted; check the id and workspace"
        super().__init__(message=f"no {kind} {_short(id)}: {self.hint}")


class SessionNotFoundError(NotFoundError):
    """The session `session_id` is not in this workspace."""

    def __init__(self, *, session_id: str, hint: str | None = None) -> None:
        self.session_id = session_id
        super().__init__(kind="session", id=session_id, hint=hint)


class MessageNotFoundError(NotFoundError):
    """The message `message_id` is not in this workspace, or not visible in the session asked for."""

    def __init__(self, *, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(kind="message", id=message_id)


class WorkspaceNotFoundError(NotFoundError):
    """The workspace `workspace_id` has no folder in the data folder."""

    def __init__(self, *, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        super().__init__(kind="workspace", id=workspace_id)


class TaskNotFoundError(NotFoundError):
    """The task `task_id` is not in this workspace."""

    def __init__(self, *, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(kind="task", id=task_id)


class MailNotFoundError(NotFoundError):
    """The message `mail_id` is not in this mailbox, or not as the call needs it: `hint` says how it is."""

    def __init__(self, *, mail_id: str, hint: str | None = None) -> None:
        self.mail_id = mail_id
        super().__init__(kind="mail", id=mail_id, hint=hint)


class LeaseNotFoundError(NotFoundError):
    """The lease `lease_id` is not, or no longer, that of a message. Nothing was changed."""

    def __init__(self, *, lease_id: str) -> None:
        self.lease_id = lease_id
        hint = "it was acknowledged or given back, or its time ran out and somebody else has the message"
        super().__init__(kind="lease", id=lease_id, hint=hint)


class OriginalNotFoundError(NotFoundError):
    """What the session `session_id` was imported from is not kept here, if it was imported at all; `hint` says why."""

    def __init__(self, *, session_id: str, hint: str) -> None:
        self.session_id = session_id
        super().__init__(kind="original of session", id=session_id, hint=hint)


class InvalidInputError(NomadSessionsError, ValueError):
    """A value given by the caller cannot be stored; nothing was written.

    `field` is the name of the field as the file spells it, `value` a shortened repr of what was given, `reason` why.
    """

    def __init__(self, *, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = _short(value)
        self.reason = reason
        super().__init__(message=f"{_plain(field)}: {reason} (got {self.value})")


class InvalidWorkspaceIdError(InvalidInputError):
    """`workspace_id` cannot be the name of a folder on every system."""

    def __init__(self, *, workspace_id: object, reason: str) -> None:
        self.workspace_id = workspace_id
        super().__init__(field="workspaceId", value=workspace_id, reason=reason)


class ProtectedFieldError(InvalidInputError):
    """An update named a field that the store alone decides (`id`, `createdAt`, …)."""

    def __init__(self, *, field: str, value: object = None) -> None:
        super().__init__(field=field, value=value, reason="is set by the store and cannot be changed; leave it out")


class InvalidCursorError(InvalidInputError):
    """`cursor` was not made by this list, or not by this package."""

    def __init__(self, *, cursor: object) -> None:
        self.cursor = cursor
        super().__init__(field="cursor", value=cursor, reason="is not a cursor of this list; use a page's next_cursor")


class ConflictError(NomadSessionsError):
    """The record changed since the caller read it. `current` is what it is now, `expected_rev` was asked for."""

    def __init__(self, *, current: Model, expected_rev: int) -> None:
        self.current = current
        self.expected_rev = expected_rev
        kind, rev = type(current).__name__.lower(), getattr(current, "rev", None)
        found = f"{kind} {_short(getattr(current, 'id', ''))} is at rev {rev}"
        super().__init__(message=f"{found}, expected {expected_rev}: read it again and repeat the change")


class AlreadyExistsError(NomadSessionsError):
    """The id given for a creation is taken by other content. `current` is what is stored under `kind` and `id`."""

    def __init__(self, *, kind: str, id: str, current: Model | None = None) -> None:
        self.kind = kind
        self.id = id
        self.current = current
        super().__init__(message=f"{kind} {_short(id)} exists already with other content: choose another id")


class TransactionError(NomadSessionsError, RuntimeError):
    """A transaction was opened inside another one, or used after its end."""


class StoreClosedError(NomadSessionsError, RuntimeError):
    """The manager or store was used after `close()`. `path` is its folder, where known."""

    def __init__(self, *, path: str = "") -> None:
        self.path = path
        super().__init__(message=f"the store{_at(path)} is closed: open a new manager")


class EventsPrunedError(NomadSessionsError, LookupError):
    """Changes after the seq `since` are no longer kept, or the workspace began anew; `first` is the first that is."""

    def __init__(self, *, path: str, since: int, first: int) -> None:
        self.path = path
        self.since = since
        self.first = first
        super().__init__(
            message=f"{_plain(path)} no longer has the changes after {since}: the first that it has is {first}; "
            "read the state afresh, and go on from there"
        )


class NoRouteError(NomadSessionsError, LookupError):
    """None of the workspace's `rules` (a number) matches a message of this `type`: it was not sent to anybody."""

    def __init__(self, *, type: str, rules: int) -> None:
        self.type = type
        self.rules = rules
        super().__init__(message=f"none of the {rules} mail rules matches type {_short(type)}: explain_route says why")


class StorageError(NomadSessionsError):
    """The files could not be read or written as they should. `path` is the file or folder concerned."""

    def __init__(self, *, path: str, message: str) -> None:
        self.path = path
        super().__init__(message=message)


class DiskFullError(StorageError, OSError):
    """No room (ENOSPC), quota (EDQUOT) or size limit (EFBIG): nothing of the call was kept, the next may succeed."""

    def __init__(self, *, path: str, errno: int = _errno.ENOSPC) -> None:
        super().__init__(path=path, message=f"no room to write {_plain(path)}: free some space and repeat the call")
        _set_os_fields(self, errno, path)


class DurabilityLostError(StorageError, OSError):
    """A sync failed: what was written may or may not be on the disk, and the handle refuses writes until reopened."""

    def __init__(self, *, path: str, errno: int = _errno.EIO) -> None:
        text = f"could not sync {_plain(path)}: its last changes may be lost; check the disk, then reopen the store"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


_DENIED = "permission denied; check the owner and the permissions of the folder and of those above it"
_REFUSED = {_errno.EROFS: "the file system is mounted read-only; reading works"}


class StoreReadOnlyError(StorageError, PermissionError):
    """The store's folder cannot be written, or not even read (EROFS, EACCES, EPERM). What may be read is read."""

    def __init__(self, *, path: str, errno: int = _errno.EACCES) -> None:
        super().__init__(path=path, message=f"{_plain(path)}: {_REFUSED.get(errno, _DENIED)}")
        _set_os_fields(self, errno, path)


class DataDirError(StorageError, NotADirectoryError):
    """The data folder, or a workspace's folder, is a file."""

    def __init__(self, *, path: str, errno: int = _errno.ENOTDIR) -> None:
        super().__init__(path=path, message=f"{_plain(path)} is not a folder: choose another data folder")
        _set_os_fields(self, errno, path)


class LockTimeoutError(StorageError, TimeoutError):
    """Another process kept the lock for longer than `lock_timeout`. `waited` is in seconds; nothing was written."""

    def __init__(self, *, path: str, waited: float, errno: int = _errno.ETIMEDOUT) -> None:
        self.waited = waited
        text = f"the lock {_plain(path)} was held elsewhere for {waited:.1f} s: is a writer stopped? else retry"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


class LockUnsupportedError(StorageError, OSError):
    """The file system has no kernel locks, so that several writers could destroy each other's data."""

    def __init__(self, *, path: str, errno: int = _errno.ENOLCK) -> None:
        text = f"the file system of {_plain(path)} has no file locks: put the data folder on a local disk"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


class CrossDeviceError(StorageError, OSError):
    """`sessions.json` is a link to another file system, where it cannot be replaced in one step. Nothing is lost: the
    journal has everything."""

    def __init__(self, *, path: str, errno: int = _errno.EXDEV) -> None:
        text = f"{_plain(path)} is a link to another file system: put the whole workspace folder there, and link that"
        super().__init__(path=path, message=text)
        _set_os_fields(self, errno, path)


class UnsupportedFormatError(StorageError):
    """A file was written by a newer version, or is not ours. `found` and `supported` are format versions."""

    def __init__(self, *, path: str, found: object, supported: object) -> None:
        self.found = found
        self.supported = supported
        versions = f"has format {_short(found)}, this version reads {_short(supported)}"
        text = f"{_plain(path)} {versions}: upgrade nomad-sessions"
        super().__init__(path=path, message=text)


class CorruptionError(StorageError):
    """Stored bytes are damaged; `reason` says how. Nothing was changed: `check` says more and `repair` mends."""

    def __init__(self, *, path: str, reason: str, hint: str = "run check, then repair") -> None:
        self.reason = reason
        super().__init__(path=path, message=f"{_plain(path)} is damaged: {reason}; {hint}")


class JournalCorruptError(CorruptionError):
    """A journal segment is damaged before its end. `offset` and `length` are bytes in the file at `path`."""

    def __init__(self, *, path: str, offset: int, length: int, reason: str) -> None:
        self.offset = offset
        self.length = length
        super().__init__(path=path, reason=f"{length} bytes at offset {offset}, {reason}")
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

    def __init__(self, *, path: str, reason: str) -> None:
        super().__init__(path=path, reason=reason, hint="restore it from a backup, or run repair")


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


def _plain(text: str) -> str:
    """A path or name for a message: as it is, except that what a terminal cannot print is escaped."""
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode("ascii")


def _at(path: str) -> str:
    return f" at {_plain(path)}" if path else ""
