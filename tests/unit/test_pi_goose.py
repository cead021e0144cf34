"""pi's and Goose's histories: what their files say comes in, in order, and whatever else they hold is a report."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import Computer, Importer, ImportReport, ParsedSession, import_history, importer_of
from nomad_sessions.formats.goose import IMPORTER as GOOSE
from nomad_sessions.formats.pi import IMPORTER as PI

SAMPLES = Path(__file__).parents[1] / "fixtures"
V1, V3 = sorted((SAMPLES / "pi").rglob("*.jsonl"))
DATABASE = SAMPLES / "goose" / "sessions.db"
ASKED = ("user", "The slugify test fails. Can you fix it? file")
LOOKED = ("assistant", "The regex probably keeps trailing dashes. Let me look at the function first. read bash")
RESULTS = [("tool", "import re"), ("tool", "1 failed")]
FIXED = ("assistant", "Fixed: trailing dashes are now stripped.")


def read(importer: Importer, path: Path) -> tuple[list[ParsedSession], ImportReport]:
    report = ImportReport()
    parsed = [each.read(report) for each in importer.sessions(path, report)]
    return [each for each in parsed if each is not None], report


def said(parsed: ParsedSession) -> list[tuple[str, str]]:
    return [(message["role"], words(message)) for message in parsed.messages]


def words(message: dict[str, Any]) -> str:
    parts = message.get("parts") or [{"type": "text", "content": message["content"]}]
    return " ".join(
        str(part.get("content") or (part["toolCall"]["function"]["name"] if "toolCall" in part else part["type"]))
        for part in parts
    )


def test_version_1_is_a_list_with_a_compaction_that_keeps_the_end() -> None:
    (parsed,), report = read(PI, V1)
    assert said(parsed) == [ASKED, LOOKED, *RESULTS, FIXED, ("system", "Fixed slugify.")]
    assert parsed.messages[-1]["metadata"] == {"compaction": {"tailStart": parsed.messages[4]["id"]}}
    assert parsed.session["directory"] == "/home/dev/demo"
    assert parsed.session["model"] == {"providerId": "anthropic", "modelId": "claude-sonnet-4-5"}
    assert report.complete


def test_version_3_is_the_path_to_the_last_entry() -> None:
    (parsed,), report = read(PI, V3)
    assert said(parsed) == [
        ASKED,
        LOOKED,
        *RESULTS,
        FIXED,
        ("system", "Tried another idea."),
        ("user", "$ ls slug.py"),
        ("user", "Now add a test."),
        ("assistant", "Added tests/test_slug.py."),
    ]
    assert parsed.session["title"] == "Slug fix"
    assert parsed.session["updatedAt"] == 1_767_261_633_000
    assert parsed.messages[3]["status"] == "error"
    assert parsed.messages[0]["parts"][1]["file"]["mime"] == "image/png"
    assert parsed.messages[1]["parts"][0]["signature"] == "c3ludGhldGlj"
    assert report.ignored == {
        "on a branch that was left": 2,
        "pi's own record: label": 1,
        "pi's own record: thinking_level_change": 1,
    }
    assert report.complete


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_missing_parent_goes_on_at_the_entry_before(tmp_path: Path) -> None:
    records = [record for record in entries(V3) if record.get("id") != "00000005"]
    (parsed,), _ = read(PI, write(tmp_path / "x.jsonl", records))
    assert said(parsed)[:3] == [ASKED, LOOKED, ("tool", "1 failed")]


def test_a_fork_is_linked_to_its_parent_and_an_aborted_answer_is_an_error(tmp_path: Path) -> None:
    records = entries(V3)
    folder = tmp_path / "--home-dev-demo--"
    folder.mkdir()
    shutil.copy(V3, folder / "parent.jsonl")
    fork = [{**records[0], "id": "forked", "parentSession": "C:\\\\elsewhere\\\\parent.jsonl"}, *records[1:4]]
    fork[-1]["message"] = {
        "role": "assistant",
        "content": "cut",
        "stopReason": "aborted",
        "timestamp": 1_767_261_700_000,
    }
    fork.append(
        {"type": "context_edit", "id": "e", "parentId": fork[-1]["id"], "targetId": fork[-1]["id"], "replacement": None}
    )
    fork.append(
        {"type": "custom_message", "id": "c", "parentId": "e", "customType": "note", "content": "told", "display": True}
    )
    write(folder / "fork.jsonl", fork)
    found, _ = read(PI, tmp_path)
    parsed = {each.session["imported"]["sessionId"]: each for each in found}
    child = parsed["forked"]
    assert child.session["parentId"] == parsed[records[0]["id"]].session["id"]
    assert child.session["imported"]["relation"] == "fork"
    assert (child.messages[0]["status"], child.messages[0]["error"]["name"]) == ("error", "aborted")
    assert child.messages[0]["pi"] == {"contextEdit": None}
    assert said(child)[1:] == [("user", "told")]


def test_where_pi_keeps_its_sessions(tmp_path: Path) -> None:
    assert PI.locate(Computer(tmp_path, {}, "linux")) == [tmp_path / ".pi" / "agent" / "sessions"]
    there = {"PI_CODING_AGENT_DIR": str(tmp_path / "a")}
    assert PI.locate(Computer(tmp_path, there, "linux")) == [tmp_path / "a" / "sessions"]
    assert PI.locate(Computer(tmp_path, {**there, "PI_CODING_AGENT_SESSION_DIR": "/s"}, "linux")) == [Path("/s")]
    assert importer_of(SAMPLES / "pi") is PI
    assert importer_of(V1) is PI


def test_goose_s_messages_come_in_with_responses_as_messages_of_tools() -> None:
    (parsed,), report = read(GOOSE, DATABASE)
    assert said(parsed) == [
        ("user", "The slugify test fails. Can you fix it?"),
        ("assistant", "The regex probably keeps trailing dashes. Let me look at the function first. developer__shell"),
        ("tool", "import re"),
        FIXED,
    ]
    assert parsed.messages[2]["toolName"] == "developer__shell"
    assert (parsed.session["title"], parsed.session["directory"]) == ("Slug fix", "/home/dev/demo")
    assert parsed.messages[0]["createdAt"] == 1_767_261_600_000
    assert report.complete
    assert importer_of(DATABASE) is GOOSE


def test_what_goose_marks_is_kept(tmp_path: Path) -> None:
    shutil.copy(DATABASE, tmp_path / "sessions.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "sessions.db")) as database, database:
        database.execute(
            "UPDATE sessions SET session_type = 'sub_agent', name = '', model_config_json = '{\"model_name\": \"m\"}'"
        )
        database.execute("UPDATE messages SET metadata_json = '{\"userVisible\": false}' WHERE id = 1")
        database.execute("UPDATE messages SET content_json = 'cut [' WHERE id = 4")
    (parsed,), report = read(GOOSE, tmp_path)
    assert parsed.session["title"] == "The slugify test fails. Can you fix it?"
    assert parsed.session["goose"] == {"sessionType": "sub_agent"}
    assert parsed.session["model"] == {"providerId": "", "modelId": "m"}
    assert parsed.messages[0]["goose"] == {"userVisible": False}
    assert report.skipped == {"its content is no JSON": 1}


@pytest.mark.parametrize(("importer", "path"), [(PI, SAMPLES / "pi"), (GOOSE, DATABASE)], ids=["pi", "goose"])
def test_twice_is_as_once_and_what_has_grown_is_added(importer: Importer, path: Path, tmp_path: Path) -> None:
    source = tmp_path / path.name
    shutil.copytree(path, source) if path.is_dir() else shutil.copy(path, source)
    with NativeSessionManager(tmp_path / "data", durability="os") as m:
        first = import_history(m, importer, source, workspace_id="ws")
        assert first.messages.imported == first.messages.read > 0
        again = import_history(m, importer, source, workspace_id="ws")
        assert (again.messages.imported, again.sessions.unchanged) == (0, first.sessions.imported)
        if importer is PI:
            (grown,) = source.rglob("2026*.jsonl")
            with grown.open("a", encoding="utf-8") as file:
                message = {"role": "user", "content": "More", "timestamp": 1_767_261_700_000}
                file.write(
                    json.dumps({"type": "message", "id": "z", "parentId": "0000000f", "message": message}) + "\n"
                )
        else:
            with contextlib.closing(sqlite3.connect(source)) as database, database:
                database.execute(
                    "INSERT INTO messages (session_id, role, content_json, created_timestamp) VALUES "
                    '(\'20260101_1\', \'user\', \'[{"type": "text", "text": "More"}]\', 1767261700)'
                )
        third = import_history(m, importer, source, workspace_id="ws")
        assert (third.messages.imported, third.messages.updated) == (1, 0)
