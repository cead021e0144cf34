"""What the fuzz found, a test for each kind: sources that no tool writes, of which the report says what became of them.

The fuzz itself is in `tests/fuzz`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import Importer, ImportReport, import_file, import_history
from nomad_sessions.formats.agents_sdk import IMPORTER as AGENTS
from nomad_sessions.formats.aider import IMPORTER as AIDER
from nomad_sessions.formats.claude import IMPORTER as CLAUDE
from nomad_sessions.formats.codex import IMPORTER as CODEX
from nomad_sessions.formats.crush import IMPORTER as CRUSH
from nomad_sessions.formats.gemini import IMPORTER as GEMINI
from nomad_sessions.formats.goose import IMPORTER as GOOSE
from nomad_sessions.formats.jsonl import lines
from nomad_sessions.formats.llm import IMPORTER as LLM
from nomad_sessions.formats.pi import IMPORTER as PI
from nomad_sessions.formats.strands import IMPORTER as STRANDS
from nomad_sessions.formats.values import as_text
from tests.support.rollouts import Rollout
from tests.support.samples import make_llm_logs

SAMPLES = Path(__file__).parents[1] / "fixtures"
DEEP = "[" * 1_500 + "]" * 1_500
TOO_DEEP = "[" * 6_000 + "]" * 6_000


def source(folder: Path, text: str) -> Path:
    """A file with this JSON, in which "DEEP", "TOO DEEP" and "HUGE" stand for what Python does not write."""
    path = folder / "source.json"
    for name, value in (("DEEP", DEEP), ("TOO DEEP", TOO_DEEP), ("HUGE", "1e400")):
        text = text.replace(json.dumps(name), value)
    path.write_text(text)
    return path


def nomadarch(folder: Path, message: dict[str, Any] | None = None, **fields: Any) -> Path:
    session = {"id": "s", "createdAt": 1, "updatedAt": 9, "messageIds": ["m"], **fields}
    said = {"id": "m", "sessionId": "s", "role": "user", "content": "hi", "createdAt": 2, "updatedAt": 3}
    return source(folder, json.dumps({"sessions": {"s": session}, "messages": {"m": said | (message or {})}}))


def opencode(folder: Path, *parts: dict[str, Any], info: dict[str, Any] | None = None, session: str = "ses_1") -> Path:
    message = {"id": "msg_1", "role": "user", "time": {"created": 1}, **(info or {})}
    value = {"info": {"id": session, "time": {"created": 1}}, "messages": [{"info": message, "parts": parts}]}
    return source(folder, json.dumps(value))


def test_what_is_nested_deeper_than_python_can_print_has_a_text() -> None:
    value: Any = json.loads("[" * 500 + "]" * 500)
    for _ in range(1_000):
        value = [value]
    assert as_text(value) == DEEP
    texts: list[tuple[Any, str]] = [(None, ""), ([], ""), ("a", "a"), (5, "5"), (True, "true"), ({"a": 1}, '{"a":1}')]
    for given, text in texts:
        assert as_text(given) == text


def test_a_role_that_is_nested_deep_is_unknown(m: NativeSessionManager, tmp_path: Path) -> None:
    assert import_file(m, "ws", nomadarch(tmp_path, {"role": "DEEP"})).messages.imported == 1
    assert import_file(m, "ws", opencode(tmp_path, info={"role": "DEEP"})).messages.imported == 1


@pytest.mark.parametrize("name", ["name", "id", "type", "input"])
def test_a_field_that_is_nested_deep_stops_no_import_of_a_database(
    m: NativeSessionManager, tmp_path: Path, name: str
) -> None:
    part = {"type": "tool_call", "data": {"name": "bash", "id": "c", "input": "{}"}}
    (part if name == "type" else part["data"])[name] = "DEEP"  # type: ignore[index]
    path = Path(shutil.copy(SAMPLES / "crush" / ".crush" / "crush.db", tmp_path))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE messages SET parts = ?", (json.dumps([part]).replace('"DEEP"', DEEP),))
    assert import_history(m, CRUSH, path, workspace_id="ws").messages.imported > 3


def test_tokens_that_are_told_twice_count_once_however_deep_they_are_nested(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    w = Rollout(tmp_path)
    w.user("Go")
    w.answer("Done.")
    for _ in range(2):
        w.event("token_count", info={"last_token_usage": {"output_tokens": 5}, "total_token_usage": "DEEP"})
    path = w.save()
    path.write_text(path.read_text().replace('"DEEP"', DEEP))
    (session_id,) = import_history(m, CODEX, path, workspace_id="ws").session_ids
    usage = m.get_session_messages("ws", session_id)[1].usage
    assert usage is not None
    assert usage.output == 5


@pytest.mark.parametrize("identifier", ["x" * 513, "\ud800"], ids=["long", "half a character"])
def test_an_id_that_no_session_and_no_message_may_have_is_reported(
    m: NativeSessionManager, tmp_path: Path, identifier: str
) -> None:
    report = import_file(m, "ws", opencode(tmp_path, session=identifier))
    assert (report.sessions.skipped, report.messages.skipped) == (1, 1)
    report = import_file(m, "ws", opencode(tmp_path, info={"id": identifier}))
    assert (report.sessions.imported, report.messages.skipped) == (1, 1)
    report = import_file(m, "ws", opencode(tmp_path, info={"id": identifier}))
    assert (report.sessions.unchanged, report.messages.skipped) == (1, 1)


def test_what_is_nested_too_deep_for_a_change_is_reported(m: NativeSessionManager, tmp_path: Path) -> None:
    part = {"type": "text", "text": "hi", "x": "TOO DEEP"}
    import_file(m, "ws", opencode(tmp_path, {"type": "text", "text": "hi"}))
    report = import_file(m, "ws", opencode(tmp_path, part))
    assert (report.messages.updated, report.messages.skipped) == (0, 1)
    import_file(m, "ws", nomadarch(tmp_path))
    assert import_file(m, "ws", nomadarch(tmp_path, x="TOO DEEP")).sessions.skipped == 1


def test_fields_that_are_the_store_s_own_in_another_spelling_are_reported(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    import_file(m, "ws", nomadarch(tmp_path))
    assert import_file(m, "ws", nomadarch(tmp_path, workspace_id="w")).sessions.skipped == 1
    assert import_file(m, "ws", nomadarch(tmp_path, {"session_id": "t", "content": "x"})).messages.skipped == 1


def test_a_mark_that_no_import_makes_is_left_out(m: NativeSessionManager, tmp_path: Path) -> None:
    for deep in ("DEEP", "HUGE", "DEEP"):
        path = nomadarch(tmp_path, {"imported": {"x": deep}}, imported={"x": deep})
        report = import_file(m, "ws", path)
        assert (report.messages.skipped, report.sessions.skipped, len(report.warnings)) == (0, 0, 2)
    report = import_file(m, "ws", nomadarch(tmp_path, imported={"tool": "pi", "original": {"chunks": []}}))
    session = m.get_session("ws", "s")
    assert session is not None
    mark = (session.model_extra or {})["imported"]
    assert (report.warnings, mark["tool"], "original" in mark) == ([], "pi", False)


def test_parts_that_are_no_objects_are_reported(m: NativeSessionManager, tmp_path: Path) -> None:
    for parts in ([1], 5, "file"):
        report = import_file(m, "ws", nomadarch(tmp_path, {"parts": parts}))
        assert report.messages.skipped == 1


def test_a_number_that_no_float_holds_in_what_a_tool_was_given_becomes_text(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    part = {"type": "tool", "callID": "c", "tool": "bash", "state": {"input": {"timeout": "HUGE"}}}
    import_file(m, "ws", opencode(tmp_path, part))
    (message,) = m.get_session_messages("ws", "ses_1")
    assert message.tool_calls[0].function.arguments == '{"timeout":"inf"}'


def test_a_message_whose_parts_became_a_text_has_that_text(m: NativeSessionManager, tmp_path: Path) -> None:
    parts = [{"type": "text", "content": "one"}, {"type": "text", "content": "two"}]
    import_file(m, "ws", nomadarch(tmp_path, {"content": None, "parts": parts}))
    report = import_file(m, "ws", nomadarch(tmp_path, {"content": "three"}))
    assert report.messages.updated == 1
    (message,) = m.get_session_messages("ws", "s")
    assert (message.content, message.parts) == ("three", [])


@pytest.mark.parametrize(
    ("importer", "sample", "table", "column"),
    [
        (CRUSH, "crush/.crush/crush.db", "messages", "role"),
        (CRUSH, "crush/.crush/crush.db", "sessions", "updated_at"),
        (GOOSE, "goose/sessions.db", "messages", "created_timestamp"),
        (AGENTS, "openai-agents/sessions.db", "agent_messages", "created_at"),
    ],
)
def test_a_column_that_is_not_there_is_reported(
    m: NativeSessionManager, tmp_path: Path, importer: Importer, sample: str, table: str, column: str
) -> None:
    path = Path(shutil.copy(SAMPLES / sample, tmp_path))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
    report = import_history(m, importer, path, workspace_id="ws")
    assert list(report.skipped) == [f"the database cannot be read: its table {table} has no {column}"]


def test_conversations_of_llm_without_their_names_come_in(m: NativeSessionManager, tmp_path: Path) -> None:
    path = make_llm_logs(tmp_path / "logs.db")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("ALTER TABLE conversations RENAME COLUMN id TO other")
    assert import_history(m, LLM, path, workspace_id="ws").sessions.imported == 2


@pytest.mark.parametrize(
    ("importer", "name"), [(GEMINI, "x.json"), (GEMINI, "x.jsonl"), (AIDER, "x.md")], ids=["json", "jsonl", "md"]
)
def test_a_file_that_is_gone_is_reported(
    m: NativeSessionManager, tmp_path: Path, importer: Importer, name: str
) -> None:
    report = import_history(m, importer, tmp_path / name, workspace_id="ws")
    assert (len(report.skipped), report.session_ids) == (1, [])


def test_a_text_without_a_text_of_claude_s_is_kept_and_no_title(m: NativeSessionManager, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    block = {"type": "text", "text": None}
    records: list[dict[str, Any]] = [
        {"type": "user", "uuid": "DEEP"},
        {"type": "user", "uuid": "u", "message": {"content": [block]}},
        {"type": "assistant", "uuid": "a", "parentUuid": "u", "message": {"content": [block]}},
    ]
    records = [{**each, "timestamp": "2026-01-01T10:00:00Z", "isApiErrorMessage": True} for each in records]
    path.write_text("\n".join(map(json.dumps, records)).replace('"DEEP"', DEEP))
    (session_id,) = import_history(m, CLAUDE, path, workspace_id="ws").session_ids
    kept = [message.parts[0].type for message in m.get_session_messages("ws", session_id)]
    assert kept == ["text", "text"]


@pytest.mark.parametrize("folder", ["\0", "/a\0b", "\ud800", "/\ud800", f"/{'x' * 5_000}", f"{__file__}/x", "C:\\x"])
def test_a_folder_that_no_project_can_be_in_stops_no_import(
    m: NativeSessionManager, tmp_path: Path, folder: str
) -> None:
    header = {"type": "session", "version": 3, "id": "s", "timestamp": "2026-01-01T10:00:00Z", "cwd": folder}
    (tmp_path / "x.jsonl").write_text(json.dumps(header))
    report = import_history(m, PI, tmp_path)
    assert report.sessions.imported == 1
    assert import_history(m, PI, tmp_path).sessions.unchanged == 1


def test_a_file_in_a_prompt_of_strands_is_no_title(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAMPLES / "strands", tmp_path / "strands"))
    (first,) = folder.rglob("message_0.json")
    record = json.loads(first.read_text())
    record["message"]["content"] = [{"image": {"format": "png", "source": {"bytes": {"data": "AAAA"}}}}]
    first.write_text(json.dumps(record))
    (found,) = STRANDS.sessions(folder, ImportReport())
    parsed = found.read(ImportReport())
    assert parsed is not None
    assert "title" not in parsed.session


def test_of_a_chat_that_a_source_has_twice_nothing_is_new_the_second_time(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    chat = next((SAMPLES / "gemini").rglob("*.json"))
    record = json.loads(chat.read_text())
    (tmp_path / "chats").mkdir()
    for number, name in enumerate(("a.json", "b.json")):
        record["summary"] = f"version {number}"
        record["messages"][0]["content"] = f"version {number}"
        (tmp_path / "chats" / name).write_text(json.dumps(record))
    import_history(m, GEMINI, tmp_path, workspace_id="ws")
    seq = m.status("ws").seq
    for _ in range(2):
        report = import_history(m, GEMINI, tmp_path, workspace_id="ws")
        assert (report.messages.updated, report.sessions.unchanged, m.status("ws").seq) == (0, 2, seq)
    assert [session.title for session in m.list_sessions("ws")] == ["version 1"]


def test_a_copy_of_a_message_without_a_time_has_an_id_all_the_same(m: NativeSessionManager, tmp_path: Path) -> None:
    for created in (-1, 1 << 48):
        value = json.loads(nomadarch(tmp_path, {"createdAt": created}).read_text())
        value["sessions"]["t"] = {**value["sessions"]["s"], "id": "t"}
        assert import_file(m, f"ws{created}", source(tmp_path, json.dumps(value))).messages.imported == 2


def test_what_a_revert_hides_stays_as_it_is_when_nothing_could_be_added(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    value = json.loads(nomadarch(tmp_path, revert={"messageID": "m"}).read_text())
    value["messages"]["n"] = {**value["messages"]["m"], "id": "n"}
    import_file(m, "ws", source(tmp_path, json.dumps(value)))
    m.create_session("ws", id="other")
    m.add_message("ws", "other", id="o", role="user", content="taken")
    value["messages"]["o"] = {**value["messages"]["m"], "id": "o"}
    value["sessions"]["s"]["messageIds"].append("o")
    path = source(tmp_path, json.dumps(value))
    report = import_file(m, "ws", path)
    assert report.skipped == {"another session here has a message of that id": 1}
    seq = m.status("ws").seq
    assert import_file(m, "ws", path).messages.skipped == 1
    assert (m.status("ws").seq, m.get_session_messages("ws", "s").total) == (seq, 1)


def test_half_a_line_that_is_nested_deep_takes_no_time_per_place_where_it_could_be_two(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a":' * 100_000 + '}{"' * 100)
    report = ImportReport()
    start = time.process_time()
    assert list(lines(path, report)) == []
    assert time.process_time() - start < 5, "it is read once, not 64 times"
    assert report.skipped == {"a torn line": 1}
