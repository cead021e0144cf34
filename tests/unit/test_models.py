from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import (
    Event,
    ForkedFrom,
    Message,
    MessagePart,
    Model,
    ModelRef,
    Revert,
    Session,
    Task,
    ToolCall,
    ToolResult,
    Usage,
    canonical,
    check_message,
    dump,
    fast_json,
    validate,
    validate_new_message,
    with_changes,
)

LONE = "cut emoji \ud83d"

CALL = {"id": "call_read", "type": "function", "function": {"name": "read", "arguments": '{"filePath": "slug.py"}'}}
# As NomadArch writes them.
NOMAD_SESSION = {
    "id": "01KDWFZY80000000000000000A",
    "workspaceId": "ws-demo",
    "title": "Fix the failing slugify test",
    "parentId": None,
    "createdAt": 1767261600000,
    "updatedAt": 1767261612000,
    "messageIds": ["01KDWFZY8000000000000000A0", "01KDWFZY8000000000000000AA"],
    "model": {"providerId": "anthropic", "modelId": "claude-sonnet-4-5"},
    "agent": "build",
}
NOMAD_ASSISTANT = {
    "id": "01KDWFZY8000000000000000AA",
    "sessionId": "01KDWFZY80000000000000000A",
    "role": "assistant",
    "createdAt": 1767261601500,
    "updatedAt": 1767261601500,
    "content": "Let me look at the function first.",
    "status": "completed",
    "toolCalls": [CALL],
    "parts": [
        {"type": "thinking", "content": "The regex probably keeps trailing dashes."},
        {"type": "text", "content": "Let me look at the function first."},
        {"type": "tool_call", "toolCall": CALL},
    ],
}
NOMAD_TOOL = {
    "id": "01KDWFZY8000000000000000A3",
    "sessionId": "01KDWFZY80000000000000000A",
    "role": "tool",
    "createdAt": 1767261607000,
    "updatedAt": 1767261607000,
    "toolCallId": "call_bash",
    "content": "Command exited with code 1",
    "status": "error",
    "parts": [
        {
            "type": "tool_result",
            "toolResult": {"toolCallId": "call_bash", "content": "Command exited with code 1", "isError": True},
        }
    ],
}


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while isinstance(value, dict | list):
        value, depth = (value["a"] if isinstance(value, dict) else value[0]), depth + 1
    return depth


def any_text() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=()) | st.characters(categories=["Cs"]), max_size=8)


def json_values() -> st.SearchStrategy[Any]:
    text = any_text()
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))


@pytest.mark.parametrize("record", [NOMAD_ASSISTANT, NOMAD_TOOL], ids=["assistant", "tool"])
def test_a_message_of_nomadarch_is_dumped_as_it_came(record: dict[str, Any]) -> None:
    message = validate(Message, record)
    assert dump(message) == record
    assert canonical(message) is message
    encoded = fast_json(message)
    assert encoded is not None
    assert json.loads(encoded) == record


def test_a_session_of_nomadarch_is_dumped_as_it_came() -> None:
    session = validate(Session, NOMAD_SESSION)
    assert dump(session) == NOMAD_SESSION
    assert session.model == ModelRef(provider_id="anthropic", model_id="claude-sonnet-4-5")
    assert (session.parent_id, session.forked_from, session.metadata, session.rev) == (None, None, {}, 0)


def test_fields_are_dumped_in_the_models_order_and_unknown_ones_after_them() -> None:
    message = validate(Message, {"zeta": 1, "role": "user", "content": "hi", "alpha": None, "id": "m1"})
    assert list(dump(message)) == ["id", "role", "content", "zeta", "alpha"]
    assert fast_json(message) == b'{"id":"m1","role":"user","content":"hi","zeta":1,"alpha":null}'


def test_only_what_was_set_is_dumped() -> None:
    assert dump(Session()) == {}
    assert dump(Session(title="New Session", parent_id=None)) == {"title": "New Session", "parentId": None}
    message = Message(role="user")
    message.id = "m1"
    assert dump(message) == {"id": "m1", "role": "user"}


def test_unknown_keys_are_kept_at_any_depth_nulls_included() -> None:
    record = {
        "role": "assistant",
        "theirs": {"snake_key": None, "camelKey": [1, {"x": None}]},
        "model": {"providerId": "p", "variant": "high"},
        "parts": [{"type": "tool", "callID": "c1", "state": {"status": "running"}, "content": [{"type": "text"}]}],
        "toolCalls": [{"id": "c", "function": {"name": "f", "arguments": "{}", "strict": True}, "index": 0}],
        "usage": {"input": 3, "seconds": 1.5},
        "error": {"name": "APIError", "message": "no", "data": {"status": 500}},
    }
    message = validate(Message, record)
    assert dump(message) == record
    encoded = fast_json(message)
    assert encoded is not None
    assert json.loads(encoded) == record


