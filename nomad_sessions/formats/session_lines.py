"""Sessions and their messages, one a line, as `export --format jsonl` writes them, for import.

`{"session": Session}`, then its messages in order, each `{"message": Message}`; then the next session, if any: such
files may be joined. A message belongs to the session that it names, if the file has that, else to the one before it.

Invariant: every line is imported or reported. Verified by `tests/unit/test_session_lines.py`.
"""

from __future__ import annotations

from typing import Any

from nomad_sessions.formats import nomadarch
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.storage.codec import decode

__all__ = ["SessionLines", "parse", "read", "sniff"]


class SessionLines(list[tuple[int, Any]]):
    """The number of each line that is not empty, and its value: None of one that is no JSON."""


def read(data: bytes) -> SessionLines | None:
    """The lines of a file, if one of them is a session; None if it is something else."""
    lines = SessionLines()
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            lines.append((number, _decoded(line)))
    return lines if any(_record(value, "session") is not None for _, value in lines) else None


def sniff(value: Any) -> bool:
    """Whether a value is what `read` gives, or the only line of a file: a session that has no messages."""
    return isinstance(value, SessionLines) or _record(value, "session") is not None


def parse(value: Any, report: ImportReport) -> list[ParsedSession]:
    """All sessions of the file. Pure, except for `report`."""
    lines = value if isinstance(value, SessionLines) else [(1, value)]
    sessions: dict[str, dict[str, Any]] = {}
    messages: dict[str, dict[str, Any]] = {}
    for _, line in lines:
        if (record := _record(line, "session")) is not None:
            sessions.setdefault(record["id"], {**record, "messageIds": []})
    begun: set[str] = set()
    last = ""
    for number, line in lines:
        place = f"line {number}"
        if (record := _record(line, "session")) is not None:
            last = record["id"]
            if last in begun:
                report.sessions.read += 1
                report.sessions.skipped += 1
                report.skip(place, "its id occurs twice")
            begun.add(last)
        elif (record := _record(line, "message")) is not None:
            named = record.get("sessionId")
            owner = named if isinstance(named, str) and named in sessions else last
            if owner and record["id"] not in messages:
                messages[record["id"]] = {**record, "sessionId": owner}
                sessions[owner]["messageIds"].append(record["id"])
                continue
            report.messages.read += 1
            report.skip_message(place, "its id occurs twice" if owner else "no session stands before it")
        else:
            report.skip(place, "not JSON" if line is None else "neither a session nor a message with an id")
    return nomadarch.parse({"sessions": sessions, "messages": messages}, report)


def _decoded(line: bytes) -> Any:
    try:
        return decode(line)
    except ValueError:
        return None


def _record(value: Any, kind: str) -> dict[str, Any] | None:
    """The session or the message of a line, if it is one."""
    record = value.get(kind) if isinstance(value, dict) and len(value) == 1 else None
    return record if isinstance(record, dict) and isinstance(record.get("id"), str) and record["id"] else None
