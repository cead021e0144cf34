"""What an OpenCode share gives: a flat array of records, `{"type": "session" | "message" | "part" | ..., "data"}`.

The records are put together to what an export holds. Those of other types (diffs, the model) are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nomad_sessions.formats.opencode import parse_session
from nomad_sessions.formats.report import ImportReport, ParsedSession

__all__ = ["parse", "sniff"]


def sniff(value: Any) -> bool:
    """Whether a JSON value has the shape of a share."""
    if not isinstance(value, list) or not value:
        return False
    shaped = all(isinstance(each, dict) and isinstance(each.get("type"), str) and "data" in each for each in value)
    return shaped and any(each["type"] == "session" for each in value)


def parse(value: Sequence[dict[str, Any]], report: ImportReport) -> list[ParsedSession]:
    """The sessions of a share, by their records' own ids. Pure, but that `report` is told of what cannot be kept."""
    infos: list[tuple[str, dict[str, Any]]] = []
    messages: dict[Any, list[tuple[str, dict[str, Any]]]] = {}
    parts: dict[Any, list[tuple[str, dict[str, Any]]]] = {}
    for index, record in enumerate(value):
        kind, data, place = record["type"], record["data"], f"[{index}]"
        if kind not in ("session", "message", "part"):
            report.ignore(kind)
        elif not isinstance(data, dict):
            report.skip(place, "the record is not an object")
        elif kind == "session":
            infos.append((place, data))
        elif kind == "message":
            messages.setdefault(_key(data.get("sessionID")), []).append((place, data))
        else:
            parts.setdefault(_key(data.get("messageID")), []).append((place, data))
    found = []
    for _, info in infos:
        placed = [
            (place, {"info": message, "parts": [part for _, part in parts.pop(_key(message.get("id")), ())]})
            for place, message in messages.pop(_key(info.get("id")), ())
        ]
        parsed = parse_session(info, placed, report)
        found += [] if parsed is None else [parsed]
    for place, _ in (each for left in messages.values() for each in left):
        report.messages.read += 1
        report.skip_message(place, "a message of a session that is not there")
    for place, _ in (each for left in parts.values() for each in left):
        report.skip(place, "a part of a message that is not there")
    return found


def _key(name: Any) -> str | None:
    return name if isinstance(name, str) else None
