"""No file of Claude Code's history and no block of its records goes without a word, whatever it begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.formats import importer_of
from nomad_sessions.formats.claude import IMPORTER
from tests.unit.test_claude import Writer, one, read, said, text, words

LOOSE: list[dict[str, Any]] = [
    {"type": "summary", "summary": "A title", "leafUuid": "x"},
    {"type": "custom-title", "customTitle": "A title"},
    {"type": "ai-title", "aiTitle": "A title"},
    {"type": "tag", "tag": "t"},
    {"type": "file-history-snapshot", "messageId": "m", "snapshot": {"trackedFileBackups": {}}},
    {"type": "queue-operation", "operation": "enqueue", "sessionId": "s", "timestamp": "2026-01-01T10:00:00.000Z"},
    {"type": "last-prompt", "lastPrompt": "p", "leafUuid": "x"},
    *({"type": kind, "sessionId": "s"} for kind in ("mode", "permission-mode", "cost-state", "tools-used")),
    *({"type": kind, "x": 1} for kind in ("api-request", "api-request-blob", "api-request-shape", "atis-latch")),
    {"type": "content-replacement", "x": 1},
    {"type": "of-another-year"},
]


def session(path: Path, prompt: str = "Hello", **envelope: Any) -> Writer:
    w = Writer(path, **envelope)
    w.user(prompt)
    w.answer("m1", text("Good day"))
    w.save()
    return w


@pytest.mark.parametrize("record", LOOSE, ids=lambda record: record["type"])
def test_a_session_is_found_whatever_its_first_record_is(tmp_path: Path, record: dict[str, Any]) -> None:
    w = session(tmp_path / "p" / "aaaa-0000.jsonl")
    w.path.write_text(f"{json.dumps(record)}\n" * 3 + w.path.read_text())
    for place in (tmp_path, w.path):
        assert importer_of(place) is IMPORTER
        assert [content for _, content in said(one(place))] == ["Hello", "Good day"]


def test_a_session_is_found_behind_a_torn_line_and_a_first_prompt_of_megabytes(tmp_path: Path) -> None:
    w = session(tmp_path / "p" / "bbbb-0000.jsonl", "x" * (3 << 20))
    w.path.write_text('{"type": "user", "uuid": \n' + w.path.read_text())
    for place in (tmp_path, w.path):
        assert importer_of(place) is IMPORTER
        (parsed,), report = read(place)
        assert len(said(parsed)[0][1]) == 3 << 20
        assert report.skipped == {"not JSON": 1}


def test_a_file_of_a_history_that_holds_no_session_is_in_the_report(tmp_path: Path) -> None:
    session(tmp_path / "p" / "cccc-0000.jsonl")
    for name, content in (("empty", ""), ("garbage", "x" * 5000), ("other", '{"a": 1}\n')):
        (tmp_path / "p" / f"{name}.jsonl").write_text(content)
    (tmp_path / "p" / "titles.jsonl").write_text(json.dumps(LOOSE[0]) + "\n")
    timeless = session(tmp_path / "p" / "timeless.jsonl")
    timeless.path.write_text(timeless.path.read_text().replace('"timestamp"', '"when"'))
    (parsed,), report = read(tmp_path)
    assert len(parsed.messages) == 2
    assert report.skipped == {"no record of a Claude Code session": 3, "none of its records has a time": 1}
    assert report.ignored == {"a file in which nothing was said": 1}
    assert {Path(warning.partition(": ")[0]).stem for warning in report.warnings} == {
        "empty",
        "garbage",
        "other",
        "timeless",
    }


def test_sub_agents_outlive_the_file_of_the_session_that_called_them(tmp_path: Path) -> None:
    main = session(tmp_path / "p" / "dddd-0000.jsonl")
    agents = tmp_path / "p" / "dddd-0000" / "subagents"
    session(agents / "agent-1.jsonl", "Look", sessionId="dddd-0000", isSidechain=True)
    session(agents / "workflows" / "w1" / "agent-2.jsonl", "Look there", sessionId="dddd-0000", isSidechain=True)
    (agents / "journal.jsonl").write_text("{}\n")
    (agents / "agent-3.jsonl").write_text("")
    whole, report = read(tmp_path)
    assert [each.session.get("parentId") for each in whole] == [None, whole[0].session["id"], whole[0].session["id"]]
    expected = {"a file beside those of sub-agents": 1}
    assert (report.ignored, report.skipped) == (expected, {"no record of a Claude Code session": 1})
    assert read(agents.parent)[0][0].session["parentId"] == whole[0].session["id"], "its file lies beside"
    main.path.write_text("garbage\n")
    assert "parentId" not in read(tmp_path)[0][0].session, "what is no session is no parent"
    main.path.unlink()
    orphans, _ = read(tmp_path)
    assert [each.session["id"] for each in orphans] == [each.session["id"] for each in whole[1:]]
    for each in orphans:
        assert each.session["imported"]["parentSourceId"] == "dddd-0000"
        assert each.session["imported"]["relation"] == "subagent"
        assert "parentId" not in each.session
        assert len(each.messages) == 2


def test_a_sub_agent_of_version_2_0_says_who_called_it_though_that_one_is_gone(tmp_path: Path) -> None:
    session(tmp_path / "p" / "agent-1.jsonl", "Look", sessionId="eeee-0000", isSidechain=True)
    mark = one(tmp_path).session["imported"]
    assert (mark["relation"], mark["parentSourceId"]) == ("subagent", "eeee-0000")


def test_every_block_of_a_result_is_kept(tmp_path: Path) -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}}
    found = {"type": "search_result", "source": "https://x", "content": [text("a hit")]}
    w = Writer(tmp_path / "ffff-0000.jsonl")
    w.user("Read")
    w.result("c1", [text("two files"), pdf, found])
    w.result("c2", {"type": "text", "text": "an object"})
    w.result("c3", ["a", "b"])
    w.result("c4", 7)
    w.result("c5", None)
    _, first, *others = one(w.save()).messages
    assert first["parts"] == [
        {"type": "text", "content": "two files"},
        {"type": "file", "file": {"mime": "application/pdf", "url": "data:application/pdf;base64,JVBERg=="}},
        {"type": "search_result", "claude": found},
    ]
    assert [words(each) for each in others[:2]] == ["an object", "a\nb"]
    assert others[2]["parts"][1] == {"type": "unknown", "claude": {"type": "unknown", "value": 7}}
    assert others[3]["content"] == ""


def test_every_shape_of_what_a_user_or_an_answer_says_is_kept(tmp_path: Path) -> None:
    w = Writer(tmp_path / "9999-0000.jsonl")
    w.user(["one", "two"])
    w.user({"type": "text", "text": "an object"})
    w.user(3)
    w.add("user", message="bare")  # type: ignore[arg-type]
    w.user(None)
    w.user([])
    w.answer("m1", "text alone", {"type": "odd"})  # type: ignore[arg-type]
    (parsed,), report = read(w.save())
    assert [words(each) for each in parsed.messages[:2]] == ["one two", "an object"]
    assert parsed.messages[2]["parts"] == [{"type": "unknown", "claude": {"type": "unknown", "value": 3}}]
    assert words(parsed.messages[3]) == "bare"
    assert report.ignored == {"a prompt that says nothing": 2}
    assert [part["type"] for part in parsed.messages[4]["parts"]] == ["text", "odd"]


def test_what_was_said_without_a_place_in_the_tree_is_left_out_with_its_place(tmp_path: Path) -> None:
    w = session(tmp_path / "1212-0000.jsonl")
    with w.path.open("a") as file:
        file.write(json.dumps({"type": "user", "message": {"role": "user", "content": "lost"}}) + "\n")
    _, report = read(w.path)
    assert report.skipped == {"a prompt or an answer without a uuid": 1}
    assert " at byte " in report.warnings[0]
