"""OpenCode's database, `opencode.db` since 1.2: rows of sessions, messages and parts, the last two as JSON.

Columns came with the versions, so what a database has is looked up. A row that cannot be read is in the report, and so
is what depends on it; of a damaged file, the rows before and behind the damage are read. A running OpenCode is not
disturbed, and what is in its write-ahead log is read as well.

Source: the schemas of 1.2.27 and 1.18.34.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats import sqlite
from nomad_sessions.formats.opencode_store import Placed, Raw, Stored, rebuilt_info
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import milliseconds, text

__all__ = ["is_database", "sessions"]

_TABLES = {
    "session": ("id", "directory", "title", "time_created", "time_updated"),
    "message": ("id", "session_id", "time_created", "time_updated", "data"),
    "part": ("id", "message_id", "session_id", "time_updated", "data"),
}
_PLAIN = (
    ("id", "id"),
    ("slug", "slug"),
    ("projectID", "project_id"),
    ("workspaceID", "workspace_id"),
    ("directory", "directory"),
    ("path", "path"),
    ("parentID", "parent_id"),
    ("title", "title"),
    ("agent", "agent"),
    ("version", "version"),
)
_JSON = ("model", "metadata", "permission", "revert")
_TIMES = ("created", "updated", "compacting", "archived")
_NONE = (0, 0)


def is_database(path: Path) -> bool:
    """Whether a file is such a database. Never raises."""
    return path.is_file() and sqlite.has_tables(path, _TABLES)


def sessions(path: Path, report: ImportReport) -> Iterator[Stored]:
    """The sessions of a database, oldest first, then those of which only messages are left; reads no conversation."""
    try:
        with sqlite.opened(path) as connection:
            yield from _listed(connection, path, report)
    except (OSError, sqlite3.Error) as error:
        report.skip(str(path), f"the database cannot be read: {error}")


def _listed(connection: sqlite3.Connection, path: Path, report: ImportReport) -> list[Stored]:
    place = str(path)
    rows = {str(row["id"]): dict(row) for row in sqlite.salvaged(connection, report, place, "session")}
    messages, parts = (_counts(connection, report, place, table) for table in ("message", "part"))
    if sqlite.columns(connection, "session_message"):
        for row in sqlite.rows(connection, report, place, "SELECT DISTINCT session_id FROM session_message"):
            report.skip(f"{path} session {row[0]}", "messages in the tables of OpenCode's next generation")
    share = path.stat().st_size // max(1, sum(count for count, _ in parts.values()))
    found = []
    for name in sorted({*rows, *messages, *parts}, key=lambda each: (_created(rows.get(each)), each)):
        info = rows.get(name)
        ours = [info.get("time_updated"), info.get("title")] if info is not None else []
        stamp = " ".join(map(str, [*ours, *messages.get(name, _NONE), *parts.get(name, _NONE)]))
        directory = text(info.get("directory")) if info is not None else None
        size = parts.get(name, _NONE)[0] * share
        found.append(Stored(name, directory, stamp, size, f"{path} session {name}", partial(_read, path, name, info)))
    return found


def _counts(connection: sqlite3.Connection, report: ImportReport, place: str, table: str) -> dict[str, tuple[int, int]]:
    """How many rows each session has, and when the last of them changed."""
    try:
        query = f"SELECT session_id, count(*), max(time_updated) FROM {table} GROUP BY session_id"
        return {str(name): (count, changed) for name, count, changed in connection.execute(query)}
    except sqlite3.Error:
        found: dict[str, tuple[int, int]] = {}
        for row in sqlite.salvaged(connection, report, place, table):
            if not isinstance(row["session_id"], str):
                continue  # A record that is damaged itself.
            count, changed = found.get(str(row["session_id"]), _NONE)
            found[str(row["session_id"])] = (count + 1, max(changed, milliseconds(row["time_updated"]) or 0))
        return found


def _created(row: Mapping[str, Any] | None) -> int:
    created = row.get("time_created") if row is not None else None
    return created if isinstance(created, int) else 2**53


def _read(path: Path, session_id: str, row: Mapping[str, Any] | None, report: ImportReport) -> Raw:
    try:
        with sqlite.opened(path) as connection:
            connection.execute("BEGIN")  # One state of the database for all queries, while OpenCode goes on writing.
            messages = list(_messages(connection, path, session_id, report))
            todos = list(_todos(connection, path, session_id, report))
    except sqlite3.Error as error:
        report.skip(f"{path} session {session_id}", f"the database cannot be read: {error}")
        messages, todos = [], []
    beside: dict[str, Any] = {"todos": todos} if todos else {}
    place = f"{path} session {session_id}"
    if row is None:
        report.warn(place, "the session's own row is lost, it is rebuilt from its messages")
        return Raw(rebuilt_info(session_id, messages), messages, beside)
    return Raw(_info(row, place, report), messages, beside)


def _messages(connection: sqlite3.Connection, path: Path, session_id: str, report: ImportReport) -> Iterator[Placed]:
    parts = _parts(connection, path, session_id, report)
    for row in sqlite.salvaged(connection, report, str(path), "message", "session_id", session_id):
        name, info = str(row["id"]), sqlite.json_of(row["data"])
        below = parts.pop(name, [])
        place = f"{path} message {name}"
        if isinstance(info, dict):
            yield place, {"info": {**info, "id": name, "sessionID": session_id}, "parts": below}
            continue
        report.messages.read += 1
        report.skip_message(place, "its data is no JSON object")
        for part in below:
            report.skip(f"{path} part {part['id']}", "a part of a message that cannot be read")
    for below in parts.values():
        for part in below:
            report.skip(f"{path} part {part['id']}", "a part of a message that is not there")


def _parts(
    connection: sqlite3.Connection, path: Path, session_id: str, report: ImportReport
) -> dict[str, list[dict[str, Any]]]:
    """The parts of a session by message."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sqlite.salvaged(connection, report, str(path), "part", "session_id", session_id):
        name, part = str(row["id"]), sqlite.json_of(row["data"])
        if isinstance(part, dict):
            ids = {"id": name, "messageID": str(row["message_id"]), "sessionID": session_id}
            found.setdefault(str(row["message_id"]), []).append({**part, **ids})
        else:
            report.skip(f"{path} part {name}", "its data is no JSON object")
    return found


