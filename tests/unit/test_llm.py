"""The logs of the command `llm`: both generations of its tables, in one database."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import Computer, ImportReport, ParsedSession, import_history, importer_of, llm
from nomad_sessions.formats.llm import IMPORTER
from tests.support.samples import make_llm_logs


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return make_llm_logs(tmp_path / "logs.db")


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


def filled(path: Path, conversations: int) -> Path:
    """The logs, with conversations of two answers, each with a call and the result of the one before."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for number in range(conversations * 2):
            name, key = f"many {number // 2}", f"many r{number}"
            time = f"2026-01-02T10:00:00.{number:06}+00:00"
            database.execute(
                "INSERT INTO responses (id, model, prompt, response, conversation_id, datetime_utc) "
                "VALUES (?, 'gpt-x', ?, ?, ?, ?)",
                (key, f"ask {number}", f"answer {number}", name, time),
            )
            for table, column in (("tool_calls", "arguments"), ("tool_results", "output")):
                database.execute(
                    f"INSERT INTO {table} (response_id, name, {column}, tool_call_id) VALUES (?, 'f', ?, ?)",
                    (key, f"{table} {number}", f"call {number}"),
                )
    return path


def test_of_many_conversations_each_has_its_own_rows(logs: Path) -> None:
    many = 2500
    parsed, report = read(filled(logs, many))
    assert report.complete
    own = [each for each in parsed if str(each.session["imported"]["sessionId"]).startswith("many")]
    assert len(own) == many
    for number, each in enumerate(own):
        assert said(each) == [
            (role, f"{what} {2 * number + which}")
            for which in (0, 1)
            for role, what in (("tool", "tool_results"), ("user", "ask"), ("assistant", "answer"))
        ]
        calls = [call["function"]["arguments"] for answer in each.messages for call in answer.get("toolCalls", ())]
        assert calls == [f"tool_calls {2 * number + which}" for which in (0, 1)]


def test_where_the_numbers_of_the_rows_cannot_be_told_each_conversation_is_looked_for(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(logs, 3)

    def everything() -> list[Any]:
        found = list(IMPORTER.sessions(logs, ImportReport()))
        originals = [b"".join(each.original.read()) for each in found if each.original is not None]
        return [[vars(each) for each in read(logs)[0]], originals]

    expected = everything()
    assert len(expected[1]) == 5
    monkeypatch.setattr(llm, "numbers_of", lambda _: None)
    assert everything() == expected
