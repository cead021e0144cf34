"""Codex's conversations come in whole: four generations, forks of both kinds, rollbacks, sub-agents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import import_history
from nomad_sessions.formats.codex import IMPORTER
from nomad_sessions.formats.codex_items import NOT_RECORDED
from nomad_sessions.formats.model_messages import messages_for_model
from tests.support.rollouts import (
    FIRST,
    FIX,
    GEN1,
    GEN2,
    GEN3,
    GEN4,
    GEN4_FORK,
    SAMPLES,
    SECOND,
    T0,
    TEST,
    Rollout,
    one,
    read,
    said,
    times,
    words,
)


@pytest.mark.parametrize("path", [GEN1, GEN2, GEN4], ids=["1", "2", "4"])
def test_the_generations_say_the_same(path: Path) -> None:
    parsed = one(path)
    assert said(parsed) == FIX
    session, messages = parsed.session, parsed.messages
    assert session["createdAt"] == T0
    assert session["updatedAt"] == messages[-1]["createdAt"]
    assert session["directory"] == "/home/dev/demo"
    assert times(parsed) == sorted(set(times(parsed))), "each has a time of its own, and later ones are later"
    assert messages[0]["parts"][1]["file"]["url"].startswith("data:image/png;base64,iVBORw0KGgo")
    calls = [part["toolCall"] for message in messages for part in message.get("parts", ()) if "toolCall" in part]
    assert json.loads(calls[0]["function"]["arguments"]) == {"command": ["bash", "-lc", "cat slug.py"]}
    assert json.loads(calls[1]["function"]["arguments"])["input"].startswith("*** Begin Patch\n")
    results = [message for message in messages if message["role"] == "tool"]
    assert [(each["toolCallId"], each["toolName"], each["status"]) for each in results] == [
        ("call_1", "shell", "completed"),
        ("call_2", "apply_patch", "completed"),
    ]


def test_what_is_no_part_of_a_conversation_is_counted() -> None:
    _, report = read(GEN1)
    assert report.ignored == {"Codex's own record: state": 3, "context that Codex gives the model": 1}
    (parsed,), report = read(GEN2)
    assert report.ignored == {
        "context that Codex gives the model": 1,
        "Codex's own record: user_message": 1,
        "Codex's own record: agent_reasoning": 1,
        "Codex's own record: agent_message": 2,
    }
    assert report.complete
    assert parsed.session["model"] == {"providerId": "openai", "modelId": "gpt-5.1-codex"}
    assert parsed.messages[-1]["usage"] == {"input": 90, "output": 20, "reasoning": 5, "cacheRead": 10}
    assert parsed.session["imported"] == {
        "tool": "codex",
        "sessionId": FIRST,
        "path": str(GEN2),
        "version": "0.58.0",
    }


def test_a_copied_fork_has_the_times_of_its_origin_and_lacks_what_was_rolled_back() -> None:
    (origin, fork), report = read(SAMPLES / "sessions")
    assert said(fork) == [*FIX, ("system", "SUMMARY: slugify was fixed."), *TEST]
    assert times(fork) == [300, 402, 703, 803, 903, 1003, 600_406, 600_509, 600_710]
    assert fork.session["parentId"] == origin.session["id"]
    assert fork.session["imported"]["relation"] == "fork"
    assert fork.messages[6]["metadata"] == {"compaction": {"tailStart": None}}
    assert report.ignored["in a turn that was rolled back"] == 2
    assert not {each["id"] for each in origin.messages} & {each["id"] for each in fork.messages}


def test_a_copied_fork_without_its_origin_has_the_same_ids_and_the_time_of_the_fork(tmp_path: Path) -> None:
    fork = read(SAMPLES / "sessions")[0][1]
    alone = one(Path(shutil.copy(GEN3, tmp_path)))
    assert said(alone) == said(fork)
    assert [each["id"] for each in alone.messages] == [each["id"] for each in fork.messages]
    assert set(times(alone)[:6]) == {600_000}
    assert alone.session["imported"]["parentSourceId"] == FIRST
    assert "parentId" not in alone.session


def test_a_copy_of_a_copy_has_the_times_of_the_first(tmp_path: Path) -> None:
    for path in (GEN2, GEN3):
        shutil.copy(path, tmp_path)
    records = [json.loads(line) for line in GEN3.read_text().splitlines()]
    again = Rollout(tmp_path, "0199a21f-0000-7000-8000-000000000002", forked_from_id=SECOND)
    again.records += [{**record, "timestamp": "2026-01-01T12:00:00.000Z"} for record in records]
    again.user("On we go")
    again.save()
    parsed = next(each for each in read(tmp_path)[0] if each.session["imported"]["sessionId"].endswith("2"))
    assert times(parsed)[:-1] == [300, 402, 703, 803, 903, 1003, 600_406, 600_509, 600_710]


def test_a_fork_of_generation_4_begins_with_the_lines_of_its_origin() -> None:
    (origin, fork), report = read(SAMPLES / "paginated")
    assert said(origin) == FIX
    assert said(fork) == [*FIX, *TEST]
    assert times(fork)[-2:] == [900_100, 900_200]
    assert fork.session["parentId"] == origin.session["id"]
    assert report.complete
    assert not report.warnings


def test_a_fork_of_generation_4_finds_its_origin_beside_it_and_says_when_it_is_gone(tmp_path: Path) -> None:
    assert said(one(GEN4_FORK)) == [*FIX, *TEST]
    (parsed,), report = read(Path(shutil.copy(GEN4_FORK, tmp_path)))
    assert said(parsed) == TEST
    assert [each["id"] for each in parsed.messages] == [each["id"] for each in one(GEN4_FORK).messages[-2:]]
    assert len(report.warnings) == 1
    assert "is not there, with which it begins" in report.warnings[0]
    assert report.complete, "the warning is all: nothing that is there was left out"


def test_forks_of_forks_take_from_each_what_is_below_the_ordinals_on_the_way(tmp_path: Path) -> None:
    names = [f"0199a21f-0000-7000-8000-00000000000{number}" for number in range(3)]
    base = Rollout(tmp_path, names[0], ordinal=0)
    for number in range(1, 4):
        base.user(f"base {number}")
    base.save()
    middle = Rollout(tmp_path, names[1], ordinal=3, history_base={"thread_id": names[0], "end_ordinal_exclusive": 3})
    middle.user("middle 4")
    middle.user("middle 5")
    middle.save()
    leaf = Rollout(tmp_path, names[2], ordinal=5, history_base={"thread_id": names[1], "end_ordinal_exclusive": 5})
    leaf.user("leaf 6")
    early = {"history_base": {"thread_id": names[1], "end_ordinal_exclusive": 2}}
    other = Rollout(tmp_path, "0199a21f-0000-7000-8000-000000000009", ordinal=2, **early)
    other.user("other 3")
    leaf.save(), other.save()
    told = {each.session["imported"]["sessionId"][-1]: [text for _, text in said(each)] for each in read(tmp_path)[0]}
    assert told["1"] == ["base 1", "base 2", "middle 4", "middle 5"]
    assert told["2"] == ["base 1", "base 2", "middle 4", "leaf 6"]
    assert told["9"] == ["base 1", "other 3"]


def test_forks_in_a_circle_end(tmp_path: Path) -> None:
    names = ["0199a21f-0000-7000-8000-00000000000a", "0199a21f-0000-7000-8000-00000000000b"]
    for name, other in (names, names[::-1]):
        w = Rollout(tmp_path, name, ordinal=0, history_base={"thread_id": other, "end_ordinal_exclusive": 9})
        w.user(name[-1])
        w.save()
    for name, other in (("c", "d"), ("d", "c")):
        copied = Rollout(tmp_path, names[0][:-1] + name, forked_from_id=names[0][:-1] + other)
        copied.user(name)
        copied.save()
    parsed, report = read(tmp_path)
    assert [[text for _, text in said(each)] for each in parsed] == [["b", "a"], ["a", "b"], ["c"], ["d"]]
    assert len(report.warnings) == 2


@pytest.mark.parametrize("noted", [True, False], ids=["turns are noted", "turns are not noted"])
@pytest.mark.parametrize(("turns", "left"), [(0, 3), (1, 2), (2, 1), (3, 0), (10**30, 0)])
def test_a_rollback_drops_the_last_turns(tmp_path: Path, turns: int, left: int, noted: bool) -> None:
    w = Rollout(tmp_path)
    for number in range(3):
        w.turn(f"prompt {number}", f"answer {number}", noted=noted)
    w.event("thread_rolled_back", num_turns=turns)
    w.turn("after", "done", noted=noted)
    (parsed,), report = read(w.save())
    kept = [text for number in range(left) for text in (f"prompt {number}", f"answer {number}")]
    assert [text for _, text in said(parsed)] == [*kept, "after", "done"]
    assert report.ignored.get("in a turn that was rolled back", 0) == 2 * (3 - left)


def test_a_turn_is_what_is_between_its_events(tmp_path: Path) -> None:
    w = Rollout(tmp_path)
    w.turn("first", "one", noted=True)
    w.event("task_started", turn_id="2")
    w.user("second")
    w.answer("two")
    w.user("and that")  # Into a turn that is running.
    w.answer("two and a half")
    w.event("task_complete", turn_id="2")
    w.event("task_started", turn_id="3")
    w.add("compacted", message="SUMMARY")
    w.event("task_complete", turn_id="3")
    w.event("thread_rolled_back", num_turns=1)
    assert [text for _, text in said(one(w.save()))] == ["first", "one"]


@pytest.mark.parametrize("turns", ["1", -1, None, 1.0, True])
def test_a_rollback_of_no_number_of_turns_is_a_warning(tmp_path: Path, turns: Any) -> None:
    w = Rollout(tmp_path)
    w.turn("first", "one", noted=True)
    w.event("thread_rolled_back", num_turns=turns)
    (parsed,), report = read(w.save())
    assert len(parsed.messages) == 2
    assert len(report.warnings) == 1


@pytest.mark.parametrize(
    ("output", "told", "code"),
    [
        ('{"output": "no\\n", "metadata": {"exit_code": 2}}', "no\n", 2),
        ('{"output": "yes", "metadata": {"exit_code": 0}}', "yes", 0),
        ('{"output": 1}', '{"output": 1}', None),
        ("Exit code: 1\nWall time: 0.1 seconds\nOutput:\nno", None, 1),
        ("Chunk ID: a1\nWall time: 0.1 seconds\nProcess exited with code -9\nOutput:\nno", None, -9),
        ("Chunk ID: a1\nWall time: 0.1 seconds\nProcess running with session ID 7\nOutput:\nExit code: 3", None, None),
        ("The log says\nExit code: 1\n", None, None),
        (f"Exit code: {'9' * 5000}", None, None),
        ("", "", None),
    ],
)
def test_whether_a_call_failed_is_told_by_its_output(
    tmp_path: Path, output: str, told: str | None, code: int | None
) -> None:
    w = Rollout(tmp_path)
    w.item("function_call", name="exec_command", arguments="{}", call_id="c")
    w.item("function_call_output", call_id="c", output=output)
    result = one(w.save()).messages[1]
    assert result["content"] == (output if told is None else told)
    assert result["status"] == ("error" if code else "completed")
    assert result.get("metadata") == (None if code is None else {"exitCode": code})


def test_every_kind_of_item_comes_in_or_is_counted(tmp_path: Path) -> None:
    w = Rollout(tmp_path)
    w.item("reasoning", summary=[], encrypted_content="x")
    w.item("reasoning", summary=[], content=[{"type": "reasoning_text", "text": "Hm."}])
    w.item("local_shell_call", call_id="l", status="completed", action={"type": "exec", "command": ["ls"]})
    w.item("function_call", name="find", namespace="mcp__x", arguments='{"a": 1}', call_id="f")
    w.item("tool_search_call", call_id="s", arguments={"query": "q"})
    w.item("web_search_call", status="failed", action={"type": "search", "query": "slug"})
    w.item("image_generation_call", id="ig", status="completed", result="iVBORw0KGgo=")
    w.item(
        "function_call_output",
        call_id="l",
        output=[
            {"type": "input_text", "text": "a"},
            {"type": "input_image", "image_url": "data:image/gif;base64,R0k="},
        ],
    )
    w.item("function_call_output", call_id="f", output={"content": "b", "success": False})
    w.item("tool_search_output", call_id="s", status="completed", tools=[{"name": "t"}])
    for kind in ("agent_message", "ghost_snapshot", "compaction"):
        w.item(kind)
    w.add("world_state", x=1)
    w.item("message", role="developer", content=[{"type": "input_text", "text": "Obey."}])
    (parsed,), report = read(w.save())
    answer, *results = parsed.messages
    thinking, *calls, image = answer["parts"]
    assert thinking == {"type": "thinking", "content": "Hm."}
    assert [part["toolCall"]["function"] for part in calls] == [
        {"name": "local_shell", "arguments": '{"command":["ls"]}'},
        {"name": "find", "arguments": '{"a": 1}'},
        {"name": "tool_search", "arguments": '{"query":"q"}'},
        {"name": "web_search", "arguments": '{"query":"slug"}'},
    ]
    assert calls[1]["codex"] == {"namespace": "mcp__x"}
    search = calls[3]["toolCall"]["id"]
    assert calls[3]["toolResult"] == {"toolCallId": search, "content": NOT_RECORDED, "isError": True}
    assert image["file"] == {"mime": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="}
    assert [(each["toolName"], words(each), each["status"]) for each in results] == [
        ("local_shell", "a file", "completed"),
        ("find", "b", "error"),
        ("tool_search", '[{"name":"t"}]', "completed"),
    ]
    assert report.ignored == {
        "an item that holds nothing to be read, as encrypted reasoning": 1,
        "Codex's own record: agent_message": 1,
        "Codex's own record: ghost_snapshot": 1,
        "Codex's own record: compaction": 1,
        "Codex's own record: world_state": 1,
        "instructions that Codex gives the model": 1,
    }


def test_the_tokens_of_a_response_are_counted_once(tmp_path: Path) -> None:
    w = Rollout(tmp_path)
    w.user("Go")
    for total, told in ((100, "One. "), (100, ""), (150, "Two.")):  # Told again as limits change, with the same total.
        if told:
            w.answer(told)
        spent = {"input_tokens": 50, "cached_input_tokens": 40, "output_tokens": 5, "reasoning_output_tokens": 1}
        w.event("token_count", info={"total_token_usage": {"total_tokens": total}, "last_token_usage": spent})
    w.event("token_count", info=None)
    usage = {"input": 20, "output": 10, "reasoning": 2, "cacheRead": 80}
    assert one(w.save()).messages[1]["usage"] == usage
    paged = Rollout(tmp_path, SECOND, ordinal=0)
    for response in ("r1", "r1", "r2"):
        paged.answer(response)
        paged.add("token_usage_record", response_id=response, usage=spent)
        paged.event("token_count", info={"total_token_usage": {"total_tokens": 1}, "last_token_usage": spent})
    assert one(paged.save()).messages[0]["usage"] == usage


def test_context_that_codex_adds_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    w = Rollout(tmp_path)
    instructions = "# AGENTS.md instructions for /home/dev\n\n<INSTRUCTIONS>\nx\n</INSTRUCTIONS>"
    w.user(instructions, "<environment_context>\n</environment_context>")
    shell = "<user_shell_command>\n<command>\nls\n</command>\n</user_shell_command>"
    w.user(shell)
    editor = "# Context from my IDE setup:\n\n## My request for Codex:\nMend it"
    open_tag = "<image name=[Image #1]>"
    w.user(instructions, open_tag, {"type": "input_image", "file_id": "file-1"}, "</image>", editor)
    w.user("<environment_context> is a tag of Codex: why?")
    w.event("thread_rolled_back", num_turns=2)
    w.user("<turn_aborted>\nx\n</turn_aborted>")
    w.event("thread_rolled_back", num_turns=1)
    w.user({"type": "input_image", "file_id": "file-2"}, editor)
    (parsed,), report = read(w.save())
    assert [text for _, text in said(parsed)] == [shell, f"[image file-2] {editor}"]
    assert parsed.session["title"] == "Mend it"
    assert report.ignored["context that Codex gives the model"] == 4
    assert report.ignored["in a turn that was rolled back"] == 2


def test_a_summary_that_is_encrypted_leaves_the_context_of_a_model_whole(tmp_path: Path) -> None:
    for message, context in (("SUMMARY", ["SUMMARY", "more"]), ("", ["before", "Conversation compacted", "more"])):
        w = Rollout(tmp_path / (message or "encrypted"))
        w.user("before")
        w.add("compacted", message=message, replacement_history=[])
        w.user("more")
        with NativeSessionManager(tmp_path / f"data {message}") as m:
            (session_id,) = import_history(m, IMPORTER, w.save(), workspace_id="ws").session_ids
            assert [each["content"] for each in messages_for_model(m, "ws", session_id)] == context


def test_a_sub_agent_is_a_child_of_the_thread_that_called_it(tmp_path: Path) -> None:
    main = Rollout(tmp_path)
    main.user("Look")
    main.save()
    for thread, source in (
        (SECOND, {"thread_spawn": {"parent_thread_id": FIRST, "depth": 1, "agent_role": "explorer"}}),
        ("0199a21f-0000-7000-8000-00000000000e", "review"),
        ("0199a21f-0000-7000-8000-00000000000f", {"thread_spawn": {"parent_thread_id": "gone"}}),
    ):
        agent = Rollout(tmp_path, thread, source={"subagent": source})
        agent.user("Find")
        agent.save()
    caller, explorer, review, orphan = (each.session for each in read(tmp_path)[0])
    assert (explorer["parentId"], explorer["agent"]) == (caller["id"], "explorer")
    assert (explorer["imported"]["relation"], explorer["imported"]["parentSourceId"]) == ("subagent", FIRST)
    assert review["agent"] == "review"
    assert orphan["imported"]["parentSourceId"] == "gone"
    assert "parentId" not in review | orphan