def _todos(
    connection: sqlite3.Connection, path: Path, session_id: str, report: ImportReport
) -> Iterator[dict[str, Any]]:
    if not sqlite.columns(connection, "todo"):
        return
    query = "SELECT content, status, priority FROM todo WHERE session_id = ? ORDER BY position"
    for row in sqlite.rows(connection, report, str(path), query, (session_id,)):
        yield dict(row)


def _info(row: Mapping[str, Any], place: str, report: ImportReport) -> dict[str, Any]:
    """A session's row as an export has it."""
    info: dict[str, Any] = {theirs: row[ours] for theirs, ours in _PLAIN if row.get(ours) is not None}
    for name in _JSON:
        if row.get(name) is None:
            continue
        value = sqlite.json_of(row[name])
        if value is None:
            report.skip(place, f"its {name} is no JSON")
        else:
            info[name] = value
    if row.get("share_url"):
        info["share"] = {"url": row["share_url"]}
    summary = {
        name: row[f"summary_{name}"]
        for name in ("additions", "deletions", "files")
        if row.get(f"summary_{name}") is not None
    }
    diffs = sqlite.json_of(row.get("summary_diffs"))
    if diffs is not None:
        summary["diffs"] = diffs
    if summary:
        info["summary"] = summary
    if row.get("cost") is not None:
        cost = row["cost"]
        info["cost"] = int(cost) if isinstance(cost, float) and cost.is_integer() else cost
        names = ("input", "output", "reasoning")
        tokens = {name: row.get(f"tokens_{name}") for name in names}
        cache = {name: row.get(f"tokens_cache_{name}") for name in ("read", "write")}
        info["tokens"] = {**tokens, "cache": cache}
    info["time"] = {name: row[f"time_{name}"] for name in _TIMES if row.get(f"time_{name}") is not None}
    return info
