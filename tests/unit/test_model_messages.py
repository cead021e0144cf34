"""What goes to a model is what its interface takes: every call answered once, sides in turn, images whole."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter

from nomad_sessions import InvalidInputError, NativeSessionManager, SessionNotFoundError
from nomad_sessions.formats import ImportReport, import_file, import_history
from nomad_sessions.formats.claude import IMPORTER as CLAUDE
from nomad_sessions.formats.model_messages import messages_for_model, to_anthropic, to_openai, to_responses
from nomad_sessions.formats.turns import NO_RESULT, turns_of

WS = "ws"
ROOT = Path(__file__).parents[2]
SAMPLES = Path(__file__).parents[1] / "fixtures"
PNG = base64.b64encode(b"\x89PNG" + bytes(40)).decode()
# Kept for as long as the tests run: pydantic-core needs them while lazy fields are read.
OPENAI: TypeAdapter[Any] = TypeAdapter(list[ChatCompletionMessageParam])
ANTHROPIC: TypeAdapter[Any] = TypeAdapter(list[MessageParam])
RESPONSES: TypeAdapter[Any] = TypeAdapter(list[ResponseInputItemParam])


def forced(value: Any) -> Any:
    """All of a validated value: fields that are iterables are only checked when they are read."""
    if isinstance(value, dict):
        return {key: forced(each) for key, each in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [forced(each) for each in value]


def user(content: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"u-{content}", "role": "user", "content": content, **fields}


def call(identifier: str, arguments: str = '{"a": 1}', **fields: Any) -> dict[str, Any]:
    function = {"name": "run", "arguments": arguments}
    return {"type": "tool_call", "toolCall": {"id": identifier, "type": "function", "function": function}, **fields}


def assistant(*parts: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    made = [{"type": "text", "content": part} if isinstance(part, str) else part for part in parts]
    return {"id": "a", "role": "assistant", "parts": made, **fields}


def result(identifier: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"r-{content}", "role": "tool", "toolCallId": identifier, "content": content, **fields}


def image(**file: Any) -> dict[str, Any]:
    return {"type": "file", "file": {"mime": "image/png", **({"url": f"data:image/png;base64,{PNG}"} | file)}}


def no_attachment(sha256: str) -> bytes:
    raise AssertionError(f"nobody asked for {sha256}")


def check(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """All three forms, each as its interface's own types take it."""
    turns = turns_of(messages, "full")
    openai = to_openai(turns, no_attachment)
    anthropic = to_anthropic(turns, no_attachment)
    responses = to_responses(turns, no_attachment)
    assert forced(OPENAI.validate_python(openai)) == openai
    assert forced(ANTHROPIC.validate_python(anthropic["messages"])) == anthropic["messages"]
    forced(RESPONSES.validate_python(responses))
    check_openai(openai)
    check_anthropic(anthropic["messages"])
    return openai, anthropic, responses


def check_openai(messages: list[dict[str, Any]]) -> None:
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
            continue
        assert not waiting, "every call is answered before anything else is said"
        waiting = [each["id"] for each in message.get("tool_calls", ())]
        assert all(
            isinstance(json.loads(each["function"]["arguments"]), dict) for each in message.get("tool_calls", ())
        )
        assert message["content"] or message.get("tool_calls")
    assert not waiting


def check_anthropic(messages: list[dict[str, Any]]) -> None:
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"] * (
        len(messages) % 2
    )
    waiting: list[str] = []
    seen: set[str] = set()
    for message in messages:
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        assert results == waiting
        assert [block["type"] for block in message["content"][: len(results)]] == ["tool_result"] * len(results)
        waiting = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        assert not seen.intersection(waiting)
        seen.update(waiting)
        assert all(block["text"] for block in message["content"] if block["type"] == "text")
    assert not waiting


