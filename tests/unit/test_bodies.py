"""What patches do to a body: all at once what they do one by one, wherever a stream was cut."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.workspace.bodies import join_parts, patch, patch_all, text_kind

TEXTS = st.text(st.sampled_from("ab\ud83d\ude00😀"), max_size=3)
PARTS = st.sampled_from(("text", "thinking", "tool_call", "tool_result"))


def part_of(kind: str) -> dict[str, Any]:
    return {"type": kind, "toolCall": {"id": "c"}} if kind == "tool_call" else {"type": kind}


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A body and what happened to it: text for its content and for its parts, new parts, updates."""
    body: dict[str, Any] = draw(st.sampled_from([{}, {"content": None}, {"content": "so far \ud83d"}]))
    kinds: list[str] = []
    records: list[dict[str, Any]] = []
    for what in draw(st.lists(st.sampled_from(("delta", "delta", "delta", "new", "set", "parts")), max_size=20)):
        places = [None, *(number for number, kind in enumerate(kinds) if text_kind({"type": kind}))]
        if what == "delta":
            part = draw(st.sampled_from(places))
            records.append({"text": draw(TEXTS), **({} if part is None else {"part": part})})
        elif what == "new":
            kinds.append(draw(PARTS))
            records.append({"text": draw(TEXTS), "part": len(kinds) - 1, "new": part_of(kinds[-1])})
        elif what == "set":
            records.append(draw(st.sampled_from([{"set": {"content": "edited"}}, {"unset": ["content"]}, {}])))
        else:
            kinds = draw(st.lists(PARTS, max_size=2))
            records.append({"set": {"parts": [part_of(kind) for kind in kinds]}})
    return copy.deepcopy(body), records


@given(histories())
def test_all_patches_at_once_come_to_what_they_do_one_by_one(
    history: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    body, records = copy.deepcopy(history)
    streamed = False
    for record in records:
        streamed = patch(body, record, streamed)
    if streamed:
        join_parts(body)
    found, records = copy.deepcopy(history)
    patch_all(found, records)
    assert found == body
    assert list(found) == list(body)


@given(st.lists(TEXTS))
def test_texts_that_are_joined_are_what_they_become_one_after_the_other(texts: list[str]) -> None:
    expected = ""
    for text in texts:
        if expected[-1:] == "\ud83d" and text[:1] == "\ude00":
            expected = expected[:-1] + "😀" + text[1:]
        else:
            expected += text
    body: dict[str, Any] = {}
    patch_all(body, [{"text": text} for text in texts])
    assert body.get("content", "") == expected
    body = {"parts": [{"type": "text", "content": text} for text in texts]}
    join_parts(body)
    assert body.get("content", "") == expected
