"""Crush's database, `<project>/.crush/crush.db`.

A message is a message: its parts are text, reasoning, calls, results and files. Results become messages of role `tool`,
one each. Times are seconds, whatever the comments in the schema say. A sub-agent's session has the id
`<message>$$<call>`, and its parent's in `parent_session_id`.

Source: the program's own code, not run here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats import sqlite, verbatim
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer
from nomad_sessions.formats.values import as_text, blocks, milliseconds, text
from nomad_sessions.ids import derive_id

__all__ = ["IMPORTER"]

TOOL = "crush"
_TABLES = {
    "sessions": ("id", "title", "parent_session_id", "created_at", "updated_at"),
    "messages": ("id", "session_id", "role", "parts", "created_at", "updated_at"),
}
_KEPT = (("messages", "session_id", "created_at, rowid"), ("sessions", "id", "rowid"))
_ROLES = ("user", "assistant", "system", "tool")


def _locate(computer: Computer) -> list[Path]:
    return computer.nearest(".crush", "crush.db")


def _sniff(path: Path) -> bool:
    file = _database(path)
    return file.is_file() and sqlite.has_tables(file, _TABLES)


def _database(path: Path) -> Path:
    if not path.is_dir():
        return path
    return next((each for each in (path / "crush.db", path / ".crush" / "crush.db") if each.is_file()), path)


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    file = _database(path)
    query = (
        "SELECT s.*, count(m.id) AS items, max(m.updated_at) AS changed, sum(length(m.parts)) AS size FROM sessions s "
        "LEFT JOIN messages m ON m.session_id = s.id GROUP BY s.id ORDER BY s.created_at, s.rowid"
    )
    try:
        with sqlite.opened(file, _TABLES) as connection:
            found = [dict(row) for row in sqlite.rows(connection, report, str(file), query)]
    except sqlite3.Error as error:
        report.skip(str(file), f"the database cannot be read: {error}")
        return
    times = {str(row["id"]): milliseconds(row["created_at"]) or 0 for row in found}
    directory = str(file.resolve().parents[1]) if file.parent.name == ".crush" else None
    for row in found:
        name = str(row["id"])
        stamp = f"{row['updated_at']} {row['items']} {row['changed']} {row['size']}"
        parent = text(row.get("parent_session_id"))
        link = derive_id(times[parent], TOOL, parent) if parent in times else None
        read = partial(_read, file, row, link)
        place = f"{file} session {name}"
        kept = verbatim.of_rows(file, name, verbatim.select(*_KEPT, name=name))
        yield Found(derive_id(times[name], TOOL, name), directory, stamp, row["size"] or 0, place, read, kept)


def _read(path: Path, row: Mapping[str, Any], link: str | None, report: ImportReport) -> ParsedSession | None:
    report.sessions.read += 1
    name, created = str(row["id"]), milliseconds(row["created_at"]) or 0
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    query = "SELECT * FROM messages WHERE session_id = ? ORDER BY created_at, rowid"  # Times have a second's grain.
    try:
        with sqlite.opened(path, _TABLES) as connection:
            for item in sqlite.rows(connection, report, str(path), query, (name,)):
                for number, message in enumerate(_messages(dict(item), f"{path} message {item['id']}", report)):
                    time = milliseconds(item["created_at"]) or created
                    message["id"] = derive_id(time, TOOL, name, str(item["id"]), str(number))
                    message |= {"createdAt": time, "updatedAt": milliseconds(item["updated_at"]) or time}
                    messages.append(message | {"imported": {"tool": TOOL, "messageId": str(item["id"])}})
                    places.append(f"{path} message {item['id']}")
    except sqlite3.Error as error:
        report.sessions.skipped += 1
        report.skip(str(path), f"the database cannot be read: {error}")
        return None
    report.messages.read += len(messages)
    imported: dict[str, Any] = {"tool": TOOL, "sessionId": name, "path": str(path)}
    session: dict[str, Any] = {
        "id": derive_id(created, TOOL, name),
        "createdAt": created,
        "updatedAt": milliseconds(row["updated_at"]) or created,
    }
    if text(row.get("title")):
        session["title"] = row["title"]
    models = [each["model"] for each in messages if "model" in each]
    if models:
        session["model"] = models[-1]
    if link is not None:
        session["parentId"] = link
        imported |= {"relation": "subagent", "parentSourceId": row["parent_session_id"]}
    return ParsedSession({**session, "imported": imported}, messages, places, len(messages))


def _messages(row: Mapping[str, Any], place: str, report: ImportReport) -> Iterator[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    given = sqlite.json_of(row["parts"])
    if given is None:
        report.skip(place, "its parts are no JSON")
    pieces = blocks(given)
    if given is not None and all(piece.get("type") == "finish" for piece in pieces):
        report.ignore("a message that says nothing")
    for piece in pieces:
        kind, data = text(piece.get("type")) or "unknown", piece.get("data")
        if not isinstance(data, dict):
            parts.append({"type": kind, "crush": dict(piece)})
        elif kind == "tool_result" and "tool_call_id" in data:
            yield _result(data)
        elif kind != "finish":
            parts.append(_part(kind, data))
    if not parts:
        return
    role = str(row["role"])
    message: dict[str, Any] = {"role": role if role in _ROLES else "system", "parts": parts, "status": "completed"}
    if role == "assistant" and text(row.get("model")):
        message["model"] = {"providerId": text(row.get("provider")) or "", "modelId": row["model"]}
    if row.get("is_summary_message"):
        message["metadata"] = {"compaction": {"tailStart": None}}
    yield message


def _result(data: Mapping[str, Any]) -> dict[str, Any]:
    failed = "error" if data.get("is_error") is True else "completed"
    told: dict[str, Any] = {"role": "tool", "toolCallId": as_text(data.get("tool_call_id")), "status": failed}
    told |= {"toolName": as_text(data.get("name")), "content": as_text(data.get("content"))}
    mime, image = text(data.get("mime_type")), text(data.get("data"))
    if mime and image:
        file = {"type": "file", "file": {"mime": mime, "url": f"data:{mime};base64,{image}"}}
        told["parts"] = [{"type": "text", "content": told.pop("content")}, file]
    return told


def _part(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "text" and isinstance(data.get("text"), str):
        return {"type": "text", "content": data["text"]}
    if kind == "reasoning" and isinstance(data.get("thinking"), str):
        part = {"type": "thinking", "content": data["thinking"]}
        return {**part, "signature": data["signature"]} if text(data.get("signature")) else part
    if kind == "tool_call" and text(data.get("name")):
        function = {"name": data["name"], "arguments": as_text(data.get("input"))}
        return {"type": "tool_call", "toolCall": {"id": as_text(data.get("id")), "function": function}}
    if kind == "binary" and text(data.get("MIMEType")) and text(data.get("Data")):
        file = {"mime": data["MIMEType"], "url": f"data:{data['MIMEType']};base64,{data['Data']}"}
        return {"type": "file", "file": {**file, "name": as_text(data.get("Path"))}}
    return {"type": kind, "crush": dict(data)}


IMPORTER = Importer(
    name=TOOL,
    label="Crush",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="versions of files, and why an answer ended",
)
