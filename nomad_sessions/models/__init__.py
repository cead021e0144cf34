"""The records of the store as pydantic models. No I/O happens here."""

from __future__ import annotations

from .base import Model, Text, dump, fast_json, refuse_protected, validate, with_changes
from .event import Event
from .fields import normalise_fields
from .message import (
    PART_TYPES,
    PROTECTED_MESSAGE,
    ROLES,
    STATUSES,
    FileRef,
    Message,
    MessageErrorInfo,
    MessagePart,
    PartType,
    Role,
    Status,
    ToolCall,
    ToolFunction,
    ToolResult,
    Usage,
    canonical,
    check_message,
    validate_new_message,
)
from .page import Page
from .session import PROTECTED_SESSION, ForkedFrom, ModelRef, Revert, Session
from .task import PROTECTED_TASK, TASK_STATUSES, TASK_TRANSITIONS, Task, TaskStatus

__all__ = [
    "PART_TYPES",
    "PROTECTED_MESSAGE",
    "PROTECTED_SESSION",
    "PROTECTED_TASK",
    "ROLES",
    "STATUSES",
    "TASK_STATUSES",
    "TASK_TRANSITIONS",
    "Event",
    "FileRef",
    "ForkedFrom",
    "Message",
    "MessageErrorInfo",
    "MessagePart",
    "Model",
    "ModelRef",
    "Page",
    "PartType",
    "Revert",
    "Role",
    "Session",
    "Status",
    "Task",
    "TaskStatus",
    "Text",
    "ToolCall",
    "ToolFunction",
    "ToolResult",
    "Usage",
    "canonical",
    "check_message",
    "dump",
    "fast_json",
    "normalise_fields",
    "refuse_protected",
    "validate",
    "validate_new_message",
    "with_changes",
]
