"""What Gemini CLI's importer does for many messages, rewinds and sub-agents: as much for each as for one alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.formats import ImportReport, ParsedSession, gemini
from nomad_sessions.formats.gemini import IMPORTER
from nomad_sessions.formats.jsonl import first_record
from nomad_sessions.storage.codec import decode

MANY = 28_000


def chat(path: Path, *records: dict[str, Any]) -> Path:
    """Writes a chat of lines after a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"sessionId": path.stem, "projectHash": "h", "startTime": "2026-01-01T10:00:00.000Z"}
    path.write_text("".join(json.dumps(record) + "\n" for record in (head, *records)))
    return path


def said(identifier: str, told: str) -> dict[str, Any]:
    return {"id": identifier, "type": "user", "content": told}


def read(path: Path) -> tuple[ParsedSession, ImportReport]:
    report = ImportReport()
    (found,) = IMPORTER.sessions(path, report)
    parsed = found.read(report)
    assert parsed is not None
    return parsed, report


def test_many_rewinds_take_linear_time(tmp_path: Path) -> None:
    turns = [
        (said(f"{number}", "kept"), said(f"r{number}", "retracted"), {"$rewindTo": f"r{number}"})
        for number in range(MANY)
    ]
    parsed, report = read(chat(tmp_path / "chats" / "many.jsonl", *(each for turn in turns for each in turn)))
    assert [each["imported"]["messageId"] for each in parsed.messages] == [f"{number}" for number in range(MANY)]
    assert report.ignored == {"taken back by a rewind": MANY}


@pytest.mark.parametrize("target", ["unknown", "", None, 1, ["1"], {"id": "1"}])
def test_a_rewind_to_what_is_no_message_takes_all_of_them_back(tmp_path: Path, target: object) -> None:
    before = [said("1", "One"), said("2", "Two"), {"$rewindTo": target}]
    parsed, report = read(chat(tmp_path / "chats" / "one.jsonl", *before, said("3", "Three")))
    assert [each["content"] for each in parsed.messages] == ["Three"]
    assert report.ignored == {"taken back by a rewind": 2}


def test_a_line_of_many_messages_is_decoded_once_whatever_was_updated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []

    def counted(raw: bytes) -> Any:
        decoded.append(raw)
        return decode(raw)

    monkeypatch.setattr(gemini, "decode", counted)
    whole = {"$set": {"messages": [said(f"{number}", "before") for number in range(40)]}}
    updates = [said(f"{number}", "after") for number in range(0, 40, 2)]
    parsed, _ = read(chat(tmp_path / "chats" / "one.jsonl", whole, *updates))
    assert [each["content"] for each in parsed.messages] == ["after", "before"] * 20
    assert len(decoded) == 1 + len(updates)


def test_sub_agents_of_sub_agents_are_looked_at_a_few_times_and_find_their_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: Counter[Path] = Counter()

    def counted(path: Path) -> dict[str, Any] | None:
        looked[path] += 1
        return first_record(path)

    monkeypatch.setattr(gemini, "first_record", counted)
    chats = tmp_path / "chats"
    for number in range(20):
        chat(chats / f"top{number}.jsonl", said("1", "Go"))
        chat(chats / f"top{number}" / f"mid{number}.jsonl", said("1", "Go"))
        chat(chats / f"top{number}" / f"mid{number}" / f"low{number}.jsonl", said("1", "Go"))
    report = ImportReport()
    parsed = {Path(found.place).stem: found.read(report) for found in IMPORTER.sessions(tmp_path, report)}
    sessions = {name: each.session for name, each in parsed.items() if each is not None}
    for number in range(20):
        top, mid, low = (sessions[f"{kind}{number}"] for kind in ("top", "mid", "low"))
        assert (low["parentId"], mid["parentId"], "parentId" in top) == (mid["id"], top["id"], False)
    assert max(looked.values()) <= 4