def test_either_spelling_is_read_and_camel_case_is_written() -> None:
    part = {"type": "tool_result", "tool_result": {"tool_call_id": "c", "content": "x", "is_error": False}}
    message = validate(Message, {"session_id": "s", "role": "tool", "tool_call_id": "c", "parts": [part]})
    assert dump(message) == {
        "sessionId": "s",
        "role": "tool",
        "parts": [{"type": "tool_result", "toolResult": {"toolCallId": "c", "content": "x", "isError": False}}],
        "toolCallId": "c",
    }


def test_a_revert_is_spelt_as_nomadarch_does() -> None:
    session = validate(Session, {"revert": {"messageID": "m1", "reason": "wrong turn", "partID": "p1"}})
    assert session.revert is not None
    assert session.revert.message_id == "m1"
    assert dump(session) == {"revert": {"messageID": "m1", "reason": "wrong turn", "partID": "p1"}}
    assert dump(Revert(message_id="m2")) == {"messageID": "m2"}


def test_values_that_are_missing_or_null_in_a_foreign_file_read_as_empty() -> None:
    for record in ({}, {"content": None, "parts": None, "toolCalls": None, "createdAt": None, "metadata": None}):
        message = validate(Message, {**record, "status": None} if record else record)
        assert (message.content, message.parts, message.tool_calls) == ("", [], [])
        assert (message.created_at, message.metadata, message.status or "completed") == (0, {}, "completed")
    session = validate(Session, {"title": None, "messageIds": None, "updatedAt": None})
    assert (session.title, session.message_ids, session.updated_at) == ("", [], 0)


def test_defaults_are_not_shared_between_records() -> None:
    first, second = Message(), Message()
    first.parts.append(MessagePart(type="text"))
    first.metadata["a"] = 1
    assert (second.parts, second.metadata) == ([], {})


def test_a_fork_names_its_origin() -> None:
    session = validate(Session, {"forkedFrom": {"sessionId": "s1", "messageId": "m3"}})
    assert session.forked_from == ForkedFrom(session_id="s1", message_id="m3")


@pytest.mark.parametrize("text", [LONE, "\udc00\ud800", "CR\r NUL\0 \u2028 \ufeff", "", "x" * 10_000_000])
def test_free_text_passes_unchanged(text: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    record = {
        "role": "assistant",
        "content": text,
        "parts": [
            {"type": "text", "content": text},
            {"type": "tool_call", "toolCall": call},
            {"type": "tool_result", "toolResult": {"toolCallId": "c", "content": text}},
            {"type": "file", "file": {"name": text[:100], "size": 3, "sha256": "ab", "mime": "image/png"}},
        ],
        "error": {"name": "E", "message": text},
        "metadata": {"note": text, text[:100]: 1},
        "unknown": text,
    }
    message = validate_new_message(record)
    assert dump(message) == record
    assert message.content is record["content"]
    session = {"title": text, "description": text, "directory": text, "agent": text, "revert": {"reason": text}}
    assert dump(validate(Session, session)) == session
    task = {"errorMessage": text, "inputData": text, "outputData": {"out": text}}
    assert dump(validate(Task, task)) == task


def test_what_rust_cannot_encode_gives_none_and_is_left_to_the_codec() -> None:
    assert fast_json(Message(content=LONE)) is None
    assert fast_json(validate(Message, {"metadata": {LONE: 1}})) is None
    assert fast_json(validate(Message, {"metadata": {"deep": nested(1000)}})) is None
    assert fast_json(validate(Message, {"unknown": object()})) is None
    assert fast_json(validate(Event, {"properties": {LONE: 1}})) is None
    for number in (float("nan"), float("inf"), float("-inf")):
        for record in ({"usage": {"cost": number}}, {"metadata": {"a": [number]}}, {"unknown": number}):
            assert fast_json(validate(Message, record)) is None


def test_an_unknown_key_whose_name_is_no_unicode_is_refused_not_changed() -> None:
    with pytest.raises(InvalidInputError, match="unicode") as caught:
        validate_new_message({"role": "user", LONE: 1})
    str(caught.value).encode()


@pytest.mark.parametrize("place", ["metadata", "unknown"])
def test_nesting_of_a_thousand_passes(place: str) -> None:
    value = {"deep": nested(1000)}
    message = validate_new_message({"role": "user", "content": "hi", place: value})
    assert depth_of(dump(message)[place]["deep"]) == 1000
    assert depth_of(dump(with_changes(message, {"content": "ho"}))[place]["deep"]) == 1000
    assert depth_of(dump(validate(Task, {"inputData": value}))["inputData"]["deep"]) == 1000


@given(st.dictionaries(st.sampled_from(["metadata", "theirs", "x_y"]), st.dictionaries(any_text(), json_values())))
def test_free_form_values_pass_validation_and_dump(free: dict[str, Any]) -> None:
    record = {"role": "user", "content": "hi", **free}
    message = validate_new_message(record)
    assert dump(message) == record
    encoded = fast_json(message)
    if encoded is not None:
        assert json.loads(encoded) == record


@pytest.mark.parametrize("value", [b"bytes", 7, ["a"], {"a": 1}, True])
def test_what_is_no_text_is_refused_where_text_is_due(value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        validate_new_message({"role": "user", "content": value})
    assert caught.value.field == "content"
    assert isinstance(caught.value.__cause__, ValidationError)


def test_a_new_message_needs_a_role_that_we_know() -> None:
    for data in ({}, {"role": "boss"}, {"role": None}, {"role": ["user"]}, {"role": ""}, {"role": "User"}):
        with pytest.raises(InvalidInputError) as caught:
            validate_new_message({"content": "hi", **data})
        assert caught.value.field == "role"
    for role in ("user", "assistant", "system", "tool"):
        assert validate_new_message({"role": role}).role == role


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "done"),
        ("parts", [{"content": "no type"}]),
        ("parts", [{"type": "text", "content": ["no text"]}]),
        ("parts", "text"),
        ("parts", [{"type": "tool_call", "toolCall": {"id": 7}}]),
        ("toolCalls", [{"function": {"arguments": {}}}]),
        ("createdAt", "yesterday"),
        ("usage", {"input": "many"}),
        ("metadata", "text"),
        ("metadata", {1: "key is no text"}),
    ],
)
def test_a_new_message_that_does_not_fit_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        validate_new_message({"role": "user", field: value})
    assert caught.value.field == field


