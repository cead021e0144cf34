"""The smaller importers: what their files say comes in, in order, and whatever else they hold is a report."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import (
    Computer,
    Importer,
    ImportReport,
    ParsedSession,
    import_history,
    importer_of,
    sqlite,
    survey_history,
)
from nomad_sessions.formats.agents_sdk import IMPORTER as AGENTS
from nomad_sessions.formats.aider import IMPORTER as AIDER
from nomad_sessions.formats.crush import IMPORTER as CRUSH
from nomad_sessions.formats.gemini import IMPORTER as GEMINI
from nomad_sessions.formats.strands import IMPORTER as STRANDS

SAMPLES = Path(__file__).parents[1] / "fixtures"
CHATS = SAMPLES / "gemini" / "tmp" / "demo" / "chats"
LINES = next(CHATS.glob("*.jsonl"))
WHOLE = next(SAMPLES.glob("gemini/tmp/c66*/chats/*.json"))
HISTORY = SAMPLES / "aider" / ".aider.chat.history.md"
AGENT = SAMPLES / "strands" / "session_demo" / "agents" / "agent_default"
T0 = 1_767_261_600_000
CRUSH_DB = SAMPLES / "crush" / ".crush" / "crush.db"
AGENTS_DB = SAMPLES / "openai-agents" / "sessions.db"
PLACES = [
    (GEMINI, SAMPLES / "gemini" / "tmp"),
    (AIDER, SAMPLES / "aider"),
    (STRANDS, SAMPLES / "strands"),
    (CRUSH, SAMPLES / "crush"),
]


def read(importer: Importer, path: Path) -> tuple[list[ParsedSession], ImportReport]:
    report = ImportReport()
    parsed = [each.read(report) for each in importer.sessions(path, report)]
    return [each for each in parsed if each is not None], report


def said(parsed: ParsedSession) -> list[tuple[str, str]]:
    return [(message["role"], words(message)) for message in parsed.messages]


def words(message: dict[str, Any]) -> str:
    return message.get("content") or " ".join(str(part.get("content") or part["type"]) for part in message["parts"])


LEFT_BY_LINES = {"an earlier state of a message": 1, "taken back by a rewind": 1}


@pytest.mark.parametrize("path", [LINES, WHOLE], ids=["lines", "whole"])
def test_both_generations_of_gemini_say_the_same(path: Path) -> None:
    (parsed,), report = read(GEMINI, path)
    assert said(parsed)[:4] == [
        ("user", "The slugify test fails. Can you fix it?"),
        ("assistant", "Inspecting the regex\nTrailing dashes. Let me look at the function first. tool_call"),
        ("tool", "import re\n"),
        ("assistant", "Fixed: trailing dashes are now stripped."),
    ]
    assert len(parsed.messages) == 4
    assert parsed.messages[1]["usage"] == {"input": 10, "output": 5, "cacheRead": 0, "reasoning": 1}
    assert parsed.messages[2]["toolCallId"] == "read_file-1"
    assert parsed.session["model"] == {"providerId": "google", "modelId": "gemini-2.5-pro"}
    assert report.complete
    assert report.ignored == (LEFT_BY_LINES if path is LINES else {})


def test_a_chat_of_gemini_has_the_title_and_the_folder_that_are_noted() -> None:
    (parsed,), _ = read(GEMINI, LINES)
    assert parsed.session["title"] == "Slug fix"
    assert [found.directory for found in GEMINI.sessions(LINES, ImportReport())] == ["/home/dev/demo"]
    assert [found.directory for found in GEMINI.sessions(WHOLE, ImportReport())] == [None]


def test_what_gemini_sets_replaces_and_a_rewind_to_nothing_known_takes_all(tmp_path: Path) -> None:
    head, *rest = LINES.read_text().splitlines()
    made = {"id": "x", "timestamp": "2026-01-01T10:00:00Z", "type": "user", "content": [{"text": "anew"}]}
    path = tmp_path / "chats" / "session-a.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join([head, *rest, '{"$rewindTo": "nobody"}', json.dumps({"$set": {"messages": [made]}})]))
    (parsed,), report = read(GEMINI, path)
    assert said(parsed) == [("user", "anew")]
    assert report.ignored["taken back by a rewind"] == 4


def test_the_bytes_of_images_are_kept(tmp_path: Path) -> None:
    picture = base64.b64encode(b"\x89PNG1").decode()
    record = {"id": "g", "type": "user", "content": [{"inlineData": {"mimeType": "image/png", "data": picture}}]}
    path = tmp_path / "session.json"
    path.write_text(json.dumps({"sessionId": "s", "projectHash": "h", "messages": [record]}))
    (parsed,), _ = read(GEMINI, path)
    assert parsed.messages[0]["parts"][0]["file"]["url"] == f"data:image/png;base64,{picture}"
    (parsed,), _ = read(STRANDS, SAMPLES / "strands")
    file = parsed.messages[0]["parts"][1]["file"]
    assert base64.b64decode(file["url"].partition(",")[2]).startswith(b"\x89PNG")


def test_a_chat_of_aider_is_read_by_who_spoke_and_a_heading_in_an_answer_is_text() -> None:
    (parsed,), report = read(AIDER, HISTORY)
    assert [role for role, _ in said(parsed)] == ["system", "user", "assistant", "system", "user", "system"]
    assert said(parsed)[1] == ("user", "The slugify test fails. Can you fix it?\nSecond line of the same prompt.")
    assert "# A heading inside the reply" in said(parsed)[2][1]
    assert said(parsed)[3][1].startswith("Tokens: 1.2k sent")
    assert parsed.session["title"] == "The slugify test fails. Can you fix it?"
    assert report.complete


def test_a_session_of_crush_has_its_parts_and_each_result_as_a_message() -> None:
    (parsed,), report = read(CRUSH, CRUSH_DB)
    assert said(parsed) == [
        ("user", "The slugify test fails. Can you fix it? file"),
        ("assistant", "The regex probably keeps trailing dashes. Let me look at the function first. tool_call"),
        ("tool", "import re"),
        ("assistant", "Fixed: trailing dashes are now stripped."),
    ]
    assert [message["createdAt"] - T0 for message in parsed.messages] == [0, 1000, 2000, 3000], "they are seconds"
    assert parsed.session["title"] == "Slug fix"
    assert parsed.session["model"] == {"providerId": "anthropic", "modelId": "claude-sonnet-4-5"}
    assert report.complete


def test_a_sub_agent_of_crush_is_a_child_of_its_session(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(CRUSH_DB, tmp_path / "crush.db"))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO sessions VALUES ('m1$$call', 's1', 'sub', 0, 0, 0, 0.0, 1767261603, 1767261603, NULL, NULL)"
        )
    (parent, child), _ = read(CRUSH, path)
    assert child.session["parentId"] == parent.session["id"]
    assert child.session["imported"]["relation"] == "subagent"


def test_the_items_of_an_answer_of_the_agents_sdk_are_one_message() -> None:
    (parsed,), report = read(AGENTS, AGENTS_DB)
    assert said(parsed) == [
        ("user", "The slugify test fails. Can you fix it?"),
        ("assistant", "tool_call"),
        ("tool", "import re"),
        ("assistant", "Fixed: trailing dashes are now stripped."),
    ]
    assert parsed.session["updatedAt"] == T0 + 12_000
    assert report.complete


def test_a_database_that_is_being_written_is_read_with_what_its_log_holds(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(AGENTS_DB, tmp_path / "sessions.db"))
    item = json.dumps({"role": "user", "content": "more"})
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        with NativeSessionManager(tmp_path / "data") as m:
            assert import_history(m, AGENTS, path, workspace_id="ws").messages.imported == 4
            with db:
                db.execute("INSERT INTO agent_messages (session_id, message_data) VALUES ('user_1', ?)", (item,))
            assert path.with_name("sessions.db-wal").stat().st_size > 0
            before = path.read_bytes()
            report = import_history(m, AGENTS, path, workspace_id="ws")
            assert (report.messages.imported, report.messages.unchanged) == (1, 4)
            assert path.read_bytes() == before, "the source is not written to"


def test_a_copy_without_the_index_of_its_log_is_copied_once_however_many_sessions_it_has(
    m: NativeSessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copyfile(AGENTS_DB, tmp_path / "running.db"))
    copy = tmp_path / "copy" / "sessions.db"
    copy.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        with db:
            for number in range(20):
                item = json.dumps({"role": "user", "content": f"{number}"})
                db.execute("INSERT INTO agent_sessions (session_id) VALUES (?)", (f"s{number}",))
                db.execute("INSERT INTO agent_messages (session_id, message_data) VALUES (?, ?)", (f"s{number}", item))
        shutil.copyfile(path, copy)
        shutil.copyfile(path.with_name("running.db-wal"), copy.with_name("sessions.db-wal"))
    made: list[Path] = []
    copyfile = shutil.copyfile

    def counted(source: Path, target: Path) -> None:
        made.append(target)
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", counted)
    survey_history(m, AGENTS, copy, workspace_id="ws")
    assert len(made) == 2, "the database and its log"
    report = import_history(m, AGENTS, copy, workspace_id="ws")
    assert report.sessions.imported == 21
    assert len(made) == 4
    assert sorted(each.name for each in copy.parent.iterdir()) == ["sessions.db", "sessions.db-wal"]
    assert not [each for each in made if each.parent.exists()], "nothing of them stays"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "made"))
    (tmp_path / "made").mkdir()
    with sqlite.copied_once():
        for number in range(3):
            copy.with_name("sessions.db-wal").touch()
            os.utime(copy, ns=(number, number))
            with sqlite.opened(copy) as reading:
                assert reading.execute("SELECT count(*) FROM agent_sessions").fetchone()[0] == 21
            assert len(list((tmp_path / "made").iterdir())) == 1, "one that is outdated is removed"
        assert len(made) == 10
    assert not list((tmp_path / "made").iterdir())
    with contextlib.closing(sqlite3.connect(copy)) as db, db:
        db.execute("UPDATE agent_messages SET message_data = replace(message_data, '19', 'new')")
    assert import_history(m, AGENTS, copy, workspace_id="ws").messages.updated == 1


def test_a_database_with_damaged_pages_gives_what_can_be_read_and_a_report(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(AGENTS_DB.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for number in range(200):
            item = json.dumps({"role": "user", "content": f"{number} {'x' * 500}"})
            db.execute("INSERT INTO agent_messages (session_id, message_data) VALUES ('user_1', ?)", (item,))
    whole = path.read_bytes()
    reported = kept = 0
    for seed in range(150):
        chance = random.Random(seed)
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(100, len(data))
            data[at : at + 200] = chance.randbytes(200)
        path.write_bytes(data[: chance.choice([len(data), len(data), len(data) // 2])])
        parsed, report = read(AGENTS, path)
        reported += not report.complete
        kept += sum(len(each.messages) for each in parsed)
    assert reported > 20
    assert kept > 2_000


def test_each_banner_of_aider_begins_a_session_and_a_new_one_leaves_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / ".aider.chat.history.md"
    shutil.copyfile(HISTORY, path)
    before = list(AIDER.sessions(path, ImportReport()))
    with path.open("a") as file:
        file.write("\n# aider chat started at 2026-01-02 09:00:00\n\n#### hello\n\nHi.\n")
    after = list(AIDER.sessions(tmp_path, ImportReport()))
    assert [(each.id, each.directory) for each in after[:1]] == [(each.id, str(tmp_path)) for each in before]
    parsed = after[1].read(ImportReport())
    assert parsed is not None
    assert said(parsed) == [("user", "hello"), ("assistant", "Hi.")]


def test_the_messages_of_strands_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAMPLES / "strands", tmp_path / "strands"))
    messages = folder / AGENT.relative_to(SAMPLES / "strands") / "messages"
    record = json.loads((messages / "message_3.json").read_text())
    record |= {"message": {"role": "user", "content": [{"text": "ten"}]}, "redact_message": None}
    (messages / "message_10.json").write_text(json.dumps(record))
    record["redact_message"] = {"role": "user", "content": [{"text": "[redacted]"}]}
    (messages / "message_9.json").write_text(json.dumps(record))
    (parsed,), _ = read(STRANDS, folder)
    assert said(parsed) == [
        ("user", "The slugify test fails. Can you fix it? file"),
        ("assistant", "The regex probably keeps trailing dashes. Let me look at the function first. tool_call"),
        ("tool", "import re"),
        ("assistant", "Fixed: trailing dashes are now stripped."),
        ("user", "[redacted]"),
        ("user", "ten"),
    ]
    assert parsed.session["agent"] == "default"


@pytest.mark.parametrize(("importer", "place"), PLACES, ids=lambda each: getattr(each, "name", ""))
def test_each_sample_is_known_comes_in_and_comes_in_once(importer: Importer, place: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(place, tmp_path / "source"))
    assert importer_of(copy) is importer
    with NativeSessionManager(tmp_path / "data") as m:
        first = import_history(m, importer, copy, workspace_id="ws")
        assert first.complete
        assert first.messages.imported > 3
        seq = m.status("ws").seq
        second = import_history(m, importer, copy, workspace_id="ws")
        assert (second.messages.imported, second.messages.updated) == (0, 0)
        assert m.status("ws").seq == seq
        assert m.check("ws").ok


@pytest.mark.parametrize(("importer", "place"), PLACES, ids=lambda each: getattr(each, "name", ""))
def test_none_of_them_takes_another_s_files_or_finds_any_in_an_empty_home(
    importer: Importer, place: Path, tmp_path: Path
) -> None:
    others = [path for other, path in PLACES if other is not importer]
    assert not any(importer.sniff(path) for path in [*others, tmp_path, tmp_path / "none", SAMPLES / "claude"])
    assert importer.sniff(place)
    assert all(isinstance(path, Path) for path in importer.locate(Computer(tmp_path, {}, "linux")))


@pytest.mark.parametrize(
    ("importer", "name"), [(CRUSH, Path(".crush", "crush.db")), (AIDER, Path(".aider.chat.history.md"))]
)
def test_what_a_project_holds_is_found_from_any_folder_below_it(importer: Importer, name: Path, tmp_path: Path) -> None:
    inner = tmp_path / "project" / "a" / "b"
    inner.mkdir(parents=True)
    there = tmp_path / "project" / name
    there.parent.mkdir(exist_ok=True)
    there.write_text("")
    home = tmp_path / "home"
    for current in (tmp_path / "project", inner):
        assert there in importer.locate(Computer(home, {}, "linux", current))
    for outside in (tmp_path, None):
        assert there not in importer.locate(Computer(home, {}, "linux", outside))
    assert importer.locate(Computer(tmp_path / "project", {}, "linux", inner)).count(there) == 1
