"""Importers as pure functions: nothing is lost, nothing is stored twice, bad records are reported with their place."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import ImportReport, ParsedSession, nomadarch, opencode, recognise
from nomad_sessions.formats.opencode_parts import part_from_opencode, part_to_opencode
from nomad_sessions.formats.residue import restore, same, subtract

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPORTS = sorted((EXAMPLES / "opencode").glob("*.json"))
# The real data that this project's workplace keeps beside the checkout; the examples are a part of it.
FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"


def real_exports() -> list[Path]:
    folder = FIXTURES / "opencode" / "A"
    found = [*folder.glob("export/*.json"), *folder.glob("export-1.1.65/*.json")]
    return EXPORTS + sorted(path for path in found if not path.name.startswith("session-list"))


def parse_one(value: dict[str, Any]) -> tuple[ParsedSession, ImportReport]:
    report = ImportReport()
    (parsed,) = opencode.parse(value, report)
    return parsed, report


def export(parsed: ParsedSession) -> dict[str, Any]:
    return opencode.to_export(parsed.session, parsed.messages, visible=parsed.visible)


@pytest.mark.parametrize("path", real_exports(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_field_of_a_real_export_comes_back(path: Path) -> None:
    value = json.loads(path.read_bytes())
    before = copy.deepcopy(value)
    parsed, report = parse_one(value)
    assert same(export(parsed), before)
    assert same(value, before)
    assert report.warnings == []
    assert report.messages.read == len(parsed.messages) == len(before["messages"])


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.stem)
def test_an_imported_export_is_no_larger_than_its_source(path: Path) -> None:
    value = json.loads(path.read_bytes())
    parsed, _ = parse_one(value)
    assert len(json.dumps([parsed.session, parsed.messages])) <= len(json.dumps(value))


def test_the_parts_of_a_real_bug_fix_are_mapped() -> None:
    parsed, _ = parse_one(json.loads((EXAMPLES / "opencode" / "fix-lost-cent.json").read_bytes()))
    parts = [part for message in parsed.messages for part in message["parts"]]
    assert {part["type"] for part in parts} == {"text", "thinking", "tool_call", "step-start", "step-finish", "patch"}
    calls = [part for part in parts if part["type"] == "tool_call"]
    failed = [part for part in calls if part["toolResult"].get("isError")]
    assert failed
    assert all(part["state"] == "error" for part in failed)
    assert all(json.loads(part["toolCall"]["function"]["arguments"]) != {} for part in calls)
    assert all(part["startedAt"] <= part["endedAt"] for part in calls)
    answer = next(message for message in parsed.messages if message["role"] == "assistant")
    assert answer["model"]["providerId"] == "local"
    assert answer["usage"]["output"] > 0
    assert answer["parentId"] == parsed.messages[0]["id"]


def test_a_reverted_session_keeps_its_hidden_messages_behind_the_visible_ones() -> None:
    value = json.loads((EXAMPLES / "opencode" / "accent-search.json").read_bytes())
    parsed, _ = parse_one(value)
    assert (parsed.visible, len(parsed.messages)) == (4, 8)
    assert parsed.messages[4]["id"] == value["info"]["revert"]["messageID"]


def test_an_export_of_a_session_that_was_unreverted_here_has_no_revert() -> None:
    parsed, _ = parse_one(json.loads((EXAMPLES / "opencode" / "accent-search.json").read_bytes()))
    assert "revert" not in opencode.to_export(parsed.session, parsed.messages)["info"]


def test_a_local_edit_shows_in_the_export_and_nothing_else_changes() -> None:
    value = json.loads(EXPORTS[0].read_bytes())
    parsed, _ = parse_one(value)
    parsed.messages[0]["parts"][0]["content"] = "edited"
    parsed.session["title"] = "renamed"
    expected = copy.deepcopy(value)
    expected["messages"][0]["parts"][0]["text"] = "edited"
    expected["info"]["title"] = "renamed"
    assert export(parsed) == expected


def test_messages_are_ordered_by_time_then_id_since_ids_wrap_around() -> None:
    messages = [
        {"info": {"id": name, "role": "user", "time": {"created": at}}, "parts": []}
        for name, at in (("msg_00", 20), ("msg_ff", 10), ("msg_01", 20))
    ]
    parsed, _ = parse_one({"info": {"id": "ses_1", "time": {"created": 1}}, "messages": messages})
    assert [message["id"] for message in parsed.messages] == ["msg_ff", "msg_00", "msg_01"]


def test_bad_records_of_an_export_are_left_out_and_reported_with_their_place() -> None:
    good = {"info": {"id": "msg_1", "role": "user", "time": {"created": 1}}, "parts": [{"type": "text", "text": "hi"}]}
    odd = {"info": {"id": "msg_2", "role": "robot"}, "parts": ["x"]}
    messages = [good, "text", {"info": {"role": "user"}}, {"info": None}, good, odd]
    parsed, report = parse_one({"info": {"id": "ses_1"}, "messages": messages})
    assert [message["id"] for message in parsed.messages] == ["msg_2", "msg_1"]
    assert report.messages.read == 6
    assert report.messages.skipped == 4
    assert report.skipped == {
        "the message has no info": 2,
        "the message has no id": 1,
        "its id occurs twice": 1,
        "the part is not an object": 1,
    }
    assert "messages[1]: left out, the message has no info" in report.warnings
    assert "messages[5].parts[0]: left out, the part is not an object" in report.warnings
    assert "messages[5]: the unknown role 'robot' is kept as 'system'" in report.warnings


def test_a_session_without_an_id_is_reported_and_not_imported() -> None:
    report = ImportReport()
    assert opencode.parse({"info": {}, "messages": [{}]}, report) == []
    assert (report.sessions.skipped, report.messages.skipped) == (1, 1)


def test_a_file_that_is_stored_out_of_line_is_exported_whole() -> None:
    part = {"type": "file", "file": {"mime": "image/png", "name": "a.png", "sha256": "00"}}
    with pytest.raises(InvalidInputError, match="out of line"):
        part_to_opencode(part, "ses_1", "msg_1")
    assert part_to_opencode(part, "ses_1", "msg_1", lambda _: b"\x89PNG")["url"] == "data:image/png;base64,iVBORw=="


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3), JSON, max_size=4)


@given(OBJECTS, OBJECTS)
def test_what_is_left_of_a_record_and_what_was_mapped_give_the_record(
    source: dict[str, Any], derived: dict[str, Any]
) -> None:
    kept = copy.deepcopy(derived)
    assert same(restore(derived, *subtract(source, derived)), source)
    assert same(derived, kept)


def nested(depth: int, value: Any) -> dict[str, Any]:
    for _ in range(depth):
        value = {"inner": value, "same": 1}
    return {"outer": value}


def test_records_may_be_nested_deeper_than_python_calls() -> None:
    source, derived = nested(5000, {"mine": 1}), nested(5000, {"theirs": 2})
    rest, absent = subtract(source, derived)
    assert len(absent) == 1
    assert same(restore(derived, rest, absent), source)
    assert subtract(source, source) == ({}, [])


def test_what_is_left_stands_in_the_order_of_the_record() -> None:
    source = {"a": {"x": 1, "y": {}, "z": 2}, "b": 3, "c": {"d": 4}, "e": {}}
    derived = {"c": {"f": 5}, "g": 6, "a": {"y": {"h": 7}, "x": 1, "i": 8}, "e": {"j": 9}}
    rest, absent = subtract(source, derived)
    assert json.dumps(rest) == '{"a": {"z": 2}, "b": 3, "c": {"d": 4}}'
    assert absent == [["g"], ["a", "i"], ["a", "y", "h"], ["c", "f"], ["e", "j"]]


def field(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values) | JSON


PARTS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=3),
        "type": field("text", "reasoning", "tool", "file", "thinking", "tool_call", "code"),
        "text": JSON,
        "callID": field("call_1"),
        "tool": field("bash"),
        "mime": field("text/plain"),
        "filename": JSON,
        "url": field("file:///a"),
        "sessionID": field("ses_1"),
        "state": st.fixed_dictionaries(
            {},
            optional={
                "status": field("completed", "error"),
                "input": JSON,
                "output": JSON,
                "error": JSON,
                "title": JSON,
                "time": st.dictionaries(st.sampled_from(["start", "end", "compacted"]), JSON),
            },
        )
        | JSON,
    },
)


@given(PARTS)
def test_any_part_comes_back_whatever_its_fields_hold(source: dict[str, Any]) -> None:
    part = part_from_opencode(source, "ses_1", "msg_1")
    assert isinstance(part["type"], str)
    assert same(part_to_opencode(part, "ses_1", "msg_1"), source)


INFO = st.fixed_dictionaries(
    {"id": st.just("msg_1")},
    optional={
        "role": field("user", "assistant", "tool"),
        "time": st.dictionaries(st.sampled_from(["created", "completed"]), JSON) | JSON,
        "parentID": JSON,
        "agent": JSON,
        "providerID": field("p"),
        "modelID": field("m"),
        "model": st.fixed_dictionaries({"providerID": JSON, "modelID": JSON}) | JSON,
        "tokens": st.dictionaries(st.sampled_from(["input", "output", "cache", "total"]), JSON) | JSON,
        "cost": JSON,
        "error": st.dictionaries(st.sampled_from(["name", "data"]), JSON) | JSON,
        "extra": JSON,
    },
)


@given(INFO, st.lists(PARTS, max_size=1), OBJECTS)
def test_any_message_and_session_come_back_whatever_their_fields_hold(
    info: dict[str, Any], parts: list[dict[str, Any]], session: dict[str, Any]
) -> None:
    value = {"info": {**session, "id": "ses_1"}, "messages": [{"info": info, "parts": parts}]}
    before = copy.deepcopy(value)
    parsed, _ = parse_one(value)
    assert same(export(parsed), before)


def test_equality_tells_apart_what_json_tells_apart() -> None:
    assert not same(1, True)
    assert not same(1, 1.0)
    assert not same({"a": [0]}, {"a": [False]})
    assert same({"a": [0, None]}, {"a": [0, None]})


def nomad_file(**changes: Any) -> dict[str, Any]:
    session = {
        "id": "s1",
        "workspaceId": "w",
        "title": "one",
        "createdAt": 1,
        "updatedAt": 9,
        "messageIds": ["m1", "m2"],
    }
    message = {"id": "m1", "sessionId": "s1", "role": "user", "content": "hi", "createdAt": 2, "updatedAt": 3, "x": [1]}
    return {"sessions": {"s1": session}, "messages": {"m1": message, "m2": {**message, "id": "m2"}}, **changes}


def test_a_nomadarch_session_keeps_its_ids_times_and_unknown_keys() -> None:
    report = ImportReport()
    (parsed,) = nomadarch.parse(nomad_file(), report)
    assert parsed.session == {"id": "s1", "title": "one", "createdAt": 1, "updatedAt": 9}
    assert [message["id"] for message in parsed.messages] == ["m1", "m2"]
    assert parsed.messages[0]["x"] == [1]
    assert (report.warnings, report.messages.read, parsed.reverted) == ([], 2, False)


def test_a_nomadarch_fork_that_shares_messages_gets_copies_with_the_same_ids_each_time() -> None:
    value = nomad_file()
    value["sessions"]["s2"] = {**value["sessions"]["s1"], "id": "s2", "parentId": "s1"}
    first, second = (nomadarch.parse(copy.deepcopy(value), ImportReport()) for _ in range(2))
    original, fork = first
    assert [message["id"] for message in original.messages] == ["m1", "m2"]
    assert [message["originId"] for message in fork.messages] == ["m1", "m2"]
    assert not {message["id"] for message in fork.messages} & {"m1", "m2"}
    assert [parsed.messages for parsed in first] == [parsed.messages for parsed in second]


def test_bad_records_of_a_nomadarch_file_are_reported_with_their_place() -> None:
    value = nomad_file(tasks={})
    value["sessions"]["s1"]["messageIds"] += ["gone", 7]
    value["sessions"]["s2"] = "text"
    value["messages"]["lost"] = {"id": "lost", "sessionId": "s1"}
    value["messages"]["m2"]["role"] = "robot"
    report = ImportReport()
    (parsed,) = nomadarch.parse(value, report)
    assert [message["id"] for message in parsed.messages] == ["m1", "m2"]
    assert report.messages.read == 5
    assert report.skipped == {
        "the message is not in the file": 2,
        "the session is not an object": 1,
        "no session lists the message": 1,
        "the import takes sessions and messages only": 1,
    }
    assert "sessions['s1'].messageIds[2]: left out, the message is not in the file" in report.warnings
    assert "messages['lost']: left out, no session lists the message" in report.warnings


def test_what_a_revert_hides_in_a_file_of_ours_comes_along_hidden() -> None:
    value = nomad_file()
    value["sessions"]["s1"] |= {"messageIds": ["m1"], "revert": {"messageID": "m1"}}
    report = ImportReport()
    (parsed,) = nomadarch.parse(value, report)
    assert [message["id"] for message in parsed.messages] == ["m1", "m2"]
    assert (parsed.visible, report.warnings) == (1, [])


def test_the_real_nomadarch_file_is_read_whole() -> None:
    found, value = recognise((EXAMPLES / "nomadarch" / "sessions.json").read_bytes(), "sessions.json")
    report = ImportReport()
    (parsed,) = found.parse(value, report)
    assert found.name == "nomadarch"
    assert len(parsed.messages) == len(value["messages"])
    assert report.warnings == []


def test_formats_are_told_apart_by_content() -> None:
    assert recognise(EXPORTS[0].read_bytes(), "x")[0].name == "opencode"
    assert recognise(b'\xef\xbb\xbf{"sessions": {}, "messages": {}}', "x")[0].name == "nomadarch"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'"info"', b'{"info": {}}', b"\xff\xfe", EXPORTS[0].read_bytes()[:999]]
)
def test_what_is_no_known_format_is_refused_with_the_name_of_the_file(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"some\.json"):
        recognise(data, "some.json")


@given(JSON)
def test_sniffing_never_raises(value: Any) -> None:
    assert opencode.sniff(value) in (True, False)
    assert nomadarch.sniff(value) in (True, False)


@given(
    st.dictionaries(st.sampled_from(["s1", "s2"]), OBJECTS | JSON), st.dictionaries(st.sampled_from(["m1", "m2"]), JSON)
)
def test_any_nomadarch_file_is_accounted_for_and_never_crashes(
    sessions: dict[str, Any], messages: dict[str, Any]
) -> None:
    report = ImportReport()
    parsed = nomadarch.parse({"sessions": sessions, "messages": messages}, report)
    assert report.messages.read == sum(len(one.messages) for one in parsed) + report.messages.skipped
    assert report.sessions.read == len(parsed) + report.sessions.skipped
