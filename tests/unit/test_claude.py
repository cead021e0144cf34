"""Claude Code's histories come in whole: the tree with its forked results, sub-agents, compactions, forks, damage."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.formats import Computer, ImportReport, ParsedSession, claude
from nomad_sessions.formats.claude import IMPORTER

SAMPLES = Path(__file__).parents[1] / "fixtures" / "claude"
PROJECT = SAMPLES / "projects" / "-home-dev-demo"
STRAIGHT = PROJECT / "5f2b7c1e-3a4d-4e8f-9b6a-0c1d2e3f4a5b.jsonl"
TREE = PROJECT / "6a3c8d2f-4b5e-4f90-8c7b-1d2e3f4a5b6c.jsonl"
T0 = 1_767_261_600


def read(path: Path) -> tuple[list[ParsedSession], ImportReport]:
    report = ImportReport()
    parsed = [session for found in IMPORTER.sessions(path, report) if (session := found.read(report)) is not None]
    return parsed, report


def one(path: Path) -> ParsedSession:
    (parsed, *inner), _ = read(path)
    assert not inner
    return parsed


def said(parsed: ParsedSession) -> list[tuple[str, str]]:
    return [(message["role"], words(message)) for message in parsed.messages]


def words(message: dict[str, Any]) -> str:
    if "parts" not in message:
        return str(message["content"])
    return " ".join(
        part.get("content") or part["type"] + ":" + part.get("toolCall", {}).get("id", "") for part in message["parts"]
    )


class Writer:
    """Writes records as Claude Code does."""

    def __init__(self, path: Path, **envelope: Any) -> None:
        self.path = path
        self.number = 0
        self.last: str | None = None
        self.envelope = {"isSidechain": False, "cwd": "/home/dev/demo", "sessionId": path.stem, "version": "2.1.39"}
        self.envelope |= envelope
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lines: list[dict[str, Any]] = []

    def add(self, kind: str, message: dict[str, Any] | None = None, **fields: Any) -> str:
        self.number += 1
        uuid = fields.pop("uuid", f"u-{self.path.stem}-{self.number:02}")
        parent = fields.pop("parentUuid", self.last)
        time = f"2026-01-01T10:{self.number // 60:02}:{self.number % 60:02}.000Z"
        record = {"parentUuid": parent, **self.envelope, "type": kind, "uuid": uuid, "timestamp": time}
        if message is not None:
            record["message"] = message
        self.lines.append(record | fields)
        self.last = uuid
        return str(uuid)

    def user(self, content: Any, **fields: Any) -> str:
        return self.add("user", {"role": "user", "content": content}, **fields)

    def answer(self, message_id: str, *blocks: dict[str, Any], **fields: Any) -> str:
        for block in blocks:
            message = {"id": message_id, "role": "assistant", "model": "claude-sonnet-4-5", "content": [block]}
            self.add("assistant", message | {"usage": {"input_tokens": 10, "output_tokens": 5}}, **fields)
        return str(self.last)

    def result(self, call: str, content: Any, **fields: Any) -> str:
        return self.user([{"type": "tool_result", "tool_use_id": call, "content": content}], **fields)

    def save(self) -> Path:
        self.path.write_text("".join(json.dumps(record) + "\n" for record in self.lines))
        return self.path


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "Bash", "input": arguments}


def test_a_straight_file_becomes_one_message_for_each_response_prompt_and_result() -> None:
    parsed = one(STRAIGHT)
    assert said(parsed) == [
        ("user", "The slugify test fails. Can you fix it? file:"),
        (
            "assistant",
            "The regex probably keeps trailing dashes. Let me look at the function first. "
            "tool_call:toolu_read tool_call:toolu_bash",
        ),
        ("tool", "     1\u2192import re"),
        ("tool", "1 failed"),
        ("assistant", "Fixed: trailing dashes are now stripped."),
    ]
    session = parsed.session
    assert (session["title"], session["directory"]) == ("Slug fix", "/home/dev/demo")
    assert (session["createdAt"], session["updatedAt"]) == ((T0 + 1) * 1000, (T0 + 8) * 1000)
    assert session["model"] == {"providerId": "anthropic", "modelId": "claude-sonnet-4-5-20250929"}
    assert session["imported"]["sessionId"] == STRAIGHT.stem
    answer = parsed.messages[1]
    assert answer["usage"] == {"input": 10, "output": 5}, "said on each line, and counted once"
    assert answer["parts"][0]["signature"] == "c3ludGhldGlj"
    assert json.loads(answer["parts"][2]["toolCall"]["function"]["arguments"]) == {
        "file_path": "/home/dev/demo/slug.py"
    }
    assert [(m["toolCallId"], m["toolName"], m["status"]) for m in parsed.messages[2:4]] == [
        ("toolu_read", "Read", "completed"),
        ("toolu_bash", "Bash", "error"),
    ]


def test_the_bytes_of_an_image_come_in_unchanged() -> None:
    source = json.loads(STRAIGHT.read_text().splitlines()[0])["message"]["content"][1]["source"]
    file = one(STRAIGHT).messages[0]["parts"][1]["file"]
    assert file["mime"] == "image/png"
    assert base64.b64decode(file["url"].partition(",")[2]) == base64.b64decode(source["data"])


def test_a_tree_keeps_every_result_and_leaves_the_rewound_branch_out() -> None:
    (tree, agent), report = read(TREE)
    assert [role for role, _ in said(tree)] == [
        *("user", "assistant", "tool", "tool", "assistant", "tool", "assistant"),
        *("system", "system", "user", "assistant"),
    ]
    calls = [
        part["toolCall"]["id"] for m in tree.messages for part in m.get("parts", ()) if part["type"] == "tool_call"
    ]
    results = [message["toolCallId"] for message in tree.messages if message["role"] == "tool"]
    assert sorted(calls) == sorted(results) == ["toolu_bash", "toolu_read", "toolu_task"]
    assert "An answer on a branch that was rewound." not in str(said(tree))
    assert report.ignored["on a branch that was abandoned"] == 2
    assert report.ignored["a local command and its output"] == 2
    assert report.ignored["Claude Code's own record: some-future-record"] == 1
    assert report.complete
    assert tree.session["title"] == "Fix slugify and add a test"
    assert said(agent) == [("user", "Find callers of slugify"), ("assistant", "One caller: app.py")]
    assert agent.session["parentId"] == tree.session["id"]
    assert (agent.session["title"], agent.session["agent"]) == ("Find callers", "general-purpose")
    assert agent.session["imported"]["relation"] == "subagent"
    assert agent.session["imported"]["toolCallId"] == "toolu_task"


def test_a_torn_last_line_is_counted_with_its_place_and_costs_nothing_else() -> None:
    path = SAMPLES / "torn" / STRAIGHT.name
    (parsed,), report = read(path)
    assert said(parsed) == said(one(STRAIGHT))
    assert parsed.session["title"] == "Fix slugify test"
    assert report.skipped == {"a torn line": 1}
    assert report.warnings == [f"{path} at byte 4743: left out, a torn line"]


def test_a_folder_gives_each_session_once_by_their_time_and_finds_them_unread() -> None:
    report = ImportReport()
    found = list(IMPORTER.sessions(SAMPLES / "projects", report))
    assert [Path(each.place).name for each in found] == [TREE.name, "agent-a1b2c3d.jsonl", STRAIGHT.name]
    assert {each.directory for each in found} == {"/home/dev/demo"}
    assert report.sessions.read == 0
    again = list(IMPORTER.sessions(SAMPLES / "projects", report))
    assert [(each.id, each.stamp) for each in again] == [(each.id, each.stamp) for each in found]


def test_sub_agents_of_version_1_inside_of_the_file_become_sessions(tmp_path: Path) -> None:
    w = Writer(tmp_path / "11111111-0000.jsonl", version="1.0.51")
    w.user("Look at both")
    w.answer("m1", call("task-1"), call("task-2"))
    main = w.last
    roots = []
    for number in (1, 2):
        roots.append(w.user(f"Sub-task {number}", parentUuid=None, isSidechain=True))
        w.answer(f"s{number}", text(f"Found {number}"), isSidechain=True)
    w.last = main
    w.result("task-1", "one")
    w.result("task-2", "two")
    w.answer("m2", text("Both are fine"))
    parsed = one(w.save())
    assert said(parsed)[-1] == ("assistant", "Both are fine")
    assert [role for role, _ in said(parsed)] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [said(inner) for inner in parsed.inner] == [
        [("user", f"Sub-task {number}"), ("assistant", f"Found {number}")] for number in (1, 2)
    ]
    assert {inner.session["parentId"] for inner in parsed.inner} == {parsed.session["id"]}
    assert len({inner.session["id"] for inner in parsed.inner}) == 2
    assert parsed.inner[0].session["imported"]["sessionId"] == f"11111111-0000/{roots[0]}"


def test_sub_agents_of_version_2_0_beside_the_file_are_children_of_their_session(tmp_path: Path) -> None:
    main = Writer(tmp_path / "22222222-0000.jsonl")
    main.user("Hello")
    main.answer("m1", text("Hi"))
    main.save()
    agent = Writer(tmp_path / "agent-0a1b2c3d.jsonl", sessionId="22222222-0000", isSidechain=True, agentId="0a1b2c3d")
    agent.user("Warm up")
    agent.answer("a1", text("Ready"))
    agent.save()
    (first, second), report = read(tmp_path)
    assert second.session["parentId"] == first.session["id"]
    assert said(second) == [("user", "Warm up"), ("assistant", "Ready")]
    assert report.complete


def test_a_fork_and_its_origin_are_both_whole_and_linked(tmp_path: Path) -> None:
    origin = Writer(tmp_path / "33333333-0000.jsonl")
    origin.user("Start")
    origin.answer("m1", text("Started"))
    shared = list(origin.lines)
    origin.user("On this way")
    origin.answer("m2", text("Went this way"))
    origin.save()
    fork = Writer(tmp_path / "44444444-0000.jsonl")
    fork.lines = [{**record, "sessionId": "44444444-0000"} for record in shared]
    fork.number, fork.last = 10, shared[-1]["uuid"]
    fork.user("On that way")
    fork.answer("m3", text("Went that way"))
    fork.save()
    (one_, other), _ = read(tmp_path)
    assert [content for _, content in said(one_)] == ["Start", "Started", "On this way", "Went this way"]
    assert [content for _, content in said(other)] == ["Start", "Started", "On that way", "Went that way"]
    assert not {m["id"] for m in one_.messages} & {m["id"] for m in other.messages}, "the uuids are the same"
    assert other.session["parentId"] == one_.session["id"]
    assert other.session["imported"]["relation"] == "fork"
    assert "parentId" not in one_.session


def test_an_origin_that_is_named_and_not_there_is_kept_by_name(tmp_path: Path) -> None:
    w = Writer(tmp_path / "55555555-0000.jsonl", forkedFrom={"sessionId": "gone", "messageUuid": "x"})
    w.user("Hello")
    session = one(w.save()).session
    assert session["imported"]["parentSourceId"] == "gone"
    assert "parentId" not in session


def test_dangling_parents_cost_no_record(tmp_path: Path) -> None:
    w = Writer(tmp_path / "66666666-0000.jsonl")
    w.user("one")
    w.answer("m1", text("two"))
    w.add("progress", parentUuid="nowhere")
    w.user("three", parentUuid="nobody")
    w.answer("m2", text("four"))
    w.add("system", None, subtype="compact_boundary", parentUuid=None, logicalParentUuid="phantom", content="Compacted")
    w.user("a summary", isCompactSummary=True)
    w.user("five")
    parsed = one(w.save())
    assert [content for _, content in said(parsed)] == ["one", "two", "three", "four", "Compacted", "a summary", "five"]


def test_what_went_wrong_is_an_answer_with_an_error(tmp_path: Path) -> None:
    w = Writer(tmp_path / "77777777-0000.jsonl")
    w.user("Hello")
    failed = {"id": "x", "role": "assistant", "model": "<synthetic>", "content": [text("API Error: 529")]}
    w.add("assistant", failed, isApiErrorMessage=True)
    message = one(w.save()).messages[1]
    assert (message["status"], message["error"]) == ("error", {"name": "APIError", "message": "API Error: 529"})
    assert "model" not in message


def test_blocks_of_other_types_are_kept_as_they_are(tmp_path: Path) -> None:
    w = Writer(tmp_path / "88888888-0000.jsonl")
    redacted = {"type": "redacted_thinking", "data": "abc"}
    w.user([{"type": "future", "x": [1]}, text("and text")])
    w.answer("m", redacted, {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}})
    prompt, answer = one(w.save()).messages
    assert prompt["parts"][0] == {"type": "future", "claude": {"type": "future", "x": [1]}}
    assert answer["parts"][0] == {"type": "redacted_thinking", "claude": redacted}
    assert answer["parts"][1]["toolCall"]["function"]["name"] == "web_search"
    assert answer["parts"][1]["claude"] == {"type": "server_tool_use"}


@pytest.mark.parametrize("large", [False, True])
def test_damage_in_the_middle_is_counted_and_what_follows_is_read(
    tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:  # It is read twice: once to know which records count.
        monkeypatch.setattr(claude, "LARGE", 1)
    w = Writer(tmp_path / "99999999-0000.jsonl")
    for number in range(6):
        w.user(f"prompt {number}")
    lines = [json.dumps(record).encode() for record in w.lines]
    half = lines[1][:50]
    damaged = [lines[0], half + lines[2], b"\0" * 300 + lines[3], lines[4] + lines[5], b"\xff\xfe{", b"[1]", b""]
    w.path.write_bytes(b"\n".join(damaged))
    (parsed,), report = read(w.path)
    assert [content for _, content in said(parsed)] == [f"prompt {number}" for number in (0, 2, 3, 4, 5)]
    assert report.skipped == {
        "records spliced into one line": 2,
        "NUL bytes": 1,
        "invalid UTF-8": 1,
        "not JSON": 1,
    }
    assert all(" at byte " in warning for warning in report.warnings)


@pytest.mark.parametrize("content", ["", "\n\n", "null\n", "{}\n", '{"type": "summary"}\n', "[]\n", "\0" * 5000])
def test_a_file_without_a_conversation_gives_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text(content)
    assert read(path)[0] == []
    assert not IMPORTER.sniff(path)


def test_its_files_are_known_by_content_and_others_are_not(tmp_path: Path) -> None:
    assert IMPORTER.sniff(STRAIGHT)
    assert IMPORTER.sniff(SAMPLES / "projects")
    assert not IMPORTER.sniff(tmp_path)
    assert not IMPORTER.sniff(tmp_path / "none.jsonl")
    other = tmp_path / "codex.jsonl"
    other.write_text('{"timestamp": "2026-01-01T10:00:00Z", "type": "session_meta", "payload": {"id": "x"}}\n')
    assert not IMPORTER.sniff(other)


def test_the_place_is_the_home_folder_s_or_what_the_environment_says(tmp_path: Path) -> None:
    home = Computer(tmp_path, {}, "linux")
    assert IMPORTER.locate(home) == [tmp_path / ".claude" / "projects"]
    moved = Computer(tmp_path, {"CLAUDE_CONFIG_DIR": "/elsewhere"}, "linux")
    assert IMPORTER.locate(moved) == [Path("/elsewhere/projects")]
