"""Values out of foreign records, which may be anything: read as what they should be, or not at all. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nomad_sessions.storage.codec import encode

__all__ = [
    "as_json",
    "as_text",
    "blocks",
    "content_of",
    "count",
    "finite",
    "mapping",
    "milliseconds",
    "objects",
    "text",
    "title_from",
]

_TITLE = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000  # ms


def text(value: Any) -> str | None:
    """The value where it is text that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a list; nothing where it is none."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def blocks(content: Any) -> list[Mapping[str, Any]]:
    """The blocks of a message's content, whatever its shape, none left out: objects as they are, text as a block of
    text, anything else (but null for all of it) as a block of type `unknown` that has it as `value`."""
    given = content if isinstance(content, list) else [] if content is None else [content]
    return [each if isinstance(each, dict) else _block(each) for each in given]


def content_of(value: Any, key: str = "content") -> Any:
    """What an object has as its content; the value itself where it is none that has any."""
    return value[key] if isinstance(value, dict) and key in value else value


def _block(value: Any) -> Mapping[str, Any]:
    return {"type": "text", "text": value} if isinstance(value, str) else {"type": "unknown", "value": value}


def count(value: Any) -> int | None:
    """A number of tokens, or None."""
    return value if type(value) is int and value >= 0 else None


def milliseconds(value: Any) -> int | None:
    """A time as ISO 8601 text, or as a number of seconds or milliseconds, in ms since the epoch; else None."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since = moment - _EPOCH
        micro = since.microseconds
        part = round(micro / 1000) if micro % 1000 else micro // 1000
        ms = since.days * _DAY + since.seconds * 1000 + part
        return ms if ms > 0 else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e14:
        return None
    return int(value) if value >= 1e11 else round(value * 1000)


def as_json(value: Any) -> str:
    """A value as JSON text, as the arguments of a call are kept."""
    try:
        return encode(value).decode("utf-8")
    except ValueError:
        return encode(finite(value)).decode("utf-8")


def as_text(value: Any) -> str:
    """Text as it stands, nothing ("") for what is empty, anything else as JSON: a name or an id may be anything, nested
    deeper than Python can print."""
    return value if isinstance(value, str) else as_json(value) if value else ""


def finite(value: Any) -> Any:
    """A copy of the value as JSON has it: a number that no float holds was read as infinity, and becomes text."""
    made = [value]
    open_: list[Any] = [made]  # a stack of our own: foreign records may be nested deeper than Python calls
    while open_:
        holder = open_.pop()
        for key, each in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(each, dict | list):
                holder[key] = each.copy()
                open_.append(holder[key])
            elif isinstance(each, float) and not math.isfinite(each):
                holder[key] = str(each)
    return made[0]


def title_from(prompt: str) -> str:
    """A title made of a prompt: its first line that says something, at most 80 characters."""
    line = next((each.strip() for each in prompt.splitlines() if each.strip()), "")
    return line if len(line) <= _TITLE else line[: _TITLE - 1].rstrip() + "…"
