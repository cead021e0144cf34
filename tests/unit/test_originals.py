"""What a session was imported from is given back as it was: of every tool, byte for byte or row for row."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nomad_sessions import (
    NativeSessionManager,
    OriginalNotFoundError,
    SessionNotFoundError,
)
from nomad_sessions.formats import (
    ImportReport,
    import_file,
    importer_of,
    original_of,
)
from nomad_sessions.formats.exporting import export_session
from tests.support.originals import FIXTURES, WS, brought, mark, original, records
from tests.support.samples import make_llm_logs, share_of
from tests.support.there import there

FILES = {
    "claude/projects": "*/*.jsonl */*/subagents/*.jsonl",
    "claude/torn": "*.jsonl",
    "codex/sessions": "**/*.jsonl",
    "codex/paginated": "**/*.jsonl",
    "pi/agent": "**/*.jsonl",
    "gemini/tmp/demo": "**/session-*.json*",
    "gemini/tmp/c6604f1ed37b2f8d96e8e55765a4a09cbc48bd090f4d5eae9b7959006114510f": "**/session-*.json*",
}


def pack_zstandard(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").compress(data)
    return packed


@pytest.mark.parametrize("place", FILES)
def test_a_file_is_given_back_byte_for_byte(m: NativeSessionManager, place: str) -> None:
    ids = brought(m, FIXTURES / place).session_ids
    kept = sorted(original(m, each) for each in dict.fromkeys(ids))
    files = {path for pattern in FILES[place].split() for path in (FIXTURES / place).glob(pattern)}
    assert kept == sorted(path.read_bytes() for path in files)
    assert m.check(WS).ok


def test_a_compressed_rollout_stays_compressed(m: NativeSessionManager, tmp_path: Path) -> None:
    path = next((FIXTURES / "codex" / "sessions").rglob("*.jsonl"))
    packed = tmp_path / f"{path.name}.zst"
    packed.write_bytes(pack_zstandard(path.read_bytes()))
    (session,) = brought(m, packed).session_ids
    assert original(m, session) == packed.read_bytes()
    assert mark(m.get_session(WS, session))["original"]["name"] == packed.name


@pytest.mark.parametrize(
    ("place", "messages", "sessions", "column"),
    [
        ("goose/sessions.db", "messages", "sessions", "session_id"),
        ("crush/.crush/crush.db", "messages", "sessions", "session_id"),
        ("openai-agents/sessions.db", "agent_messages", "agent_sessions", "session_id"),
    ],
)
def test_of_a_database_every_row_of_a_session_is_kept(
    m: NativeSessionManager, place: str, messages: str, sessions: str, column: str
) -> None:
    ids = brought(m, FIXTURES / place).session_ids
    with closing(sqlite3.connect(FIXTURES / place)) as database:
        database.row_factory = sqlite3.Row
        for session_id in ids:
            *rows, head = records(original(m, session_id))
            name = mark(m.get_session(WS, session_id))["sessionId"]
            assert {row["table"] for row in rows} == {messages}
            query = f"SELECT * FROM {messages} WHERE {column} = ?"
            key = repr
            assert sorted((row["row"] for row in rows), key=key) == sorted(
                (dict(row) for row in database.execute(query, (name,))), key=key
            )
            assert head["table"] == sessions
            assert name in head["row"].values()


def test_of_both_generations_of_llm_every_row_is_kept(m: NativeSessionManager, tmp_path: Path) -> None:
    ids = brought(m, make_llm_logs(tmp_path / "logs.db")).session_ids
    tables = [[record["table"] for record in records(original(m, each))] for each in ids]
    assert tables == [
        ["responses", "tool_calls", "responses", "tool_results", "conversations"],
        ["messages", "parts", "messages", "parts", "parts", "messages", "parts", "threads"],
    ]


def test_the_files_of_strands_are_lines_with_their_names(m: NativeSessionManager) -> None:
    folder = FIXTURES / "strands" / "session_demo"
    (session,) = brought(m, folder.parent).session_ids
    found = {record["file"]: record["object"] for record in records(original(m, session))}
    assert found == {
        path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.rglob("*.json")
    }


def test_of_aider_each_session_has_its_part_of_the_file(m: NativeSessionManager) -> None:
    path = FIXTURES / "aider" / ".aider.chat.history.md"
    whole = path.read_bytes()
    kept = [original(m, each) for each in brought(m, path).session_ids]
    assert whole.endswith(b"".join(kept))
    assert all(each.startswith(b"# aider chat started at") for each in kept)


@pytest.mark.parametrize("sample", ["opencode-1.18.db", "opencode-1.2.db", "data"])
def test_what_came_from_opencode_is_given_back_as_an_export(
    m: NativeSessionManager, sample: str, tmp_path: Path
) -> None:
    source = FIXTURES / "opencode" / "samples" / sample
    for session in brought(m, source).session_ids:
        assert original(m, session) == export_session(m, WS, session, "opencode")
        assert "original" not in mark(m.get_session(WS, session))
    export = FIXTURES / "opencode" / "samples" / "export.json"
    (session,) = import_file(m, "file", export).session_ids
    assert json.loads(b"".join(original_of(m, "file", session))) == json.loads(export.read_text())
    assert m.status(WS).seq > 0
    assert not (tmp_path / "data" / WS / "attachments").exists()


def test_what_came_from_nomadarch_is_given_back_as_its_file(m: NativeSessionManager, tmp_path: Path) -> None:
    message = {"id": "m", "sessionId": "s", "role": "boss", "content": "Hi", "createdAt": 5, "updatedAt": 5}
    session = {"id": "s", "title": "T", "parentId": None, "createdAt": 5, "updatedAt": 6, "messageIds": ["m"]}
    path = tmp_path / "sessions.json"
    path.write_text(json.dumps({"sessions": {"s": session}, "messages": {"m": message}}))
    import_file(m, WS, path)
    found = json.loads(original(m, "s"))
    assert found["sessions"]["s"].items() >= session.items()
    assert found["messages"]["m"].items() >= message.items()
    assert not {"imported", "rev"} & {*found["sessions"]["s"], *found["messages"]["m"]}


def test_what_is_not_kept_is_an_error_that_says_why(m: NativeSessionManager, tmp_path: Path) -> None:
    with pytest.raises(SessionNotFoundError):
        original_of(m, WS, "nobody")
    m.create_session(WS, id="own")
    with pytest.raises(OriginalNotFoundError, match="not imported"):
        original_of(m, WS, "own")
    share = tmp_path / "share.json"
    share.write_text(json.dumps(share_of(json.loads((FIXTURES / "opencode/samples/export.json").read_text()))))
    (session,) = import_file(m, WS, share).session_ids
    with pytest.raises(OriginalNotFoundError, match="share"):
        original_of(m, WS, session)


def test_every_importer_but_opencode_keeps_originals(tmp_path: Path) -> None:
    make_llm_logs(tmp_path / "logs.db")
    places = [*(FIXTURES / each for each in FILES), FIXTURES / "goose/sessions.db", tmp_path / "logs.db"]
    for path in places:
        importer = there(importer_of(path))
        assert all(each.original is not None for each in importer.sessions(path, ImportReport())), path
    data = FIXTURES / "opencode" / "samples" / "data"
    assert all(each.original is None for each in there(importer_of(data)).sessions(data, ImportReport()))
