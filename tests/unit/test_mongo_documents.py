"""Records as MongoDB's documents, and back: pure, with the driver's encoder as the judge of what BSON can hold."""

from __future__ import annotations

import json
from typing import Any

import bson
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.sync import KINDS, Change, Key
from nomad_sessions.sync.mongo_documents import (
    LONGEST_TEXT,
    change_of,
    document_of,
    escaped,
    first_key,
    key_of,
    last_key,
    plain,
    unescaped,
)

texts = st.text(st.characters(exclude_categories=[]), max_size=12) | st.text(
    st.sampled_from("a\x00\x01\ud7fe\ud7ff\ud800\udbff\udc00\udfff\ue000\U00010000/.$"), max_size=6
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
FIELDS = ["id", "text", "title", "content", "timestamp", "createdAt", "updatedAt", "role", "status", "type", "progress"]
bodies = st.dictionaries(st.sampled_from(FIELDS) | texts, values, max_size=8)


@given(one=texts, other=texts)
def test_ids_stay_apart_and_in_the_order_of_code_points(one: str, other: str) -> None:
    assert unescaped(escaped(one)) == one
    assert (escaped(one).encode() < escaped(other).encode()) == (one < other)
    if one:
        assert first_key("ws") < key_of("ws", one) < last_key("ws")
    assert not first_key("ws") < key_of("ws-2", other) < last_key("ws")
    assert not first_key("ws") < key_of("ws2", other) < last_key("ws")


@given(
    kind=st.sampled_from(KINDS),
    name=texts.filter(bool),
    body=bodies,
    metadata=values,
    about=st.none() | texts,
    rev=st.integers(0, 1 << 40),
)
def test_what_a_document_was_made_of_comes_back(
    kind: Any, name: str, body: dict[str, Any], metadata: Any, about: str | None, rev: int
) -> None:
    # As it comes out of JSON, which knows no pair of surrogates beside the character.
    change = Change("ws", Key(kind, name), rev, decode(encode({**body, "metadata": metadata})), about)
    stored = bson.decode(bson.encode(document_of(change)))
    found = change_of(kind, "ws", stored)
    assert found == change
    assert json.dumps(found.body) == json.dumps(change.body)


def message(**fields: Any) -> Change:
    body = {"id": "m", "sessionId": "s", "role": "user", "content": "hi", "createdAt": 5, "updatedAt": 6, "rev": 7}
    return Change("ws", Key("message", "m"), 7, {**body, **fields}, "s")


def test_a_message_has_the_fields_that_the_original_has_in_one_spelling() -> None:
    record = {"role": "user", "content": "hi", "createdAt": 5, "updatedAt": 6, "rev": 7, "metadata": {"mood": "good"}}
    document = document_of(message(metadata={"mood": "good"}))
    assert json.loads(document.pop("record")) == {"id": "m", "sessionId": "s", **record}
    assert document == {
        "_id": "ws/m",
        "id": "m",
        "workspaceId": "ws",
        "sessionId": "s",
        "text": "hi",
        "timestamp": 5,
        "createdAt": 5,
        "updatedAt": 6,
        "metadata": {"mood": "good", "type": "message", "sessionId": "s", "messageId": "m", "role": "user"},
        "rev": 7,
    }


def test_the_other_kinds_have_theirs() -> None:
    def made(kind: Any, **body: Any) -> dict[str, Any]:
        return document_of(Change("ws", Key(kind, "x"), 1, {"id": "x", **body}, body.get("sessionId")))

    session = made("session", title="A title", description="and more", createdAt=3, agent="duck")
    assert session["text"] == "A title\n\nand more"
    assert session["metadata"] == {"type": "session", "title": "A title", "description": "and more", "agent": "duck"}
    task = made(
        "task", sessionId="s", inputData={"a": 1}, taskType="review", startTime=9, createdAt=3, status="running"
    )
    assert (task["text"], task["timestamp"], task["createdAt"]) == ('{"a":1}', 9, 3)
    assert task["metadata"] == {
        "type": "task",
        "sessionId": "s",
        "taskType": "review",
        "startTime": 9,
        "status": "running",
    }
    mail = made("mail", content="please", recipient="b", sender="a", type="note", priority="high", createdAt=2)
    assert mail["metadata"] == {
        "type": "mail",
        "messageType": "note",
        "recipient": "b",
        "sender": "a",
        "priority": "high",
    }
    event = made("event", type="session.idle", sessionId="s", timestamp=4, properties={"sessionID": "s"})
    assert (event["text"], event["timestamp"]) == ('{"sessionID":"s"}', 4)
    assert event["metadata"] == {"type": "event", "sessionId": "s", "eventType": "session.idle", "timestamp": 4}


def test_of_what_is_gone_no_query_for_fields_finds_anything() -> None:
    assert document_of(message()._replace(body=None)) == {"_id": "ws/m", "rev": 7, "deleted": True}


def test_what_bson_cannot_hold_is_as_near_as_it_can_be_in_the_fields() -> None:
    nested: Any = "leaf"
    for _ in range(30):
        nested = {"in": nested}
    odd = {"$set": 1, "a.b\0": 1 << 70, "long": 10**400, "half": "\ud83d", "pair": "\ud83d\ude00", "deep": nested}
    found = plain(odd)
    assert bson.decode(bson.encode(found)) == found
    assert found["\uff04set"] == 1
    assert found["a\uff0eb\ufffd"] == float(1 << 70)
    assert found["long"] == str(10**400)
    assert (found["half"], found["pair"]) == ("\ufffd", "\U0001f600")
    depth = 0
    deep = found["deep"]
    while isinstance(deep, dict):
        deep, depth = deep["in"], depth + 1
    assert json.loads(deep)["in"]
    assert depth < 25
    document = document_of(message(content="half \ud83d", createdAt=1 << 70, updatedAt="soon"))
    assert document["text"] == "half \ufffd"
    assert {"timestamp", "createdAt", "updatedAt"}.isdisjoint(document)


def test_of_a_long_text_the_beginning_is_in_the_text() -> None:
    document = document_of(message(content="é" * (LONGEST_TEXT + 10)))
    assert document["text"] == "é" * LONGEST_TEXT
    assert change_of("message", "ws", document) == message(content="é" * (LONGEST_TEXT + 10))
