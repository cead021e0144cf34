"""The OpenAI Agents SDK's `SQLiteSession`: any database with `agent_sessions` and `agent_messages`.

Each row is one item of the Responses interface. The items of an answer that follow each other (reasoning, text, calls)
become one message, each output of a call one of role `tool`. Branches of the advanced session are read as one history,
in the order in which they were written.

Source: the SDK's own code; the sample was written by it.
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
from nomad_sessions.formats.values import as_json, as_text, blocks, milliseconds, objects, text, title_from
from nomad_sessions.ids import derive_id

__all__ = ["IMPORTER"]

TOOL = "openai-agents"
_TABLES = {
    "agent_sessions": ("session_id", "created_at", "updated_at"),
    "agent_messages": ("id", "session_id", "message_data", "created_at"),
}
_KEPT = (("agent_messages", "session_id", "id"), ("agent_sessions", "session_id", "rowid"))
_ENDINGS = (".db", ".sqlite", ".sqlite3")
_ROLES = {"user": "user", "assistant": "assistant", "tool": "tool"}


def _locate(computer: Computer) -> list[Path]:
    return []


def _sniff(path: Path) -> bool:
    return next(_databases(path), None) is not None


def _databases(path: Path) -> Iterator[Path]:
    """The databases of sessions in a folder, or this one."""
    files = sorted(each for each in path.iterdir() if each.suffix in _ENDINGS) if path.is_dir() else [path]
    return (each for each in files if each.is_file() and sqlite.has_tables(each, _TABLES))


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    for database in _databases(path) if path.is_dir() else [path]:
        yield from _sessions_of(database, report)


def _sessions_of(path: Path, report: ImportReport) -> Iterator[Found]:
    query = (
        "SELECT s.session_id AS name, s.created_at AS created, s.updated_at AS updated, count(m.id) AS items, "
        "max(m.id) AS last, sum(length(m.message_data)) AS size FROM agent_sessions s "
        "LEFT JOIN agent_messages m ON m.session_id = s.session_id GROUP BY s.session_id ORDER BY s.created_at, name"
    )
    try:
        with sqlite.opened(path, _TABLES) as connection:
            found = list(sqlite.rows(connection, report, str(path), query))
    except sqlite3.Error as error:
        report.skip(str(path), f"the database cannot be read: {error}")
        return
    for row in found:
        created = milliseconds(row["created"]) or 0
        stamp = f"{row['updated']} {row['items']} {row['last']} {row['size']}"
        identifier = derive_id(created, TOOL, str(row["name"]))
        read = partial(_read, path, str(row["name"]), created, milliseconds(row["updated"]) or created)
        kept = verbatim.of_rows(path, str(row["name"]), verbatim.select(*_KEPT, name=str(row["name"])))
        yield Found(identifier, None, stamp, row["size"] or 0, f"{path} session {row['name']}", read, kept)


def _read(path: Path, name: str, created: int, updated: int, report: ImportReport) -> ParsedSession | None:
    report.sessions.read += 1
    query = "SELECT id, message_data AS item, created_at AS time FROM agent_messages WHERE session_id = ? ORDER BY id"
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    try:
        with sqlite.opened(path, _TABLES) as connection:
            for row in sqlite.rows(connection, report, str(path), query, (name,)):
                _take(row, name, created, f"{path} agent_messages {row['id']}", messages, places, report)
    except sqlite3.Error as error:
        report.sessions.skipped += 1
        report.skip(str(path), f"the database cannot be read: {error}")
        return None
    report.messages.read += len(messages)
    session: dict[str, Any] = {
        "id": derive_id(created, TOOL, name),
        "createdAt": created,
        "updatedAt": updated,
        "imported": {"tool": TOOL, "sessionId": name, "path": str(path)},
    }
    said = next((_text_of(each) for each in messages if each["role"] == "user" and _text_of(each)), "")
    if said:
        session["title"] = title_from(said)
    return ParsedSession(session, messages, places, len(messages))


def _take(
    row: sqlite3.Row,
    name: str,
    created: int,
    place: str,
    messages: list[dict[str, Any]],
    places: list[str],
    report: ImportReport,
) -> None:
    """Takes one item: a message, or a part of the answer before it."""
    item = sqlite.json_of(row["item"])
    if not isinstance(item, dict):
        report.skip(place, "not a JSON object")
        return
    message = _message(item)
    if message is None:
        report.ignore(f"an item of type {text(item.get('type'))}")
        return
    if message["role"] == "assistant" and messages and messages[-1]["role"] == "assistant":
        messages[-1]["parts"] += message["parts"]
        return
    time = milliseconds(row["time"]) or created
    message["id"] = derive_id(created, TOOL, name, str(row["id"]))
    message |= {"createdAt": time, "updatedAt": time, "imported": {"tool": TOOL, "messageId": str(row["id"])}}
    messages.append(message)
    places.append(place)


def _message(item: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = item.get("type")
    if kind == "function_call":
        function = {"name": as_text(item.get("name")), "arguments": as_text(item.get("arguments"))}
        call = {"id": as_text(item.get("call_id")), "type": "function", "function": function}
        return {"role": "assistant", "parts": [{"type": "tool_call", "toolCall": call}], "status": "completed"}
    if kind == "function_call_output":
        output = item.get("output")
        told = output if isinstance(output, str) else as_json(output)
        return {"role": "tool", "toolCallId": as_text(item.get("call_id")), "content": told, "status": "completed"}
    if kind == "reasoning":
        parts = _parts(item.get("summary"))
        return {"role": "assistant", "parts": [_thought(part) for part in parts]}
    if "role" not in item:
        return None
    role = _ROLES.get(as_text(item["role"]), "system")
    content = item.get("content")
    if role == "assistant":
        return {"role": role, "parts": _parts(content), "status": "completed"}
    return {"role": role, "content": content} if isinstance(content, str) else {"role": role, "parts": _parts(content)}


def _parts(content: Any) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for block in blocks(content):
        url = block.get("image_url")
        if isinstance(block.get("text"), str):
            parts.append({"type": "text", "content": block["text"]})
        elif text(url):
            mime = str(url).removeprefix("data:").partition(";")[0] if str(url).startswith("data:") else "image/*"
            parts.append({"type": "file", "file": {"mime": mime, "url": url}})
        else:
            parts.append({"type": text(block.get("type")) or "unknown", "openai": dict(block)})
    return parts


def _thought(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "type": "thinking"} if part["type"] == "text" and "content" in part else part


def _text_of(message: Mapping[str, Any]) -> str:
    parts = objects(message.get("parts"))
    return as_text(message.get("content")) or "".join(as_text(part.get("content")) for part in parts)


IMPORTER = Importer(
    name=TOOL,
    label="OpenAI Agents SDK",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="which branch of an advanced session an item belongs to",
)
