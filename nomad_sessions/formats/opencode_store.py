"""What both forms of OpenCode's own store, files and a database, give: sessions that can be read one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nomad_sessions.formats.opencode_parts import integer
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import mapping, text, title_from

__all__ = ["Placed", "Raw", "Stored", "rebuilt_info"]

Placed = tuple[str, dict[str, Any]]


class Raw(NamedTuple):
    """A session as an export has it: its info, and its messages `{"info", "parts"}`, each with its place. `beside` is
    what OpenCode keeps apart from both: todos and diffs."""

    info: dict[str, Any]
    messages: list[Placed]
    beside: dict[str, Any]


class Stored(NamedTuple):
    """One session of a store, before it is read; the fields are those of `source.Found`."""

    id: str
    directory: str | None
    stamp: str
    size: int
    place: str
    read: Callable[[ImportReport], Raw]


def rebuilt_info(session_id: str, messages: Sequence[Placed]) -> dict[str, Any]:
    """The info of a session whose own record is lost, as far as its messages tell. Pure."""
    infos = [item["info"] for _, item in messages]
    times = [time for each in infos for time in mapping(each.get("time")).values() if integer(time)] or [0]
    info: dict[str, Any] = {"id": session_id, "time": {"created": min(times), "updated": max(times)}}
    folders = (text(mapping(each.get("path")).get("cwd")) for each in infos)
    directory = next(filter(None, folders), None)
    if directory is not None:
        info["directory"] = directory
    prompts = (
        part["text"]
        for _, item in messages
        if item["info"].get("role") == "user"
        for part in item["parts"]
        if part.get("type") == "text" and text(part.get("text"))
    )
    prompt = next(prompts, None)
    return info if prompt is None else {**info, "title": title_from(prompt)}
