"""What is told of a message without its model is what the model tells."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.models import PART_TYPES, ROLES, STATUSES, canonical, dump, validate_new_message
from nomad_sessions.models.settled import settled
from nomad_sessions.storage.codec import encode

TEXT = st.sampled_from(["", "x", "role", "NaN", "half \ud83d", "\0"])
ODD = st.sampled_from([None, True, 7, -1, 1.5, float("inf"), "x", [], {}, [1], {"a": 1.5}])
CALL = {"id": "c", "type": "function", "function": {"name": "n", "arguments": "{}"}}
CALLS = st.sampled_from([CALL, {**CALL, "id": 1}, {**CALL, "more": 1}, {"type": "function"}, {**CALL, "function": {}}])
ROLE = st.sampled_from([*sorted(ROLES), "other"])
STATUS = st.sampled_from([*sorted(STATUSES), "other"])
PARTS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from([*sorted(PART_TYPES), "other"])},
        optional={
            "content": TEXT | ODD,
            "toolCall": CALLS | ODD,
            "signature": TEXT | ODD,
            "startedAt": ODD,
            "file": ODD,
        },
    )
    | ODD,
    max_size=3,
)
MESSAGES = st.fixed_dictionaries(
    {"role": ROLE | ODD},
    optional={
        "id": TEXT | ODD,
        "content": TEXT | ODD,
        "parts": PARTS | ODD,
        "createdAt": ODD,
        "status": STATUS | ODD,
        "toolCallId": TEXT | ODD,
        "toolName": TEXT | ODD,
        "toolCalls": st.lists(CALLS, max_size=1),
        "model": st.fixed_dictionaries({}, optional={"providerId": TEXT | ODD, "modelId": TEXT, "other": ODD}) | ODD,
        "usage": st.fixed_dictionaries({}, optional={"input": ODD, "cacheRead": ODD, "cost": ODD}) | ODD,
        "created_at": ODD,
        "half \ud83d": ODD,
        "rev": ODD,
        "metadata": ODD,
    },
)
USUAL: list[dict[str, Any]] = [
    {"role": "user", "content": "hi", "id": "m", "createdAt": 1, "updatedAt": 1},
    {"role": "tool", "content": "", "toolCallId": "c", "toolName": "Read", "status": "error"},
    {"role": "assistant", "parts": [{"type": "thinking", "content": "hm", "signature": "s"}], "usage": {"input": 1}},
    {"role": "assistant", "parts": [{"type": "text", "content": "a"}, {"type": "tool_call", "toolCall": CALL}]},
]


def by_the_model(message: dict[str, Any]) -> dict[str, Any]:
    valid = validate_new_message(message)
    before, after = dump(valid), dump(canonical(valid))
    after.setdefault("status", valid.status)
    return {key: after[key] for key in ("status", "content", "toolCalls") if after.get(key) != before.get(key)}


@given(MESSAGES)
@settings(max_examples=500, deadline=None)
def test_it_says_what_the_model_says_or_nothing(message: dict[str, Any]) -> None:
    more = settled(message)
    if more is not None:
        assert encode(more) == encode(by_the_model(message))
        assert encode(message, finite=True) == encode(message)


@pytest.mark.parametrize("message", USUAL, ids=lambda message: str(message["role"]))
def test_of_the_usual_messages_it_says_something(message: dict[str, Any]) -> None:
    assert settled(message) is not None


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hi", "metadata": {"ratio": float("inf")}},
        {"role": "user", "parts": [{"type": "file", "file": {"url": "data:,"}}]},
        {"role": "user", "content": "one", "parts": [{"type": "text", "content": "other"}]},
        {"role": "user", "toolCalls": [CALL]},
    ],
)
def test_what_only_the_model_can_tell_is_left_to_it(message: dict[str, Any]) -> None:
    assert settled(message) is None
