"""The logs of the command `llm`, `logs.db`: both generations of its tables, which one file may have.

- *conversations* with *responses*: each response is a prompt and an answer, with calls and results of tools beside.
- *threads*: content-addressed messages, from the newest back by `parent_hash`, each with parts.

Source: the program's tables, as read from its code and from a run with a scripted model; columns that a version has not
are done without.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats import sqlite, verbatim
from nomad_sessions.formats.llm_rows import TOOLS, Numbers, numbers_of, queries_of, rows_of_conversation, rows_of_thread
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer
from nomad_sessions.formats.values import as_json, as_text, count, finite, mapping, milliseconds, text, title_from
from nomad_sessions.ids import derive_id

__all__ = ["IMPORTER"]

TOOL = "llm"
_RESPONSES = {"responses": ("id", "model", "prompt", "response", "conversation_id", "datetime_utc")}
_THREADS = {
    "threads": ("id", "tip_message_hash"),
    "messages": ("hash", "parent_hash", "role"),
    "parts": ("message_hash", "position", "type"),
}
_APP = "io.datasette.llm"
_ROLES = ("user", "assistant", "system", "tool")
_TIMES = ("created_at", "datetime_utc", "created")


def _locate(computer: Computer) -> list[Path]:
    if computer.env.get("LLM_USER_PATH"):
        return [computer.folder("LLM_USER_PATH") / "logs.db"]
    if computer.platform == "darwin":
        return [computer.home / "Library" / "Application Support" / _APP / "logs.db"]
    if computer.platform == "win32":
        return [computer.folder("APPDATA", "AppData", "Roaming") / _APP / "logs.db"]
    return [computer.folder("XDG_CONFIG_HOME", ".config") / _APP / "logs.db"]


def _sniff(path: Path) -> bool:
    file = _database(path)
    return file.is_file() and (sqlite.has_tables(file, _RESPONSES) or sqlite.has_tables(file, _THREADS))


def _database(path: Path) -> Path:
    return path / "logs.db" if path.is_dir() else path


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    file = _database(path)
    try:
        with sqlite.opened(file) as connection:
            found = [*_conversations(connection, file, report), *_threads(connection, file, report)]
    except sqlite3.Error as error:
        report.skip(str(file), f"the database cannot be read: {error}")
        return
    yield from found


def _conversations(connection: sqlite3.Connection, file: Path, report: ImportReport) -> Iterator[Found]:
    if not set(_RESPONSES["responses"]) <= sqlite.columns(connection, "responses"):
        return
    names = {}
    if "id" in sqlite.columns(connection, "conversations"):
        for row in sqlite.rows(connection, report, str(file), "SELECT * FROM conversations"):
            names[str(row["id"])] = text(dict(row).get("name"))
    query = (
        "SELECT conversation_id, count(*) AS items, min(datetime_utc) AS first, max(datetime_utc) AS last, "
        "sum(length(response)) AS size FROM responses GROUP BY conversation_id ORDER BY first"
    )
    numbers = numbers_of(connection)
    for row in sqlite.rows(connection, report, str(file), query):
        own = None if numbers is None else numbers.get(row["conversation_id"], {})
        name = str(row["conversation_id"])
        created = milliseconds(row["first"]) or 0
        head = {"name": name, "title": names.get(name), "created": created, "updated": milliseconds(row["last"])}
        stamp = f"{row['items']} {row['last']} {row['size']} {head['title']}"
        place = f"{file} conversation {name}"
        size = row["size"] if isinstance(row["size"], int) else 0
        read = partial(_read, file, head, place, partial(_of_conversation, own))
        kept = verbatim.of_rows(file, name, rows_of_conversation(row["conversation_id"], own))
        yield Found(derive_id(created, TOOL, name), None, stamp, size, place, read, kept)


def _threads(connection: sqlite3.Connection, file: Path, report: ImportReport) -> Iterator[Found]:
    if not all(set(wanted) <= sqlite.columns(connection, name) for name, wanted in _THREADS.items()):
        return
    for row in sqlite.rows(connection, report, str(file), "SELECT * FROM threads"):
        fields = dict(row)
        name = str(fields["id"])
        created = next((time for each in _TIMES if (time := milliseconds(fields.get(each)))), 0)
        head = {"name": name, "title": text(fields.get("name")), "created": created, "updated": None}
        head |= {"tip": text(fields["tip_message_hash"]), "forked": text(fields.get("forked_from"))}
        stamp = f"{head['tip']} {head['title']}"
        place = f"{file} thread {name}"
        read = partial(_read, file, head, place, _of_thread)
        kept = verbatim.of_rows(file, name, rows_of_thread(name, text(fields["tip_message_hash"])))
        yield Found(derive_id(created, TOOL, name), None, stamp, 0, place, read, kept)


def _read(
    path: Path, head: Mapping[str, Any], place: str, messages_of: Any, report: ImportReport
) -> ParsedSession | None:
    report.sessions.read += 1
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    seen: dict[str, int] = {}
    try:
        with sqlite.opened(path) as connection:
            for key, time, message in messages_of(connection, str(path), head, report):
                number = seen[key] = seen.get(key, -1) + 1
                message["id"] = derive_id(time, TOOL, head["name"], key, str(number))
                message |= {"createdAt": time, "updatedAt": time}
                message.setdefault("status", "completed")
                messages.append(message | {"imported": {"tool": TOOL, "messageId": key}})
                places.append(f"{path} message {key}")
    except sqlite3.Error as error:
        report.sessions.skipped += 1
        report.skip(place, f"the database cannot be read: {error}")
        return None
    report.messages.read += len(messages)
    imported: dict[str, Any] = {"tool": TOOL, "sessionId": head["name"], "path": str(path)}
    session: dict[str, Any] = {
        "id": derive_id(head["created"], TOOL, head["name"]),
        "createdAt": head["created"],
        "updatedAt": head["updated"] or head["created"],
    }
    prompts = (message["content"] for message in messages if message["role"] == "user" and message.get("content"))
    title = head["title"] or next(map(title_from, prompts), None)
    if title:
        session["title"] = title
    models = [message["model"] for message in messages if "model" in message]
    if models:
        session["model"] = models[-1]
    if head.get("forked"):
        imported |= {"relation": "fork", "parentSourceId": head["forked"]}
    return ParsedSession({**session, "imported": imported}, messages, places, len(messages))


def _of_conversation(
    numbers: Numbers | None, connection: sqlite3.Connection, place: str, head: Mapping[str, Any], report: ImportReport
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """The messages of a conversation: key, time (ms), message."""
    name = None if head["name"] == "None" else head["name"]

    def rows_of(table: str) -> Iterator[dict[str, Any]]:
        for query in queries_of(connection, table, name, numbers):
            yield from map(dict, sqlite.rows(connection, report, place, *query))

    beside: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for table in TOOLS:
        for each in rows_of(table):
            beside.setdefault((table, str(each["response_id"])), []).append(each)
    system = None
    for row in rows_of("responses"):
        key, time = str(row["id"]), milliseconds(row["datetime_utc"]) or head["created"]
        if text(row.get("system")) and row["system"] != system:
            system = row["system"]
            yield key, time, {"role": "system", "content": system}
        for result in beside.get(("tool_results", key), ()):
            yield key, time, _result(result)
        if text(row["prompt"]):
            yield key, time, {"role": "user", "content": row["prompt"]}
        answer: dict[str, Any] = {"role": "assistant", "content": text(row["response"]) or ""}
        calls = [_call(each) for each in beside.get(("tool_calls", key), ())]
        if calls:
            answer["toolCalls"] = calls
        if text(row["model"]):
            answer["model"] = {"providerId": "", "modelId": row["model"]}
        usage = {
            ours: row[theirs]
            for ours, theirs in (("input", "input_tokens"), ("output", "output_tokens"))
            if count(row.get(theirs)) is not None
        }
        if usage:
            answer["usage"] = usage
        if answer["content"] or calls:
            yield key, time, answer
        else:
            report.ignore("an answer that says nothing")


def _call(row: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": str(row.get("name") or ""), "arguments": str(row.get("arguments") or "{}")}
    return {"id": str(row.get("tool_call_id") or ""), "type": "function", "function": function}


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    told = {"role": "tool", "toolCallId": str(row.get("tool_call_id") or ""), "content": str(row.get("output") or "")}
    told["toolName"] = str(row.get("name") or "")
    return told | ({"status": "error"} if text(row.get("exception")) else {})


def _of_thread(
    connection: sqlite3.Connection, place: str, head: Mapping[str, Any], report: ImportReport
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    chain: list[dict[str, Any]] = []
    at: str | None = head["tip"]
    seen: set[str] = set()
    while at is not None and at not in seen:
        seen.add(at)
        rows = list(sqlite.rows(connection, report, place, "SELECT * FROM messages WHERE hash = ?", (at,)))
        if not rows:
            report.skip(f"{place} message {at}", "a message that is not there")
            break
        chain.append(dict(rows[0]))
        at = text(chain[-1]["parent_hash"])
    for row in reversed(chain):
        key = str(row["hash"])
        query = "SELECT * FROM parts WHERE message_hash = ? ORDER BY position"
        parts = [dict(each) for each in sqlite.rows(connection, report, place, query, (key,))]
        time = next((found for each in _TIMES if (found := milliseconds(row.get(each)))), head["created"])
        results = [each for each in parts if each["type"] == "tool_result"]
        for each in results:
            given = sqlite.json_of(each.get("payload"))
            payload = mapping(given)
            told = text(each.get("text")) or as_text(payload.get("output") if isinstance(given, dict) else given)
            name = text(each.get("tool_name")) or as_text(payload.get("name"))
            yield (
                key,
                time,
                {
                    "role": "tool",
                    "toolCallId": as_text(payload.get("tool_call_id") or payload.get("id")),
                    "toolName": name,
                    "content": told,
                },
            )
        rest = [_part(each) for each in parts if each["type"] != "tool_result"]
        if rest:
            yield key, time, {"role": row["role"] if row["role"] in _ROLES else "system", "parts": rest}


def _part(row: Mapping[str, Any]) -> dict[str, Any]:
    payload = sqlite.json_of(row.get("payload"))
    if row["type"] == "text":
        return {"type": "text", "content": str(row.get("text") or "")}
    if row["type"] == "reasoning":
        return {"type": "thinking", "content": str(row.get("text") or "")}
    if row["type"] == "tool_call" and (payload is None or isinstance(payload, dict)):
        given = mapping(payload)
        function = {"name": text(row.get("tool_name")) or as_text(given.get("name"))}
        function["arguments"] = as_json(given.get("arguments", {}))
        call = {"id": as_text(given.get("tool_call_id") or given.get("id")), "type": "function", "function": function}
        return {"type": "tool_call", "toolCall": call}
    return {"type": str(row["type"]), "llm": finite({"text": row.get("text"), "payload": payload})}


IMPORTER = Importer(
    name=TOOL,
    label="llm",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="attachments, fragments and options of a prompt",
)