def test_foreign_roles_statuses_and_part_types_can_be_read() -> None:
    record = {"role": "developer", "status": "queued", "parts": [{"type": "step-start"}]}
    message = validate(Message, record)
    assert dump(message) == record
    with pytest.raises(InvalidInputError):
        check_message(message)


def test_a_message_may_be_given_as_models() -> None:
    message = validate_new_message({"role": "user", "parts": [MessagePart(type="text", content="a")], "usage": Usage()})
    assert dump(message) == {"role": "user", "parts": [{"type": "text", "content": "a"}], "usage": {}}


def test_parts_decide_content_and_calls() -> None:
    call = ToolCall.model_validate(CALL)
    message = Message(
        role="assistant",
        content="stale",
        parts=[
            MessagePart(type="text", content="a"),
            MessagePart(type="thinking", content="hidden"),
            MessagePart(type="tool_call", tool_call=call),
            MessagePart(type="text", content="b\ud800"),
        ],
    )
    result = canonical(message)
    assert (result.content, result.tool_calls) == ("ab\ud800", [call])
    assert (message.content, message.tool_calls) == ("stale", [])
    assert canonical(result) is result
    assert dump(result)["toolCalls"] == [CALL]


def test_parts_that_hold_no_text_or_call_leave_both_alone() -> None:
    call = ToolCall.model_validate(CALL)
    result = MessagePart(type="tool_result", tool_result=ToolResult(tool_call_id="c", content="out"))
    for parts in ([], [result], [MessagePart(type="file")]):
        message = Message(role="tool", content="kept", tool_calls=[call], parts=parts)
        assert canonical(message) is message


def all_models() -> list[type[Model]]:
    return sorted(Model.__subclasses__(), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", all_models(), ids=lambda cls: cls.__name__)
def test_a_model_is_documented_picklable_and_can_be_built_empty(cls: type[Model]) -> None:
    assert cls.__dict__.get("__doc__")
    empty = validate(cls, {})
    assert dump(empty) == {}
    assert fast_json(empty) == b"{}"
    extended = validate(cls, {"theirs": [1]})
    again = pickle.loads(pickle.dumps(extended))
    assert (again, dump(again)) == (extended, {"theirs": [1]})


def test_an_event_carries_free_properties() -> None:
    record = {"seq": 3, "id": "e", "timestamp": 5, "type": "message.updated", "properties": {"info": {"id": "m"}}}
    assert dump(validate(Event, record)) == record
