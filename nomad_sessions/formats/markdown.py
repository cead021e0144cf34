"""A session as Markdown: to read, to attach to a pull request, to share.

Thinking and tools are folded (`<details>`), as GitHub shows it. What was said is Markdown already and stays as it is;
everything else is fenced with more backticks than it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from nomad_sessions.formats.transcript import Entry, Item, entries_of, moment

__all__ = ["to_markdown"]

_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
_SHORT = 60


def to_markdown(session: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> str:
    """The whole session, from mappings in the store's JSON shape. Images are named, their bytes not included. Pure."""
    lines = [f"# {_one_line(str(session.get('title') or 'Untitled'))}", ""]
    lines += [f"- {name}: {value}" for name, value in _facts(session) if value]
    for entry in entries_of(messages):
        lines += ["", *_entry(entry)]
    return "\n".join(lines) + "\n"


def _facts(session: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "session", f"`{session.get('id')}`"
    yield "created", moment(int(session.get("createdAt") or 0))
    yield "updated", moment(int(session.get("updatedAt") or 0))
    if session.get("directory"):
        yield "folder", f"`{_one_line(str(session['directory']))}`"
    imported = session.get("imported")
    if isinstance(imported, dict) and (imported.get("tool") or imported.get("format")):
        yield "imported from", str(imported.get("tool") or imported.get("format"))


def _entry(entry: Entry) -> Iterator[str]:
    heading = _SPEAKERS.get(entry.role, _one_line(entry.role))
    about = " · ".join(each for each in (entry.model, moment(entry.time)) if each)
    yield f"## {heading}"
    if about:
        yield ""
        yield f"*{_one_line(about)}*"
    for item in entry.items:
        yield ""
        yield from _item(item)
    if entry.error or entry.status != "completed":
        yield ""
        yield f"> **{entry.status}** {_one_line(entry.error)}".rstrip()


def _item(item: Item) -> Iterator[str]:
    if item.kind == "text":
        yield item.content
    elif item.kind == "code":
        yield from _fenced(item.content)
    elif item.kind == "file":
        name = " ".join(each for each in (item.mime, item.title) if each) or "file"
        yield f"📎 `{_one_line(name)}`"
    elif item.kind == "tool":
        yield from _folded(f"🔧 {_shown(item)}", _tool(item))
    else:
        title = "💭 Thinking" if item.kind == "thinking" else item.title
        yield from _folded(title, _fenced(item.content) if item.kind != "thinking" else iter([item.content]))


def _shown(item: Item) -> str:
    first = " ".join(item.content.split())
    first = first if len(first) <= _SHORT else first[: _SHORT - 1] + "…"
    return f"{item.title} {first}{' — failed' if item.is_error else ''}"


def _tool(item: Item) -> Iterator[str]:
    yield from _fenced(item.content, "json")
    yield ""
    if item.result is None:
        yield "*no result recorded*"
    else:
        yield "Failed:" if item.is_error else "Result:"
        yield ""
        yield from _fenced(item.result)


def _folded(title: str, inside: Iterator[str]) -> Iterator[str]:
    yield f"<details><summary>{escape(_one_line(title))}</summary>"
    yield ""
    yield from inside
    yield ""
    yield "</details>"


def _fenced(content: str, language: str = "") -> Iterator[str]:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", content)), 3)
    yield fence + language
    yield content
    yield fence


def _one_line(content: str) -> str:
    return " ".join(content.split())
