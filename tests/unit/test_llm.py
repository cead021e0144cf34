"""The logs of the command `llm`: both generations of its tables, in one database."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import Computer, ImportReport, ParsedSession, import_history, importer_of
from nomad_sessions.formats.llm import IMPORTER

TABLES = """
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


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    path = tmp_path / "logs.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.executescript(TABLES)
    return path


def read(path: Path) -> tuple[list[ParsedSession], ImportReport]:
    report = ImportReport()
    parsed = [each.read(report) for each in IMPORTER.sessions(path, report)]
    return [each for each in parsed if each is not None], report


def said(parsed: ParsedSession) -> list[tuple[str, Any]]:
    return [
        (each["role"], each.get("content") or [part.get("content") or part["type"] for part in each["parts"]])
        for each in parsed.messages
    ]


def test_conversations_and_threads_come_in(logs: Path) -> None:
    (conversation, thread), report = read(logs)
    assert said(conversation) == [
        ("system", "Be brief"),
        ("user", "Fix it"),
        ("assistant", "Let me look"),
        ("tool", "import re"),
        ("assistant", "Fixed"),
    ]
    assert conversation.session["title"] == "Slugs"
    assert conversation.messages[2]["usage"] == {"input": 10, "output": 5}
    assert json.loads(conversation.messages[2]["toolCalls"][0]["function"]["arguments"]) == {"path": "slug.py"}
    assert conversation.session["model"] == {"providerId": "", "modelId": "gpt-x"}
    assert said(thread) == [("user", ["What is in it?"]), ("assistant", ["Hm", "tool_call"]), ("tool", "nothing")]
    assert thread.messages[2]["toolCallId"] == "t9"
    assert thread.session["imported"]["parentSourceId"] == "old"
    assert thread.session["createdAt"] == 1_769_940_000_000
    assert report.complete
    assert importer_of(logs) is IMPORTER


def test_a_chain_that_is_cut_or_closed_gives_what_there_is(logs: Path) -> None:
    with contextlib.closing(sqlite3.connect(logs)) as database, database:
        database.execute("DELETE FROM messages WHERE hash = 'h1'")
        database.execute("INSERT INTO threads VALUES ('round', 'r', 'a', NULL, NULL)")
        database.execute("INSERT INTO messages VALUES ('a', 'b', 'user'), ('b', 'a', 'user')")
    (_, thread, _), report = read(logs)
    assert [role for role, _ in said(thread)] == ["assistant", "tool"]
    assert report.skipped == {"a message that is not there": 1}


def test_twice_is_as_once_and_a_new_response_is_added(logs: Path, tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data", durability="os") as m:
        assert import_history(m, IMPORTER, logs).messages.imported == 8
        assert import_history(m, IMPORTER, logs).sessions.unchanged == 2
        with contextlib.closing(sqlite3.connect(logs)) as database, database:
            database.execute(
                "INSERT INTO responses (id, model, prompt, response, conversation_id, datetime_utc) VALUES "
                "('r3', 'gpt-x', 'More', 'Done', 'c1', '2026-01-01T10:01:00+00:00')"
            )
        third = import_history(m, IMPORTER, logs)
        assert (third.messages.imported, third.messages.updated) == (2, 0)


@pytest.mark.parametrize(
    ("platform", "env", "place"),
    [
        ("linux", {}, ".config/io.datasette.llm/logs.db"),
        ("darwin", {}, "Library/Application Support/io.datasette.llm/logs.db"),
        ("win32", {}, "AppData/Roaming/io.datasette.llm/logs.db"),
    ],
)
def test_where_it_keeps_its_logs(tmp_path: Path, platform: str, env: dict[str, str], place: str) -> None:
    assert IMPORTER.locate(Computer(tmp_path, env, platform)) == [tmp_path / place]
    assert IMPORTER.locate(Computer(tmp_path, {"LLM_USER_PATH": "/l"}, platform)) == [Path("/l/logs.db")]


def test_mutated_databases_give_reports_and_nothing_else(logs: Path) -> None:
    whole = logs.read_bytes()
    for seed in range(150):
        chance = random.Random(seed)
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(content))
            content[at : at + chance.randint(0, 40)] = chance.randbytes(chance.randint(0, 20))
        logs.write_bytes(content)
        for parsed in read(logs)[0]:
            assert len(parsed.messages) == len(parsed.places)
