"""Message and its parts, in the shape that NomadArch writes, and what we add to it.

Reading accepts any role, status and type of part, since other tools have more of them than we do: it is
`validate_new_message` that holds a message of ours to its lists. Free text passes unchanged, lone surrogates included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from ..errors import InvalidInputError
from .base import FreeForm, Millis, Model, NullableText, NullAs, Text, no_dict, no_list, validate
from .session import ModelRef

Role = Literal["user", "assistant", "system", "tool"]
Status = Literal["pending", "streaming", "completed", "error"]
PartType = Literal["text", "tool_call", "tool_result", "thinking", "code"]

ROLES: frozenset[str] = frozenset(get_args(Role))
STATUSES: frozenset[str] = frozenset(get_args(Status))
PART_TYPES: frozenset[str] = frozenset(get_args(PartType))
_SPOKEN = ("text", "thinking", "code")
PROTECTED_MESSAGE = frozenset({"id", "sessionId", "createdAt", "rev"})


class ToolFunction(Model):
    """What a call calls: the tool's `name`, and its `arguments` as the JSON text that the model produced."""

    name: Text = ""
    arguments: NullableText = ""


class ToolCall(Model):
    """One call of a tool; its result carries the same id."""

    id: Text = ""
    type: Text = "function"
    function: ToolFunction = Field(default_factory=ToolFunction)


class ToolResult(Model):
    """What the call `tool_call_id` gave back."""

    tool_call_id: Text = ""
    content: NullableText = ""
    is_error: bool | None = None


class FileRef(Model):
    """A file or image of a message: its bytes are the attachment `sha256`, or lie at `url` (a data: URL when small).

    `size` is in bytes.
    """

    mime: Text | None = None
    name: Text | None = None
    size: int | None = None
    sha256: Text | None = None
    url: Text | None = None


class MessagePart(Model):
    """A piece of a message: text, tool_call, tool_result, thinking or code, or a type of another tool.

    `content` is a str for the first five; other tools' parts may hold anything there. `state`, `started_at` and
    `ended_at` (ms) are a call's progress.
    """

    type: Text = ""
    content: Any = None
    tool_call: ToolCall | None = None
    tool_result: ToolResult | None = None
    file: FileRef | None = None
    state: Any = None
    started_at: int | None = None
    ended_at: int | None = None


class Usage(Model):
    """Tokens that a message cost, and `cost` in US dollars."""

    input: Millis = 0
    output: Millis = 0
    reasoning: Millis = 0
    cache_read: Millis = 0
    cache_write: Millis = 0
    cost: float | None = None


class MessageErrorInfo(Model):
    """Why a message has status `error`; `name` is "aborted" for one that was cancelled."""

    name: Text = ""
    message: NullableText = ""


class Message(Model, defer_build=False):
    """One message of one session. Times are milliseconds since the epoch, 0 where a foreign file says none.

    Where there are `parts` they are canonical (see `canonical`). `origin_id` is the message that a fork copied this one
    from; `rev` the seq of the last change.
    """

    id: Text = ""
    session_id: Text = ""
    role: Text = ""
    content: NullableText = ""
    parts: Annotated[list[MessagePart], NullAs(list)] = Field(default_factory=no_list)
    created_at: Millis = 0
    updated_at: Millis = 0
    tool_calls: Annotated[list[ToolCall], NullAs(list)] = Field(default_factory=no_list)
    tool_call_id: Text | None = None
    status: NullableText = "completed"
    origin_id: Text | None = None
    model: ModelRef | None = None
    agent: Text | None = None
    usage: Usage | None = None
    error: MessageErrorInfo | None = None
    metadata: FreeForm = Field(default_factory=no_dict)
    rev: int = 0


def validate_new_message(data: Mapping[str, Any]) -> Message:
    """`data`, in either spelling, as a message to be stored; unknown fields kept. About 5 us without parts.

    Raises InvalidInputError naming the field: a missing or unknown role, an unknown status, a part without a type, a
    part of ours whose content is no text, a value of the wrong type.
    """
    if "role" not in data:
        raise InvalidInputError(field="role", value=None, reason=f"is required: one of {_listed(ROLES)}")
    message = validate(Message, data)
    check_message(message)
    return message


def check_message(message: Message) -> None:
    """Hold `message` to the roles, statuses and parts that we write. Raises InvalidInputError naming the field."""
    if message.role not in ROLES:
        raise InvalidInputError(field="role", value=message.role, reason=f"must be one of {_listed(ROLES)}")
    if message.status not in STATUSES:
        raise InvalidInputError(field="status", value=message.status, reason=f"must be one of {_listed(STATUSES)}")
    for part in message.parts:
        if not part.type:
            raise InvalidInputError(field="parts", value=part.__dict__, reason="each part needs a type")
        if part.type in PART_TYPES and not (part.content is None or isinstance(part.content, str)):
            raise InvalidInputError(field="parts", value=part.content, reason=f"content of a {part.type} part is text")
        if part.type in _SPOKEN and part.content is None and "text" in (part.model_extra or {}):
            reason = f"a {part.type} part has its text in `content`, not in `text`"
            raise InvalidInputError(field="parts", value=part.model_extra, reason=reason)
    for call in message.tool_calls:
        if not call.function.name and "name" in (call.model_extra or {}):
            reason = "a call has its name and arguments in `function`: {id, type, function: {name, arguments}}"
            raise InvalidInputError(field="toolCalls", value=call.model_extra, reason=reason)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def canonical(message: Message) -> Message:
    """`message` with `content` and `tool_calls` as its parts have them; the same object where nothing differs. Pure.

    `content` becomes the text parts joined, `tool_calls` the calls of the tool_call parts. Parts that hold none of a
    kind say nothing about it: NomadArch's tool messages have content beside a lone tool_result part.
    """
    if not message.parts:
        return message
    changes: dict[str, Any] = {}
    texts = [part.content for part in message.parts if part.type == "text" and isinstance(part.content, str)]
    if texts and (content := "".join(texts)) != message.content:
        changes["content"] = content
    calls = [part.tool_call for part in message.parts if part.type == "tool_call" and part.tool_call is not None]
    if calls and calls != message.tool_calls:
        changes["tool_calls"] = calls
    return message.model_copy(update=changes) if changes else message
