"""A session as something to read: what was said, thought and done, in order, each call with what it gave back.

Unlike the turns for a model (`turns.py`) nothing is left out: thinking, unfinished messages, results without a call and
parts of other tools are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nomad_sessions.formats.pairing import Waiting
from nomad_sessions.formats.values import mapping, objects, text
from nomad_sessions.storage.codec import decode_text

__all__ = ["Entry", "Item", "entries_of", "moment", "pretty"]


@dataclass
class Item:
    """A piece of an entry: `kind` is text, thinking, code, tool, file or other.

    For a tool `title` is its name, `content` its arguments as readable JSON and `result` what came back, None where
    nothing did; for a file `title` is its name, and `url` and `sha256` say where the bytes are; for anything else
    `title` says what it is.
    """

    kind: str
    content: str = ""
    title: str = ""
    result: str | None = None
    is_error: bool = False
    mime: str = ""
    url: str | None = None
    sha256: str | None = None


@dataclass
class Entry:
    """One message: who (`role`), when (ms), with which model, and what."""

    role: str
    time: int
    model: str = ""
    status: str = "completed"
    error: str = ""
    items: list[Item] = field(default_factory=list)


def entries_of(messages: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """The entries of a session, from its messages as JSON in their order. Results of tools are put to their calls, the
    next one of that id without a result; what has no call is an entry of its own. Pure."""
    entries: list[Entry] = []
    waiting = Waiting[Item]()
    for message in messages:
        entry = Entry(
            role=str(message.get("role") or ""),
            time=int(message.get("createdAt") or 0),
            # OpenCode notes with a prompt which model it was meant for.
            model=str(mapping(message.get("model")).get("modelId") or "") if message.get("role") == "assistant" else "",
            status=str(message.get("status") or "completed"),
            error=": ".join(
                each for key in ("name", "message") if (each := text(mapping(message.get("error")).get(key)))
            ),
        )
        if entry.role == "tool" and _answered(message, waiting):
            entry.items = [item for item in _items(message, waiting) if item.kind == "file"]
            if not entry.items:
                continue
        else:
            entry.items = list(_items(message, waiting))
        if entry.items or entry.error or entry.status != "completed":
            entries.append(entry)
    return entries


def pretty(arguments: str) -> str:
    """JSON text over several lines; any other text as it is."""
    try:
        value = decode_text(arguments)
    except ValueError:
        return arguments
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:  # Nested more deeply than that can say.
        return arguments


def moment(ms: int) -> str:
    """A time in UTC, to the second; "" for none."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if ms else ""
    except (ValueError, OverflowError, OSError):  # a foreign file's idea of a time
        return ""


def _answered(message: Mapping[str, Any], waiting: Waiting[Item]) -> bool:
    item = waiting.take(str(message.get("toolCallId") or ""))
    if item is None:
        return False
    told, failed = text(message.get("content")), message.get("status") == "error"
    for part in objects(message.get("parts")):
        result = mapping(part.get("toolResult"))
        told = told or text(result.get("content"))
        failed = failed or result.get("isError") is True
    item.result, item.is_error = told or "", failed
    return True


def _items(message: Mapping[str, Any], waiting: Waiting[Item]) -> Iterator[Item]:
    parts = objects(message.get("parts"))
    # Of parts of another tool perhaps only the message itself has the text.
    if text(message.get("content")) and not any(_item(part) for part in parts):
        yield Item("text", str(message["content"]))
    calls = [] if parts else objects(message.get("toolCalls"))
    for part in [*parts, *({"type": "tool_call", "toolCall": each} for each in calls)]:
        item = _item(part)
        if item is None:
            continue
        if item.kind == "tool" and item.result is None:
            waiting.add(str(mapping(part.get("toolCall")).get("id") or ""), item)
        yield item


def _item(part: Mapping[str, Any]) -> Item | None:
    kind, content = str(part.get("type") or ""), part.get("content")
    if isinstance(part.get("file"), dict):
        file = part["file"]
        name, mime = str(file.get("name") or ""), str(file.get("mime") or "")
        return Item("file", title=name, mime=mime, url=text(file.get("url")), sha256=text(file.get("sha256")))
    if isinstance(part.get("toolCall"), dict):
        function = mapping(part["toolCall"].get("function"))
        item = Item("tool", pretty(str(function.get("arguments") or "")), str(function.get("name") or "tool"))
        result = part.get("toolResult")
        if isinstance(result, dict):
            item.result, item.is_error = str(result.get("content") or ""), result.get("isError") is True
        return item
    if kind == "tool_result":
        return Item("other", str(mapping(part.get("toolResult")).get("content") or ""), "result of a tool")
    if isinstance(content, str) and kind in ("text", "thinking", "code"):
        return Item(kind, content) if content.strip() else None
    return Item("other", content, kind) if isinstance(content, str) and content.strip() else None
