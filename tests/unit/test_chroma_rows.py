"""Records as rows of Chroma, and back."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.sync import Change, Key
from nomad_sessions.sync.chroma_rows import change_of, key_of, row_id, rows_of, text_of

names = st.text(st.characters(categories=None), min_size=1, max_size=20)  # Halves of pairs too.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(name=names, session=st.none() | names, fields=st.dictionaries(names, values, max_size=4), gone=st.booleans())
def test_a_record_comes_back_as_it_was_and_its_rows_are_what_chroma_takes(
    name: str, session: str | None, fields: dict[str, Any], gone: bool
) -> None:
    body = {"id": name, "content": "text", **fields, "parts": [], "role": "user", "metadata": fields, "toolCalls": None}
    change = Change("ws", Key("message", name), 7, None if gone else body, session)
    rows = rows_of(change)
    assert change_of("message", rows[0].metadata) == change
    assert json.dumps(change_of("message", rows[0].metadata).body) == json.dumps(change.body)
    for row in rows:
        assert key_of("message", row.metadata) == change.key
        assert row.id.isascii()
        for key, value in row.metadata.items():
            assert key.encode()
            assert isinstance(value, (str, int, float, bool))
            assert not isinstance(value, str) or value.encode() is not None
            assert not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


def test_ids_of_different_records_differ_and_say_which_record_it_is() -> None:
    places = [("a", "b:c"), ("a:b", "c"), ("a", "b%3Ac"), ("a", "b"), ("a", "\x00"), ("a", "\ud83d")]
    assert len({row_id(*each) for each in places}) == len(places)
    assert row_id("ws", "01J_a.b-c~d", 3) == "ws:01J_a.b-c~d:3"


def message(**fields: Any) -> Change:
    body = {"id": "m", "sessionId": "s", "role": "assistant", "rev": 7, **fields}
    return Change("ws", Key("message", "m"), 7, body, "s")


def test_a_message_s_text_is_what_the_search_index_takes() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    parts = [
        {"type": "thinking", "content": "let me look"},
        {"type": "text", "content": "Looking."},
        {"type": "tool_call", "toolCall": call},
        {"type": "tool_result", "toolResult": {"toolCallId": "c", "content": "README.md"}},
        {"type": "file", "file": {"name": "plan.pdf"}},
    ]
    found = text_of("message", message(parts=parts).body or {})
    assert found.split("\n") == [
        "let me look", "Looking.", "bash", "plan.pdf", '{"command": "ls"}', "README.md",
    ]  # fmt: skip
    assert text_of("session", {"id": "s", "title": "T", "description": "D", "agent": "A"}) == "T\nD"


def test_a_long_text_is_several_rows_and_the_record_is_in_the_first() -> None:
    rows = rows_of(message(content="some words " * 600, metadata={"topic": "x"}))
    assert [row.id for row in rows] == [f"ws:m:{n}" for n in range(len(rows))]
    assert len(rows) == rows[0].metadata["chunks"] == 4
    assert "body" in rows[0].metadata
    for row in rows[1:]:
        assert "body" not in row.metadata
        assert {**rows[0].metadata, **row.metadata} == {**rows[0].metadata, "chunk": row.metadata["chunk"]}


def test_what_can_be_filtered_by_is_in_every_row() -> None:
    own = {
        "topic": "carts",
        "n": 1,
        "half": 0.5,
        "yes": True,
        "deep": {"a": 1},
        "none": None,
        "list": [1],
        "big": 1 << 70,
    }
    fields = {"model": {"providerId": "p", "modelId": "m"}, "agent": "a", "status": "completed", "createdAt": 5}
    (row,) = rows_of(message(content="x", metadata=own, **fields))
    wanted = {"role": "assistant", "model": "p/m", "agent": "a", "status": "completed", "createdAt": 5}
    wanted |= {f"metadata.{name}": own[name] for name in ("topic", "n", "half", "yes")}
    places = {"workspaceId": "ws", "sessionId": "s", "recordId": "m", "rev": 7, "chunk": 0, "chunks": 1}
    assert {key: value for key, value in row.metadata.items() if key not in ("body", "digest")} == {**places, **wanted}


def test_one_without_text_and_one_that_is_gone_have_no_vector() -> None:
    for change in (message(content=" "), message(content="x")._replace(body=None)):
        (row,) = rows_of(change)
        assert (row.text, row.id) == ("", "message:ws:m")
        assert change_of("message", row.metadata) == change
