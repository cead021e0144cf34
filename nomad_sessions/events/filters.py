"""Which events somebody wants: one filter for subscribing, replaying and listing. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import Event

__all__ = ["EventFilter"]

_TOOL_PARTS = frozenset({"tool", "tool_call", "tool_result"})


@dataclass(frozen=True)
class EventFilter:
    """What an event has to be. None, and no type, is whatever it be.

    `types` are names, in which `*`, `?` and `[…]` match as in file names: one, or several. `recorded` tells what was
    recorded from the store's own changes; `has_tool` whether it is about a message with a tool's call or result.
    `since` and `until` are times in ms, the second exclusive.
    """

    types: str | Iterable[str] = ()
    session_id: str | None = None
    message_id: str | None = None
    recorded: bool | None = None
    has_tool: bool | None = None
    since: int | None = None
    until: int | None = None
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Raises `InvalidInputError` for a type that is no text."""
        types = (self.types,) if isinstance(self.types, str) else tuple(self.types)
        for each in types:
            if not each or type(each) is not str:
                raise InvalidInputError(field="types", value=each, reason="must be the name of a type, or a pattern")
        object.__setattr__(self, "types", types)
        if types:
            pattern = "|".join(fnmatch.translate(each) for each in types)
            object.__setattr__(self, "_pattern", re.compile(pattern))

    def matches(self, event: Event) -> bool:
        """Whether it is one of those wanted."""
        return (
            (self._pattern is None or self._pattern.match(event.type) is not None)
            and self.session_id in (None, event.session_id)
            and self.message_id in (None, event.message_id)
            and self.recorded in (None, event.recorded)
            and (self.since is None or event.timestamp >= self.since)
            and (self.until is None or event.timestamp < self.until)
            and (self.has_tool is None or self.has_tool == _has_tool(event.properties))
        )


def _has_tool(properties: Mapping[str, Any]) -> bool:
    """Ours say it in the message or what is set of it, OpenCode's in `part` or `info`."""
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
        or value.get("type") in _TOOL_PARTS
        or (
            isinstance(parts, list)
            and any(isinstance(part, dict) and part.get("type") in _TOOL_PARTS for part in parts)
        )
    )
