"""Samples of other tools' data that no file in `tests/fixtures` holds."""

from __future__ import annotations

import contextlib
import sqlite3
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["make_llm_logs", "share_of", "unpack_opencode"]

_LLM = """
CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT, options_json TEXT,
  response TEXT, response_json TEXT, conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER,
  output_tokens INTEGER);
CREATE TABLE tool_calls (id INTEGER PRIMARY KEY, response_id TEXT, name TEXT, arguments TEXT, tool_call_id TEXT);
CREATE TABLE tool_results (id INTEGER PRIMARY KEY, response_id TEXT, name TEXT, output TEXT, tool_call_id TEXT,
  exception TEXT);
CREATE TABLE threads (id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT, forked_from TEXT, created_at TEXT);
CREATE TABLE messages (hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT);
CREATE TABLE parts (message_hash TEXT, position INTEGER, type TEXT, text TEXT, tool_name TEXT, payload TEXT);
INSERT INTO conversations VALUES ('c1', 'Slugs', 'gpt-x');
INSERT INTO responses VALUES ('r1', 'gpt-x', 'Fix it', 'Be brief', NULL, NULL, 'Let me look', NULL, 'c1', 5,
  '2026-01-01T10:00:00+00:00', 10, 5);
INSERT INTO tool_calls VALUES (1, 'r1', 'read', '{"path": "slug.py"}', 't1');
INSERT INTO tool_results VALUES (1, 'r2', 'read', 'import re', 't1', NULL);
INSERT INTO responses VALUES ('r2', 'gpt-x', '', 'Be brief', NULL, NULL, 'Fixed', NULL, 'c1', 5,
  '2026-01-01T10:00:09+00:00', NULL, NULL);
INSERT INTO threads VALUES ('th', NULL, 'h3', 'old', '2026-02-01T10:00:00+00:00');
INSERT INTO messages VALUES ('h1', NULL, 'user'), ('h2', 'h1', 'assistant'), ('h3', 'h2', 'tool'), ('x', 'h1', 'user');
INSERT INTO parts VALUES ('h1', 0, 'text', 'What is in it?', NULL, NULL), ('x', 0, 'text', 'a branch', NULL, NULL),
  ('h2', 0, 'reasoning', 'Hm', NULL, NULL),
  ('h2', 1, 'tool_call', NULL, 'read', '{"tool_call_id": "t9", "arguments": {"path": "x"}}'),
  ('h3', 0, 'tool_result', NULL, 'read', '{"tool_call_id": "t9", "output": "nothing"}');
"""


def make_llm_logs(path: Path) -> Path:
    """A database of the command `llm` with a conversation and a thread."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.executescript(_LLM)
    return path


def share_of(export: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What OpenCode's share of a session gives, where its export is this."""
    records = [{"type": "session", "data": export["info"]}, {"type": "model", "data": []}]
    for message in export["messages"]:
        records.append({"type": "message", "data": message["info"]})
        records += [{"type": "part", "data": part} for part in message["parts"]]
    return records


def unpack_opencode(folder: Path) -> Path:
    """The fixture of what OpenCode 1.1.65 and 1.18.34 wrote: into this folder, which is returned."""
    with tarfile.open(Path(__file__).parents[1] / "fixtures" / "opencode" / "A.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder
