"""Which events somebody wants: one filter for subscribing, replaying and listing. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import Event
from nomad_sessions.operations.plain import text_of

__all__ = ["EventFilter", "concerns_task", "has_tool"]

_TEXT, _CHOICE, _TIME = (str, "must be a str"), (bool, "must be True, False or None"), (int, "must be a time in ms")
_FIELDS = (
    ("session_id", *_TEXT),
    ("message_id", *_TEXT),
    ("recorded", *_CHOICE),
    ("has_tool", *_CHOICE),
    ("is_agent_task", *_CHOICE),
    ("after", *_TIME),
    ("before", *_TIME),
)
_TOOL_PARTS = frozenset({"tool", "tool_call", "tool_result"})


@dataclass(frozen=True)
class EventFilter:
    """What an event has to be. None, and no type, is whatever it be.

    `types` are names, in which `*`, `?` and `[…]` match as in file names: one, or several. `recorded` tells what was
    recorded from the store's own changes; `has_tool` whether it is about a message with a tool's call or result,
    `is_agent_task` whether it is about an agent's task, or a session that has one. `after` and `before` are times in
    ms, the second exclusive.
    """

    types: str | Iterable[str] = ()
    session_id: str | None = None
    message_id: str | None = None
    recorded: bool | None = None
    has_tool: bool | None = None
    is_agent_task: bool | None = None
    after: int | None = None
    before: int | None = None
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Raises `InvalidInputError` for what is not of its type."""
        for name, kind, reason in _FIELDS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                raise InvalidInputError(field=name, value=value, reason=reason)
            if isinstance(value, str):
                object.__setattr__(self, name, text_of(value))  # As ids are kept, however a caller spells them.
        if not isinstance(self.types, Iterable):
            raise InvalidInputError(field="types", value=self.types, reason="must be the name of a type, or several")
        types = (self.types,) if isinstance(self.types, str) else tuple(self.types)
        for each in types:
            if not each or type(each) is not str:
                raise InvalidInputError(field="types", value=each, reason="must be the name of a type, or a pattern")
        object.__setattr__(self, "types", types)
        if types:
            pattern = "|".join(fnmatch.translate(each) for each in types)
            object.__setattr__(self, "_pattern", re.compile(pattern))

    def names(self, kind: str) -> bool:
        """Whether events of this type are among those wanted."""
        return self._pattern is None or self._pattern.match(kind) is not None

    def matches(self, event: Event, is_of_task: Callable[[Event], bool]) -> bool:
        """Whether it is one of those wanted. `is_of_task` says whether an event's session is worked on as a task."""
        return (
            self.names(event.type)
            and self.session_id in (None, event.session_id)
            and self.message_id in (None, event.message_id)
            and self.recorded in (None, event.recorded)
            and (self.after is None or event.timestamp >= self.after)
            and (self.before is None or event.timestamp < self.before)
            and (self.has_tool is None or self.has_tool == has_tool(event))
            and (self.is_agent_task is None or self.is_agent_task == (concerns_task(event) or is_of_task(event)))
        )


def concerns_task(event: Event) -> bool:
    """Whether an event says itself that it is about an agent's task."""
    return event.type.startswith("task.") or event.properties.get("isAgentTask") is True


def has_tool(event: Event) -> bool:
    """Whether an event is about a tool's call or result. Ours say it in the message or what is set of it, OpenCode's in
    `part` or `info`, those that somebody recorded in `tool` or `hasTool`."""
    properties = event.properties
    if properties.get("hasTool") is True or isinstance(properties.get("tool"), str):
        return True
    for name in ("info", "set", "part", "new"):
        value = properties.get(name)
        if isinstance(value, dict) and _is_of_tool(value):
            return True
    return False


def _is_of_tool(value: Mapping[str, Any]) -> bool:
    parts = value.get("parts")
    return (
        bool(value.get("toolCalls"))
        or value.get("role") == "tool"
        or _names_tool(value)
        or (isinstance(parts, list) and any(isinstance(part, dict) and _names_tool(part) for part in parts))
    )


def _names_tool(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")  # What somebody recorded may be anything.
    return isinstance(kind, str) and kind in _TOOL_PARTS
