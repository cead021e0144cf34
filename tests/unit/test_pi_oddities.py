"""What pi and Goose never write comes in as far as it says something, and stops nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.formats import ImportReport
from nomad_sessions.formats.goose import IMPORTER as GOOSE
from nomad_sessions.formats.pi import IMPORTER as PI

SAMPLES = Path(__file__).parents[1] / "fixtures"
V1, V3 = sorted((SAMPLES / "pi").rglob("*.jsonl"))
HEADER = {"type": "session", "version": 3, "id": "s", "timestamp": "2026-01-01T10:00:00.000Z", "cwd": "/home/dev/demo"}


def write(path: Path, *messages: dict[str, Any], **header: Any) -> Path:
    records: list[dict[str, Any]] = [HEADER | header]
    for number, message in enumerate(messages):
        parent = None if number == 0 else f"e{number - 1}"
        records.append({"type": "message", "id": f"e{number}", "parentId": parent, "message": message})
    path.write_text("".join(json.dumps(record) + "\n" for record in records).replace('"HUGE"', "1e999"))
    return path


def test_a_text_without_a_text_is_kept_as_it_stands(tmp_path: Path) -> None:
    block = {"type": "text", "text": None}
    (found,) = PI.sessions(
        write(
            tmp_path / "x.jsonl",
            {"role": "user", "content": [block]},
            {"role": "toolResult", "toolCallId": "c", "content": [block]},
            {"role": "assistant", "content": [], "usage": {"input": 1, "cost": {"total": "HUGE"}}},
        ),
        ImportReport(),
    )
    parsed = found.read(ImportReport())
    assert parsed is not None
    kept = [{"type": "text", "pi": block}]
    assert [message.get("parts") for message in parsed.messages] == [kept, kept, []]
    assert parsed.messages[2]["usage"] == {"input": 1}, "what no float holds is no cost"
    assert "title" not in parsed.session


@pytest.mark.parametrize("parent", ["\0", "\ud800", "..", "/", "x" * 5_000, "C:\\none"])
def test_a_parent_that_no_file_can_be_is_kept_by_name(tmp_path: Path, parent: str) -> None:
    (found,) = PI.sessions(write(tmp_path / "x.jsonl", parentSession=parent), ImportReport())
    parsed = found.read(ImportReport())
    assert parsed is not None
    assert parsed.session["imported"]["parentSourceId"] == parent
    assert "parentId" not in parsed.session


def test_a_fork_is_read_again_when_its_parent_has_come(tmp_path: Path) -> None:
    fork = write(tmp_path / "fork.jsonl", id="f", parentSession="/elsewhere/parent.jsonl")
    (alone,) = PI.sessions(fork, ImportReport())
    write(tmp_path / "parent.jsonl", id="p")
    (linked,) = PI.sessions(fork, ImportReport())
    assert (linked.id, linked.stamp == alone.stamp) == (alone.id, False)


def test_a_text_without_a_text_is_no_title_of_goose_s(tmp_path: Path) -> None:
    path = Path(shutil.copy(SAMPLES / "goose" / "sessions.db", tmp_path))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE sessions SET name = ''")
        database.execute("UPDATE messages SET content_json = ? WHERE id = 1", ('[{"type": "text", "x": 1e999}]',))
    (found,) = GOOSE.sessions(path, ImportReport())
    parsed = found.read(ImportReport())
    assert parsed is not None
    assert parsed.messages[0]["parts"] == [{"type": "text", "goose": {"type": "text", "x": "inf"}}]
    assert "title" not in parsed.session
