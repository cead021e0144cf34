"""Files for Claude Code and Codex say what the conversation says: read back by the importers of those tools."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import ImportReport, importer_of
from nomad_sessions.formats.exporting import export_session
from nomad_sessions.formats.resumable import place_of, session_id_for

PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def talk(m: NativeSessionManager) -> str:
    session = m.create_session("ws", title="A talk", directory="/home/dev/demo").id
    image = {"type": "file", "file": {"mime": "image/png", "url": PIXEL}}
    m.add_message("ws", session, role="user", parts=[{"type": "text", "content": "Look"}, image])
    function = {"name": "read", "arguments": json.dumps({"path": "x"})}
    call = {"type": "function", "function": function}
    calls = [{"type": "tool_call", "toolCall": {"id": f"c{number}", **call}} for number in (1, 2)]
    thought = {"type": "thinking", "content": "hm"}
    m.add_message("ws", session, role="assistant", parts=[thought, {"type": "text", "content": "I read."}, *calls])
    m.add_message("ws", session, role="tool", toolCallId="c2", content="two", status="error")
    m.add_message("ws", session, role="assistant", content="Done.")
    m.add_message("ws", session, role="user", content="Thanks")
    return session


def back(m: NativeSessionManager, session: str, form: str, path: Path) -> tuple[Any, list[Any], ImportReport]:
    path.write_bytes(export_session(m, "ws", session, form))
    importer = importer_of(path)
    assert importer is not None
    assert importer.name == form
    report = ImportReport()
    (found,) = importer.sessions(path, report)
    parsed = found.read(report)
    assert parsed is not None
    return parsed, [(each["role"], text_of(each)) for each in parsed.messages], report


def text_of(message: dict[str, Any]) -> str:
    parts = message.get("parts") or [{"type": "text", "content": message.get("content")}]
    return " ".join(str(part.get("content") or part["type"]) for part in parts)


SAID = [
    ("user", "Look file"),
    ("assistant", "I read. tool_call tool_call"),
    ("tool", "[no result recorded]"),
    ("tool", "two"),
    ("assistant", "Done."),
    ("user", "Thanks"),
]


def test_claude_code_is_told_every_turn(m: NativeSessionManager, talk: str, tmp_path: Path) -> None:
    record = m.get_session("ws", talk)
    assert record is not None
    name = session_id_for({"id": talk, "createdAt": record.created_at})
    parsed, said, report = back(m, talk, "claude-code", tmp_path / f"{name}.jsonl")
    assert said == SAID
    assert parsed.session["imported"]["sessionId"] == name
    assert (parsed.session["title"], parsed.messages[3]["status"]) == ("A talk", "error")
    assert parsed.messages[0]["parts"][1]["file"]["url"] == PIXEL
    assert report.complete
    lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    chain = [line for line in lines if "uuid" in line]
    assert [line["parentUuid"] for line in chain] == [None, *(line["uuid"] for line in chain[:-1])]
    assert all(len(line["message"]["content"]) == 1 for line in chain if line["type"] == "assistant")


def test_codex_is_told_every_turn(m: NativeSessionManager, talk: str, tmp_path: Path) -> None:
    record = m.get_session("ws", talk)
    assert record is not None
    name = session_id_for({"id": talk, "createdAt": record.created_at})
    assert uuid.UUID(name).version == 7
    parsed, said, report = back(m, talk, "codex", tmp_path / f"rollout-2026-01-01T10-00-00-{name}.jsonl")
    assert said == SAID
    assert parsed.session["directory"] == "/home/dev/demo"
    assert report.complete


@pytest.mark.parametrize("form", ["claude-code", "codex"])
def test_the_same_session_is_written_the_same(m: NativeSessionManager, talk: str, form: str) -> None:
    assert export_session(m, "ws", talk, form) == export_session(m, "ws", talk, form)


@pytest.mark.parametrize(
    ("directory", "folder"),
    [
        ("/home/x/my_proj", "-home-x-my-proj"),
        ("/home/x/a.b c(1)", "-home-x-a-b-c-1-"),
        ("/home/x/Cafe\u0301", "-home-x-Caf-"),
        ("/home/x/\U0001f600", "-home-x---"),
        ("C:\\Users\\x", "C--Users-x"),
        ("/" + "a" * 199, "-" + "a" * 199),
        ("/" + "a" * 200, "-" + "a" * 199 + "-…"),
        (None, "-"),
    ],
)
def test_the_place_of_a_claude_code_file_is_where_that_program_looks(directory: str | None, folder: str) -> None:
    session = {"id": "s", "createdAt": 1_762_362_000_000, "directory": directory}
    name = session_id_for(session)
    assert place_of("claude-code", session) == (f"~/.claude/projects/{folder}/{name}.jsonl", f"claude --resume {name}")


def test_only_files_that_a_program_goes_on_with_have_a_place() -> None:
    session = {"id": "s", "createdAt": 1_762_362_000_000}
    name = session_id_for(session)
    path = f"~/.codex/sessions/2025/11/05/rollout-2025-11-05T17-00-00-{name}.jsonl"
    assert place_of("codex", session) == (path, f"codex resume {name}")
    assert place_of("markdown", session) is None
