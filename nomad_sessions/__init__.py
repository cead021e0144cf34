"""Local-first sessions for AI agents and chat applications: plain files, nothing to run, nothing acknowledged lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomad_sessions.clock import Clock, ManualClock, SystemClock
from nomad_sessions.errors import (
    AlreadyExistsError,
    AttachmentMissingError,
    ConflictError,
    ConnectionClosedError,
    CorruptionError,
    CrossDeviceError,
    DataDirError,
    DiskFullError,
    DurabilityLostError,
    EventsPrunedError,
    IllegalTransitionError,
    InvalidCursorError,
    InvalidInputError,
    InvalidWorkspaceIdError,
    JournalCorruptError,
    JournalGapError,
    LeaseNotFoundError,
    LockTimeoutError,
    LockUnsupportedError,
    MailNotFoundError,
    MessageNotFoundError,
    NomadSessionsError,
    NoRouteError,
    NotConfirmedError,
    NotFoundError,
    OriginalNotFoundError,
    ProtectedFieldError,
    SessionInUseError,
    SessionNotFoundError,
    SessionStateError,
    SnapshotUnreadableError,
    SourcesFailedError,
    SourceUnavailableError,
    StorageError,
    StoreClosedError,
    StoreReadOnlyError,
    SubscriptionClosedError,
    TargetUnavailableError,
    TaskNotFoundError,
    TransactionError,
    UnsupportedFormatError,
    WorkspaceNotFoundError,
)
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import (
    Event,
    FileRef,
    ForkedFrom,
    Message,
    MessageErrorInfo,
    MessagePart,
    ModelRef,
    Page,
    Revert,
    Session,
    Task,
    ToolCall,
    ToolFunction,
    ToolResult,
    Usage,
)
from nomad_sessions.reports import WorkspaceStats, WorkspaceStatus
from nomad_sessions.shared import get_session_manager, init_session_manager
from nomad_sessions.streaming import MessageStream
from nomad_sessions.transaction import Transaction

if TYPE_CHECKING:
    from nomad_sessions.aio import AsyncMessageStream, AsyncSessionManager
    from nomad_sessions.connections import Connection, ConnectionInfo, SessionReplica
    from nomad_sessions.doctor import DoctorReport, Finding
    from nomad_sessions.events import EventFilter, Subscription
    from nomad_sessions.mail.asking import MailCounts, SendOptions
    from nomad_sessions.mail.routing import RuleVerdict
    from nomad_sessions.models.mail import Mail, MailLease, MailRule
    from nomad_sessions.session_info import SessionInfo, SessionInfoList
    from nomad_sessions.task_monitor import TaskMonitor
    from nomad_sessions.workspace.check import CheckReport, Problem
    from nomad_sessions.workspace.repair import RepairReport

__all__ = [
    "AlreadyExistsError",
    "AsyncMessageStream",
    "AsyncSessionManager",
    "AttachmentMissingError",
    "CheckReport",
    "Clock",
    "ConflictError",
    "Connection",
    "ConnectionClosedError",
    "ConnectionInfo",
    "CorruptionError",
    "CrossDeviceError",
    "DataDirError",
    "DiskFullError",
    "DoctorReport",
    "DurabilityLostError",
    "Event",
    "EventFilter",
    "EventsPrunedError",
    "FileRef",
    "Finding",
    "ForkedFrom",
    "IllegalTransitionError",
    "InvalidCursorError",
    "InvalidInputError",
    "InvalidWorkspaceIdError",
    "JournalCorruptError",
    "JournalGapError",
    "LeaseNotFoundError",
    "LockTimeoutError",
    "LockUnsupportedError",
    "Mail",
    "MailCounts",
    "MailLease",
    "MailNotFoundError",
    "MailRule",
    "ManualClock",
    "Message",
    "MessageErrorInfo",
    "MessageNotFoundError",
    "MessagePart",
    "MessageStream",
    "ModelRef",
    "NativeSessionManager",
    "NoRouteError",
    "NomadSessionsError",
    "NotConfirmedError",
    "NotFoundError",
    "OriginalNotFoundError",
    "Page",
    "Problem",
    "ProtectedFieldError",
    "RepairReport",
    "Revert",
    "RuleVerdict",
    "SendOptions",
    "Session",
    "SessionInUseError",
    "SessionInfo",
    "SessionInfoList",
    "SessionNotFoundError",
    "SessionReplica",
    "SessionStateError",
    "SnapshotUnreadableError",
    "SourceUnavailableError",
    "SourcesFailedError",
    "StorageError",
    "StoreClosedError",
    "StoreReadOnlyError",
    "Subscription",
    "SubscriptionClosedError",
    "SystemClock",
    "TargetUnavailableError",
    "Task",
    "TaskMonitor",
    "TaskNotFoundError",
    "ToolCall",
    "ToolFunction",
    "ToolResult",
    "Transaction",
    "TransactionError",
    "UnsupportedFormatError",
    "Usage",
    "WorkspaceNotFoundError",
    "WorkspaceStats",
    "WorkspaceStatus",
    "get_session_manager",
    "init_session_manager",
]


_LATER = {
    "AsyncMessageStream": "nomad_sessions.aio",
    "AsyncSessionManager": "nomad_sessions.aio",
    "CheckReport": "nomad_sessions.workspace.check",
    "Connection": "nomad_sessions.connections",
    "ConnectionInfo": "nomad_sessions.connections",
    "DoctorReport": "nomad_sessions.doctor",
    "EventFilter": "nomad_sessions.events",
    "Finding": "nomad_sessions.doctor",
    "Mail": "nomad_sessions.models.mail",
    "MailCounts": "nomad_sessions.mail.asking",
    "SendOptions": "nomad_sessions.mail.asking",
    "MailLease": "nomad_sessions.models.mail",
    "MailRule": "nomad_sessions.models.mail",
    "Problem": "nomad_sessions.workspace.check",
    "RepairReport": "nomad_sessions.workspace.repair",
    "SessionInfo": "nomad_sessions.session_info",
    "SessionInfoList": "nomad_sessions.session_info",
    "SessionReplica": "nomad_sessions.connections",
    "RuleVerdict": "nomad_sessions.mail.routing",
    "Subscription": "nomad_sessions.events",
    "TaskMonitor": "nomad_sessions.task_monitor",
}


def __getattr__(name: str) -> Any:
    # asyncio costs a third of the whole import: loaded when the async manager is first asked for (PEP 562).
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
