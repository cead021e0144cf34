"""What an importer cannot take is in its report: files by their place and name, blocks as parts of their type."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import Importer, ImportReport, import_history, survey_history
from nomad_sessions.formats.aider import IMPORTER as AIDER
from nomad_sessions.formats.codex import IMPORTER as CODEX
from nomad_sessions.formats.crush import IMPORTER as CRUSH
from nomad_sessions.formats.gemini import IMPORTER as GEMINI
from nomad_sessions.formats.goose import IMPORTER as GOOSE
from nomad_sessions.formats.pi import IMPORTER as PI
from nomad_sessions.formats.strands import IMPORTER as STRANDS
from tests.unit.test_other_tools import AGENT, CHATS, HISTORY, LINES, SAMPLES, read, said

PNG = {"mime": "image/png", "url": "data:image/png;base64,iVBORw0K"}


@pytest.mark.parametrize(
    "content", ["", "garbage\n", '{"type": "session", "id": "s", "cw'], ids=["none", "no JSON", "torn"]
)
@pytest.mark.parametrize(
    ("importer", "source", "name", "reason"),
    [
        (PI, SAMPLES / "pi", "agent/sessions/--p--/2026-01-02T10-00-00-000Z_x.jsonl", "no header of a pi session"),
        (CODEX, SAMPLES / "codex", "sessions/2026/01/02/rollout-x.jsonl", "no record of a Codex session"),
        (GEMINI, SAMPLES / "gemini", "tmp/demo/chats/session-2026-01-02T10-00-x.json", "no chat of Gemini CLI's"),
        (GEMINI, SAMPLES / "gemini", "tmp/demo/chats/session-2026-01-02T10-00-x.jsonl", "no chat of Gemini CLI's"),
    ],
)
def test_a_file_in_its_place_that_cannot_be_read_is_reported(
    importer: Importer, source: Path, name: str, reason: str, content: str, tmp_path: Path
) -> None:
    shutil.copytree(source, tmp_path / "s")
    whole, before = read(importer, tmp_path / "s")
    path = tmp_path / "s" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    again, report = read(importer, tmp_path / "s")
    assert report.skipped == {**before.skipped, reason: before.skipped.get(reason, 0) + 1}
    assert any(str(path) in warning for warning in report.warnings)
    assert len(again) == len(whole)


def test_a_session_of_strands_without_its_own_file_is_reported(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "strands", tmp_path / "s")
    shutil.copytree(tmp_path / "s" / "session_demo", tmp_path / "s" / "session_lost")
    (tmp_path / "s" / "session_lost" / "session.json").unlink()
    (tmp_path / "s" / AGENT.relative_to(SAMPLES / "strands") / "messages" / "message_1.json").write_text("[]")
    _, report = read(STRANDS, tmp_path / "s")
    assert report.skipped == {"no session.json": 1, "not a JSON object": 1}


def test_text_before_the_first_session_of_aider_is_reported(tmp_path: Path) -> None:
    path = tmp_path / HISTORY.name
    path.write_bytes(b"\n#### a prompt\n> an answer\n" + HISTORY.read_bytes())
    (parsed,), report = read(AIDER, path)
    assert parsed.messages
    assert report.warnings == [f"{path} at byte 1: left out, text before the first session"]


def _changed(database: Path, folder: Path, query: str, content: Any) -> Path:
    shutil.copy(database, folder / database.name)
    with contextlib.closing(sqlite3.connect(folder / database.name)) as connection, connection:
        assert connection.execute(query, (json.dumps(content),)).rowcount == 1
    return folder / database.name


def test_images_and_resources_that_a_tool_of_goose_answered_are_kept(tmp_path: Path) -> None:
    resource = {"type": "resource", "resource": {"uri": "x", "text": "t"}}
    image = {"type": "image", "mimeType": "image/png", "data": "iVBORw0K"}
    value = {"content": [{"type": "text", "text": "two"}, image, resource], "isError": False}
    block = {"type": "toolResponse", "id": "c", "toolResult": {"status": "success", "value": value}}
    update = "UPDATE messages SET content_json = ? WHERE id = 1"
    (parsed,), report = read(GOOSE, _changed(SAMPLES / "goose" / "sessions.db", tmp_path, update, [block, "alone"]))
    assert parsed.messages[0]["parts"] == [
        {"type": "text", "content": "two"},
        {"type": "file", "file": PNG},
        {"type": "resource", "goose": resource},
    ]
    assert parsed.messages[1]["parts"] == [{"type": "text", "content": "alone"}]
    assert report.complete


def test_an_image_that_a_tool_of_crush_answered_is_kept(tmp_path: Path) -> None:
    data = {"tool_call_id": "c", "name": "view", "content": "seen", "data": "iVBORw0K", "mime_type": "image/png"}
    update = "UPDATE messages SET parts = ? WHERE rowid = 1"
    database = SAMPLES / "crush" / ".crush" / "crush.db"
    path = _changed(
        database, tmp_path, update, [{"type": "tool_result", "data": data}, {"type": "text", "data": "odd"}]
    )
    (parsed,), _ = read(CRUSH, path)
    assert parsed.messages[0]["parts"] == [{"type": "text", "content": "seen"}, {"type": "file", "file": PNG}]
    assert parsed.messages[1]["parts"] == [{"type": "text", "crush": {"type": "text", "data": "odd"}}]


def _chat(path: Path, *records: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = json.loads(LINES.read_text().splitlines()[0])
    path.write_text("".join(json.dumps(each) + "\n" for each in ({**head, "sessionId": path.stem}, *records)))
    return path


def test_messages_of_gemini_without_ids_are_all_kept(tmp_path: Path) -> None:
    given = [{"type": "user", "content": word} for word in ("one", "two", "three")]
    path = _chat(
        tmp_path / "chats" / "c.jsonl", {"$set": {"messages": [*given, 7]}}, given[0], {"type": "odd", "id": "x"}
    )
    (parsed,), report = read(GEMINI, path)
    assert said(parsed) == [("user", word) for word in ("one", "two", "three", "one")]
    assert (report.skipped, report.ignored) == ({"not an object": 1}, {"Gemini CLI's own record: odd": 1})


def test_an_image_that_a_tool_of_gemini_answered_is_kept(tmp_path: Path) -> None:
    response = {"functionResponse": {"response": {"output": "seen"}}}
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}}
    call = {"id": "c", "name": "look", "args": {}, "result": [response, image, "and text"]}
    path = _chat(tmp_path / "chats" / "c.jsonl", {"id": "g", "type": "gemini", "content": "", "toolCalls": [call, 3]})
    (parsed,), report = read(GEMINI, path)
    assert parsed.messages[1]["parts"] == [
        {"type": "text", "content": "seen\nand text"},
        {"type": "file", "file": PNG},
    ]
    assert report.skipped == {"not an object": 1}


def test_a_sub_agent_of_gemini_is_its_caller_s_child(tmp_path: Path) -> None:
    prompt = {"id": "u", "type": "user", "content": "hi"}
    main = _chat(tmp_path / "chats" / "main.jsonl", prompt)
    inner = _chat(tmp_path / "chats" / "main" / "inner.jsonl", prompt)
    _chat(tmp_path / "chats" / "gone" / "orphan.jsonl", prompt)
    parsed, _ = read(GEMINI, tmp_path)
    by_name = {each.session["imported"]["sessionId"]: each.session for each in parsed}
    assert by_name["inner"]["parentId"] == by_name["main"]["id"]
    assert by_name["inner"]["imported"]["relation"] == "subagent"
    assert "parentId" not in by_name["orphan"]
    assert by_name["orphan"]["imported"]["parentSourceId"] == "gone"
    (alone,), _ = read(GEMINI, inner)
    assert alone.session["parentId"] == by_name["main"]["id"]
    before = [found.stamp for found in GEMINI.sessions(inner, ImportReport())]
    main.unlink()
    assert [found.stamp for found in GEMINI.sessions(inner, ImportReport())] != before, "read again, to be linked anew"


def test_a_chat_that_a_source_has_twice_is_one_session_in_the_workspace_of_its_folder(m: NativeSessionManager) -> None:
    for _ in range(2):
        report = import_history(m, GEMINI, CHATS.parents[1])
        (name,) = report.workspaces
        assert name.startswith("demo-")
        assert m.list_workspaces() == [name]
        assert len(m.list_sessions(name)) == 1


def test_a_survey_counts_a_chat_that_a_source_has_twice_as_one_that_is_new(m: NativeSessionManager) -> None:
    found = survey_history(m, GEMINI, CHATS.parents[1])
    assert (found.sessions, found.new, found.changed) == (1, 1, 0)
