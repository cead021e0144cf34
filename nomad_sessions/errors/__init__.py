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
    ├── IllegalTransitionError (RuntimeError)    kind, id, before, after
    ├── TransactionError (RuntimeError)
    ├── SessionStateError (RuntimeError)         session_id, state
    ├── SessionInUseError                        session_id, holders
    ├── ConnectionClosedError (RuntimeError)
    ├── SubscriptionClosedError (RuntimeError)
    ├── StoreClosedError (RuntimeError)          path
    ├── EventsPrunedError (LookupError)          path, since, first
    ├── TargetUnavailableError (RuntimeError)    target, reason
    ├── EmbedderError (RuntimeError)             model, reason
    │   └── EmbeddingRefusedError (ValueError)
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

The invariant, checked by tests/unit/test_errors.py for each class of this package: documented, picklable with
all its attributes, one line when printed.
"""

from __future__ import annotations

from nomad_sessions.errors.base import NomadSessionsError
from nomad_sessions.errors.calls import (
    AlreadyExistsError,
    ConflictError,
    ConnectionClosedError,
    EmbedderError,
    EmbeddingRefusedError,
    EventsPrunedError,
    IllegalTransitionError,
    InvalidCursorError,
    InvalidInputError,
    InvalidWorkspaceIdError,
    LeaseNotFoundError,
    MailNotFoundError,
    MessageNotFoundError,
    NoRouteError,
    NotFoundError,
    OriginalNotFoundError,
    ProtectedFieldError,
    SessionInUseError,
    SessionNotFoundError,
    SessionStateError,
    StoreClosedError,
    SubscriptionClosedError,
    TargetUnavailableError,
    TaskNotFoundError,
    TransactionError,
    WorkspaceNotFoundError,
)
from nomad_sessions.errors.files import (
    AttachmentMissingError,
    CorruptionError,
    CrossDeviceError,
    DataDirError,
    DiskFullError,
    DurabilityLostError,
    JournalCorruptError,
    JournalGapError,
    LockTimeoutError,
    LockUnsupportedError,
    SnapshotUnreadableError,
    StorageError,
    StoreReadOnlyError,
    UnsupportedFormatError,
)

__all__ = [
    "AlreadyExistsError",
    "AttachmentMissingError",
    "ConflictError",
    "ConnectionClosedError",
    "CorruptionError",
    "CrossDeviceError",
    "DataDirError",
    "DiskFullError",
    "DurabilityLostError",
    "EmbedderError",
    "EmbeddingRefusedError",
    "EventsPrunedError",
    "IllegalTransitionError",
    "InvalidCursorError",
    "InvalidInputError",
    "InvalidWorkspaceIdError",
    "JournalCorruptError",
    "JournalGapError",
    "LeaseNotFoundError",
    "LockTimeoutError",
    "LockUnsupportedError",
    "MailNotFoundError",
    "MessageNotFoundError",
    "NoRouteError",
    "NomadSessionsError",
    "NotFoundError",
    "OriginalNotFoundError",
    "ProtectedFieldError",
    "SessionInUseError",
    "SessionNotFoundError",
    "SessionStateError",
    "SnapshotUnreadableError",
    "StorageError",
    "StoreClosedError",
    "StoreReadOnlyError",
    "SubscriptionClosedError",
    "TargetUnavailableError",
    "TaskNotFoundError",
    "TransactionError",
    "UnsupportedFormatError",
    "WorkspaceNotFoundError",
]
