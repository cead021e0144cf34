"""Goose's database, `sessions.db`.

A message's content is a list: text, thinking and images are parts, requests of tools calls, and each response becomes a
message of role `tool`. Times are seconds.

Source: the program's own code, as far as it was at hand; not run here.
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
from nomad_sessions.formats.values import (
    as_json,
    as_text,
    blocks,
    content_of,
    finite,
    mapping,
    milliseconds,
    text,
    title_from,
)
from nomad_sessions.ids import derive_id

__all__ = ["IMPORTER"]

TOOL = "goose"
_TABLES = {
    "sessions": ("id", "description", "working_dir", "created_at", "updated_at"),
    "messages": ("id", "session_id", "role", "content_json", "created_timestamp"),
}

_KEPT = (("messages", "session_id", "id"), ("sessions", "id", "rowid"))


def _locate(computer: Computer) -> list[Path]:
    return [computer.data_home() / "goose" / "sessions" / "sessions.db"]


def _sniff(path: Path) -> bool:
    return _database(path).is_file() and sqlite.has_tables(_database(path), _TABLES)


def _database(path: Path) -> Path:
    places = (path / "sessions.db", path / "sessions" / "sessions.db")
    return next((each for each in places if each.is_file()), path)


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    file = _database(path)
    query = (
        "SELECT s.*, count(m.id) AS items, max(m.id) AS last, sum(length(m.content_json)) AS size FROM sessions s "
        "LEFT JOIN messages m ON m.session_id = s.id GROUP BY s.id ORDER BY s.created_at, s.id"
    )
    try:
        with sqlite.opened(file, _TABLES) as connection:
            found = [dict(row) for row in sqlite.rows(connection, report, str(file), query)]
    except sqlite3.Error as error:
        report.skip(str(file), f"the database cannot be read: {error}")
        return
    for row in found:
        name, created = str(row["id"]), milliseconds(row["created_at"]) or 0
        stamp = f"{row['updated_at']} {row['items']} {row['last']} {row['size']}"
        place = f"{file} session {name}"
        read = partial(_read, file, row)
        size = row["size"] if isinstance(row["size"], int) else 0
        kept = verbatim.of_rows(file, name, verbatim.select(*_KEPT, name=name))
        yield Found(derive_id(created, TOOL, name), text(row["working_dir"]), stamp, size, place, read, kept)


def _read(path: Path, row: Mapping[str, Any], report: ImportReport) -> ParsedSession | None:
    report.sessions.read += 1
    name, created = str(row["id"]), milliseconds(row["created_at"]) or 0
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    names: dict[str, str] = {}
    try:
        with sqlite.opened(path, _TABLES) as connection:
            query = "SELECT * FROM messages WHERE session_id = ? ORDER BY id"
            for item in sqlite.rows(connection, report, str(path), query, (name,)):
                place = f"{path} message {item['id']}"
                time = milliseconds(item["created_timestamp"]) or created
                for number, message in enumerate(_messages(dict(item), names, place, report)):
                    message["id"] = derive_id(time, TOOL, name, str(item["id"]), str(number))
                    message |= {"createdAt": time, "updatedAt": time}
                    messages.append(message | {"imported": {"tool": TOOL, "messageId": str(item["id"])}})
                    places.append(place)
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
        "directory": text(row["working_dir"]) or "",
    }
    title = text(row.get("name")) or text(row["description"]) or _prompt(messages)
    if title:
        session["title"] = title
    model = text(mapping(sqlite.json_of(row.get("model_config_json"))).get("model_name"))
    if model:
        session["model"] = {"providerId": text(row.get("provider_name")) or "", "modelId": model}
    kind = text(row.get("session_type"))
    if kind not in (None, "user"):
        session["goose"] = {"sessionType": kind}
    if kind == "sub_agent":
        imported["relation"] = "subagent"
    return ParsedSession({**session, "imported": imported}, messages, places, len(messages))


def _messages(
    row: Mapping[str, Any], names: dict[str, str], place: str, report: ImportReport
) -> Iterator[dict[str, Any]]:
    given = sqlite.json_of(row["content_json"])
    if given is None:
        report.skip(place, "its content is no JSON")
    elif not blocks(given):
        report.ignore("a message that says nothing")
    parts: list[dict[str, Any]] = []
    for block in blocks(given):
        if block.get("type") == "toolResponse":
            yield _result(block, names)
        else:
            parts.append(_part(block, names))
    if not parts:
        return
    role = row["role"] if row["role"] in ("user", "assistant", "system") else "system"
    message: dict[str, Any] = {"role": role, "parts": parts, "status": "completed"}
    shown = mapping(sqlite.json_of(row.get("metadata_json")))
    hidden = {name: shown[name] for name in ("userVisible", "agentVisible") if shown.get(name) is False}
    yield {**message, "goose": hidden} if hidden else message


def _part(block: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    kind = text(block.get("type")) or "unknown"
    if kind == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        part = {"type": "thinking", "content": block["thinking"]}
        return {**part, "signature": block["signature"]} if text(block.get("signature")) else part
    call = mapping(mapping(block.get("toolCall")).get("value"))
    if kind == "toolRequest" and text(call.get("name")):
        names[as_text(block.get("id"))] = call["name"]
        function = {"name": call["name"], "arguments": as_json(call.get("arguments") or {})}
        made = {"id": as_text(block.get("id")), "type": "function", "function": function}
        return {"type": "tool_call", "toolCall": made}
    mime, data = text(block.get("mimeType")), text(block.get("data"))
    if kind == "image" and mime and data:
        return {"type": "file", "file": {"mime": mime, "url": f"data:{mime};base64,{data}"}}
    return {"type": kind, "goose": finite(dict(block))}


def _result(block: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    outcome = block.get("toolResult")
    value = content_of(outcome, "value" if "value" in mapping(outcome) else "error")
    parts = [_part(each, {}) for each in blocks(content_of(value))]
    failed = mapping(outcome).get("status") == "error" or mapping(value).get("isError") is True
    identifier = as_text(block.get("id"))
    message: dict[str, Any] = {"role": "tool", "toolCallId": identifier}
    if all(part["type"] == "text" and "content" in part for part in parts):
        message["content"] = "\n".join(part["content"] for part in parts)
    else:
        message["parts"] = parts
    if identifier in names:
        message["toolName"] = names[identifier]
    return {**message, "status": "error" if failed else "completed"}


def _prompt(messages: list[dict[str, Any]]) -> str | None:
    said = (
        part["content"]
        for message in messages
        if message["role"] == "user"
        for part in message.get("parts", ())
        if part["type"] == "text" and part.get("content", "").strip()
    )
    first = next(said, None)
    return None if first is None else title_from(first)


IMPORTER = Importer(
    name=TOOL,
    label="Goose",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="the line files of versions before 1.10, and where macOS and Windows keep the database: name it",
)
