"""Results of tools find their calls: by id, the first that waits, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.formats.opencode_made import to_opencode
from nomad_sessions.formats.pairing import Waiting
from nomad_sessions.formats.transcript import entries_of
from nomad_sessions.formats.turns import NO_RESULT, turns_of

MANY = 1_000


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_a_result_is_of_the_first_call_of_its_id_that_waits(steps: list[tuple[bool, str]]) -> None:
    waiting, naive = Waiting[int](), list[tuple[str, int]]()
    for number, (is_call, identifier) in enumerate(steps):
        if is_call:
            waiting.add(identifier, number)
            naive.append((identifier, number))
            continue
        found = next((each for each in naive if each[0] == identifier), None)
        assert waiting.take(identifier) == (None if found is None else found[1])
        if found is not None:
            naive.remove(found)
    assert sorted(waiting) == [number for _, number in naive]


def test_of_many_that_wait_each_is_found_at_once() -> None:
    many = 300_000  # To go through all that wait would take beyond the limit of a test.
    waiting = Waiting[int]()
    for number in range(many):
        waiting.add(f"{number}", number)
    assert [waiting.take(f"{number}") for number in reversed(range(many))] == list(reversed(range(many)))
    assert list(waiting) == []


def half_answered() -> list[dict[str, Any]]:
    """A conversation of answers with two calls each, of which the second gets a result."""
    messages: list[dict[str, Any]] = []
    for number in range(MANY):
        names = [f"never {number}", f"call {number}"]
        calls = [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in names]
        parts = [{"type": "tool_call", "toolCall": call} for call in calls]
        messages.append({"id": f"a{number}", "role": "assistant", "parts": parts, "status": "completed"})
        result = {"role": "tool", "toolCallId": names[1], "content": f"result {number}", "status": "completed"}
        messages.append({"id": f"t{number}", **result})
    return messages


def told_to_models() -> list[str | None]:
    return [call.result for turn in turns_of(half_answered(), "full") for call in turn.calls]


def shown() -> list[str | None]:
    return [item.result for entry in entries_of(half_answered()) for item in entry.items]


def told_to_opencode() -> list[str | None]:
    made = to_opencode({"id": "s", "createdAt": 1}, half_answered(), attachment=lambda _: b"", visible=MANY * 2)
    states = [part["state"] for each in made["messages"] for part in each["parts"] if part["type"] == "tool"]
    return [state.get("output", state.get("error")) for state in states]


@pytest.mark.parametrize(
    ("results", "missing"), [(told_to_models, NO_RESULT), (shown, None), (told_to_opencode, NO_RESULT)]
)
def test_of_many_calls_half_of_which_got_no_result_each_has_its_own(
    results: Callable[[], list[str | None]], missing: str | None
) -> None:
    expected = [each for number in range(MANY) for each in (missing, f"result {number}")]
    assert results() == expected