def test_a_call_and_its_result_in_all_three_forms() -> None:
    openai, anthropic, responses = check(
        [
            {"role": "system", "content": "Be brief"},
            user("hi"),
            assistant("Looking", call("c1")),
            result("c1", "found", status="error"),
            assistant("Done"),
        ]
    )
    assert openai == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "Looking",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "run", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
        {"role": "assistant", "content": "Done"},
    ]
    assert anthropic == {
        "system": "Be brief",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Looking"},
                    {"type": "tool_use", "id": "c1", "name": "run", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "found", "is_error": True}],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "Done"}]},
        ],
    }
    assert responses == [
        {"role": "developer", "content": "Be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Looking"},
        {"type": "function_call", "call_id": "c1", "name": "run", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
        {"role": "assistant", "content": "Done"},
    ]


def test_a_call_without_a_result_gets_one_that_says_so_and_a_result_without_a_call_goes() -> None:
    openai, anthropic, _ = check(
        [user("hi"), assistant(call("c1"), call("c2")), result("c2", "two"), result("c9", "?")]
    )
    assert [message["content"] for message in openai if message["role"] == "tool"] == [NO_RESULT, "two"]
    assert anthropic["messages"][2]["content"][0]["is_error"] is True


def test_an_id_that_a_provider_gives_twice_is_paired_by_position() -> None:
    said = [
        user("hi"),
        assistant(call("functions.run:0")),
        result("functions.run:0", "first"),
        assistant(call("functions.run:0")),
        result("functions.run:0", "second"),
    ]
    openai, anthropic, _ = check(said)
    assert [message["content"] for message in openai if message["role"] == "tool"] == ["first", "second"]
    ids = [block["id"] for m in anthropic["messages"] for block in m["content"] if block["type"] == "tool_use"]
    assert ids == ["functions_run_0", "functions_run_0-2"]


def test_results_that_came_after_something_was_said_go_back_to_their_call() -> None:
    openai, _, _ = check([user("hi"), assistant(call("c1")), user("are you there?"), result("c1", "late")])
    assert [message["role"] for message in openai] == ["user", "assistant", "tool", "user"]


def test_a_result_that_lies_in_the_call_s_own_part_counts() -> None:
    part = call("c1", toolResult={"toolCallId": "c1", "content": "inside", "isError": True})
    _, anthropic, _ = check([user("hi"), assistant(part)])
    assert anthropic["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "inside", "is_error": True}
    ]


@pytest.mark.parametrize("arguments", ["", "[1]", '{"cut": ', "null", "plain text"])
def test_arguments_that_are_no_object_are_wrapped(arguments: str) -> None:
    openai, _, _ = check([user("hi"), assistant(call("c1", arguments))])
    sent = json.loads(openai[1]["tool_calls"][0]["function"]["arguments"])
    assert sent == ({"_raw": arguments} if arguments else {})


def test_what_is_empty_or_still_being_written_is_left_out() -> None:
    said = [
        user("hi"),
        assistant(),
        assistant("  "),
        assistant("half", status="streaming"),
        user("bye", status="pending"),
    ]
    openai, anthropic, _ = check(said)
    assert openai == [{"role": "user", "content": "hi"}]
    assert "system" not in anthropic


def test_a_conversation_that_begins_with_the_assistant_gets_a_word_before_it() -> None:
    _, anthropic, _ = check([assistant("Hello"), user("hi")])
    assert [message["role"] for message in anthropic["messages"]] == ["user", "assistant", "user"]


def test_sides_that_speak_twice_are_one_turn() -> None:
    _, anthropic, _ = check([user("one"), user("two"), assistant("a"), assistant("b")])
    assert [len(message["content"]) for message in anthropic["messages"]] == [2, 2]


def test_images_go_as_images_and_other_files_as_marks() -> None:
    document = {
        "type": "file",
        "file": {"mime": "application/pdf", "name": "a.pdf", "url": "data:application/pdf;base64,AA"},
    }
    prompt = {"role": "user", "parts": [{"type": "text", "content": "see"}, image(), document]}
    openai, anthropic, responses = check([prompt])
    assert openai[0]["content"][1] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert openai[0]["content"][2] == {"type": "text", "text": "[file application/pdf a.pdf]"}
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    assert anthropic["messages"][0]["content"][1] == {"type": "image", "source": source}
    assert responses[0]["content"][1]["image_url"] == f"data:image/png;base64,{PNG}"


def test_images_of_a_result_are_shown_where_each_interface_allows_it() -> None:
    shot = result("c1", "", parts=[{"type": "text", "content": "a shot"}, image()])
    openai, anthropic, responses = check([user("hi"), assistant(call("c1")), {**shot, "content": "a shot"}])
    assert [message["role"] for message in openai] == ["user", "assistant", "tool", "user"]
    assert [block["type"] for block in anthropic["messages"][2]["content"][0]["content"]] == ["text", "image"]
    assert responses[-1]["role"] == "user"


def test_the_bytes_of_an_attachment_are_read_when_they_are_needed() -> None:
    data = b"\x89PNG" + bytes(100)
    turns = turns_of([{"role": "user", "parts": [image(url=None, sha256="ab" * 32)]}], "full")
    asked: list[str] = []

    def read(sha256: str) -> bytes:
        asked.append(sha256)
        return data

    sent = to_openai(turns, read)
    url = sent[0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.partition(",")[2]) == data
    assert asked == ["ab" * 32]


def test_thinking_is_left_out() -> None:
    openai, _, _ = check([user("hi"), assistant({"type": "thinking", "content": "hmm", "signature": "x"}, "Hello")])
    assert openai[1]["content"] == "Hello"


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    return NativeSessionManager(tmp_path)


def test_the_context_of_a_model_begins_at_the_last_compaction(m: NativeSessionManager) -> None:
    session = m.create_session(WS, id="s")
    first, second, third = (m.add_message(WS, "s", role="user", content=text) for text in ("one", "two", "three"))
    m.compact_session(WS, session.id, "what one and two said", before=third.id)
    m.add_message(WS, "s", role="user", content="four")
    model = messages_for_model(m, WS, "s")
    assert [message["content"] for message in model] == ["what one and two said", "three", "four"]
    full = messages_for_model(m, WS, "s", context="full")
    assert [message["content"] for message in full] == ["one", "two", "three", "what one and two said", "four"]
    assert first.id < second.id


def test_what_a_revert_hides_does_not_go_to_the_model(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    kept = m.add_message(WS, "s", role="user", content="kept")
    m.add_message(WS, "s", role="assistant", content="hidden")
    m.revert(WS, "s", kept.id)
    assert messages_for_model(m, WS, "s") == [{"role": "user", "content": "kept"}]


def test_an_unknown_session_format_or_context_is_an_error(m: NativeSessionManager) -> None:
    with pytest.raises(SessionNotFoundError):
        messages_for_model(m, WS, "none")
    m.create_session(WS, id="s")
    assert messages_for_model(m, WS, "s") == []
    bad: Callable[..., Any] = messages_for_model
    with pytest.raises(InvalidInputError, match="format"):
        bad(m, WS, "s", format="xml")
    with pytest.raises(InvalidInputError, match="context"):
        bad(m, WS, "s", context="half")


def test_every_imported_conversation_is_taken_by_all_three_interfaces(m: NativeSessionManager) -> None:
    reports: list[ImportReport] = [
        import_file(m, WS, path) for path in sorted((ROOT / "examples" / "opencode").glob("*.json"))
    ]
    reports.append(import_history(m, CLAUDE, SAMPLES / "claude" / "projects", workspace_id=WS))
    sessions = [each for report in reports for each in report.session_ids]
    assert len(sessions) > 6
    for session_id in sessions:
        openai = messages_for_model(m, WS, session_id, context="full")
        anthropic = messages_for_model(m, WS, session_id, format="anthropic", context="full")
        responses = messages_for_model(m, WS, session_id, format="responses", context="full")
        forced(OPENAI.validate_python(openai))
        forced(ANTHROPIC.validate_python(anthropic["messages"]))
        forced(RESPONSES.validate_python(responses))
        check_openai(openai)
        check_anthropic(anthropic["messages"])


@pytest.mark.parametrize("seed", range(60))
def test_random_conversations_are_always_taken(seed: int) -> None:
    chance = random.Random(seed)
    ids = ["c1", "c2", "c 3", ""]
    made: list[dict[str, Any]] = []
    for _ in range(chance.randint(0, 30)):
        choices: list[dict[str, Any]] = [
            user("hi"),
            assistant(chance.choice(["", "text"])),
            assistant(*(call(chance.choice(ids), chance.choice(["{}", "x"])) for _ in range(2))),
            result(chance.choice(ids), "out", status=chance.choice(["error", "completed"])),
            {"role": "system", "content": "s"},
            {"role": "user", "parts": [image()]},
            {"role": chance.choice(["user", "assistant"]), "parts": [{"type": "x", "content": 5}]},
        ]
        made.append(chance.choice(choices))
    check(made)


def test_other_files_of_a_result_are_marks_in_what_it_says() -> None:
    document = {"type": "file", "file": {"mime": "application/pdf", "name": "a.pdf", "url": "data:application/pdf,x"}}
    for text, told in (("done", "done\n[file application/pdf a.pdf]"), ("", "[file application/pdf a.pdf]")):
        answer = {**result("c1", text, parts=[{"type": "text", "content": text}, document, image()]), "content": text}
        openai, anthropic, responses = check([user("hi"), assistant(call("c1")), answer])
        assert openai[2]["content"] == told
        assert anthropic["messages"][2]["content"][0]["content"][0] == {"type": "text", "text": told}
        assert [item["output"] for item in responses if item.get("type") == "function_call_output"] == [told]
