"""Codex's rollouts for tests: the samples, what is read of them, and one who writes lines as Codex does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nomad_sessions.formats import ImportReport, ParsedSession
from nomad_sessions.formats.codex import IMPORTER

SAMPLES = Path(__file__).parents[1] / "fixtures" / "codex"
FIRST, SECOND = "0199a213-81c0-7800-8aa1-bbab2a035a53", "0199a21f-0000-7000-8000-000000000001"
GEN1 = next((SAMPLES / "gen1").glob("*.jsonl"))
GEN2 = next((SAMPLES / "sessions").rglob(f"*{FIRST}.jsonl"))
GEN3 = next((SAMPLES / "sessions").rglob(f"*{SECOND}.jsonl"))
GEN4_FORK, GEN4 = sorted((SAMPLES / "paginated").rglob("*.jsonl"), key=lambda path: path.stat().st_size)
T0 = 1_767_261_600_000
FIX = [
    ("user", "The slugify test fails. Can you fix it? file"),
    ("assistant", "**Inspecting the regex** Let me look at the function first. shell"),
    ("tool", "import re\n"),
    ("assistant", "apply_patch"),
    ("tool", "Exit code: 0\nOutput:\nSuccess.\n"),
    ("assistant", "Fixed: trailing dashes are now stripped."),
]
TEST = [("user", "Now add a test."), ("assistant", "Added tests/test_slug.py.")]


def read(path: Path) -> tuple[list[ParsedSession], ImportReport]:
    report = ImportReport()
    parsed = [each.read(report) for each in IMPORTER.sessions(path, report)]
    return [each for each in parsed if each is not None], report


def one(path: Path) -> ParsedSession:
    (parsed,), _ = read(path)
    return parsed


def said(parsed: ParsedSession) -> list[tuple[str, str]]:
    return [(message["role"], words(message)) for message in parsed.messages]


def words(message: dict[str, Any]) -> str:
    parts = message.get("parts") or [{"type": "text", "content": message["content"]}]
    return " ".join(
        part.get("content") or (part["toolCall"]["function"]["name"] if "toolCall" in part else part["type"])
        for part in parts
    )


def times(parsed: ParsedSession) -> list[int]:
    return [message["createdAt"] - T0 for message in parsed.messages]


class Rollout:
    """Writes lines as Codex does from generation 2 on."""

    def __init__(self, folder: Path, thread: str = FIRST, *, ordinal: int | None = None, **meta: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"rollout-2026-01-01T10-00-00-{thread}.jsonl"
        self.records: list[dict[str, Any]] = []
        self.second = 0
        self.ordinal = ordinal
        self.add("session_meta", id=thread, timestamp="2026-01-01T10:00:00.000Z", cwd="/home/dev/demo", **meta)

    def add(self, kind: str, **payload: Any) -> None:
        time = f"2026-01-01T10:{self.second // 60:02}:{self.second % 60:02}.000Z"
        record: dict[str, Any] = {"timestamp": time, "type": kind, "payload": payload}
        if self.ordinal is not None:
            record["ordinal"] = self.ordinal
            self.ordinal += 1
        self.records.append(record)
        self.second += 1

    def item(self, kind: str, **payload: Any) -> None:
        self.add("response_item", type=kind, **payload)

    def event(self, kind: str, **payload: Any) -> None:
        self.add("event_msg", type=kind, **payload)

    def user(self, *blocks: str | dict[str, Any]) -> None:
        content = [{"type": "input_text", "text": each} if isinstance(each, str) else each for each in blocks]
        self.item("message", role="user", content=content)

    def answer(self, told: str) -> None:
        self.item("message", role="assistant", content=[{"type": "output_text", "text": told}])

    def turn(self, prompt: str, told: str, *, noted: bool) -> None:
        if noted:
            self.event("task_started", turn_id=prompt)
        self.user(prompt)
        self.answer(told)
        if noted:
            self.event("task_complete", turn_id=prompt)

    def save(self) -> Path:
        self.path.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        return self.path
