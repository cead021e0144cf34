"""`took_all` over drawn histories: where it says yes, nothing of a file is lost with the file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.storage._os import FileStat
from nomad_sessions.storage.codec import encode
from nomad_sessions.workspace.foreign import Content, ForeignFile, normalise
from nomad_sessions.workspace.merge import Merged, merge
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.taken import took_all
from tests.properties.merge_worlds import ACTIONS, SEEN, World, applied, base_content, both, play

STAT = FileStat(0, 0, 0, 0, 0, 1, 0, 0)
Actions = list[tuple[str, int, int, Any]]


def file_of(content: Content) -> Body:
    sessions = {name: {**record, "messageIds": content.order[name]} for name, record in content.sessions.items()}
    return {"sessions": sessions, "messages": content.messages, **content.extras}


def written(data: Body) -> ForeignFile:
    raw = encode(data)
    return ForeignFile(raw, json.loads(raw), STAT)


def told_apart(actions: Actions, side: str) -> Actions:
    """Each value that is written is one that nothing else has."""
    return [(action, pick, field, f"<{side} {number}>") for number, (action, pick, field, _) in enumerate(actions)]


def values_of(value: Any) -> set[str]:
    """All text in a value, keys and nesting left aside."""
    if isinstance(value, dict):
        return set().union(*map(values_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(values_of, value))
    return {value} if isinstance(value, str) else set()


@given(ACTIONS, ACTIONS)
@settings(deadline=None)
def test_where_it_says_yes_everything_in_the_file_is_somewhere_else_too(ours: Actions, theirs: Actions) -> None:
    base = base_content()
    mine, other = play(base, "ours", told_apart(ours, "ours")), play(base, "theirs", told_apart(theirs, "theirs"))
    merged, result = both(base, mine, other)
    data = file_of(other.content)
    if not took_all(written(data), normalise(data)[0], merged, [mine.content, base]):
        return
    elsewhere = [file_of(each) for each in (result, mine.content, base)]
    assert values_of(data) <= set().union(*map(values_of, elsewhere))
    assert not merged.displaced


@given(ACTIONS, ACTIONS)
@settings(deadline=None)
def test_a_second_file_of_the_same_writer_needs_nothing_but_what_is_there_and_its_first(
    ours: Actions, theirs: Actions
) -> None:
    base = base_content()
    mine = World(base, "ours")
    first = play(base, "theirs", told_apart(theirs, "one"))
    _, result = both(base, mine, first)
    second = play(first.content, "theirs", told_apart(theirs, "two"), time=2_000)
    since = play(result, "ours", told_apart(ours, "since"))
    merged = merge(base, since.content, second.content, seq=SEEN, deleted=since.deleted, last=first.content)
    data = file_of(second.content)
    if not took_all(written(data), normalise(data)[0], merged, [since.content, base, first.content]):
        return
    states = (applied(since.content, merged), since.content, base, first.content)
    assert values_of(data) <= set().union(*(values_of(file_of(each)) for each in states))


@given(ACTIONS)
@settings(deadline=None)
def test_it_says_yes_where_only_they_changed_anything_and_deleted_nothing(theirs: Actions) -> None:
    base = base_content()
    mine = World(base, "ours")
    kept = [each for each in told_apart(theirs, "theirs") if not each[0].startswith("delete")]
    other = play(base, "theirs", kept)
    merged, _ = both(base, mine, other)
    data = file_of(other.content)
    assert took_all(written(data), normalise(data)[0], merged, [mine.content, base])


@given(ACTIONS, st.integers(0, 3))
@settings(deadline=None)
def test_it_says_yes_where_a_stale_writer_goes_on_though_we_added_and_deleted(ours: Actions, count: int) -> None:
    """What a chat program does that read the file once and writes it back after each answer."""
    base = base_content()
    mine = play(
        base, "ours", [each for each in told_apart(ours, "ours") if not each[0].startswith(("edit", "reorder"))]
    )
    other = World(base, "theirs")
    for _ in range(count):
        other.add_session()
    merged, _ = both(base, mine, other)
    data = file_of(other.content)
    assert took_all(written(data), normalise(data)[0], merged, [mine.content, base])


def outcome(data: Body, raw: bytes | None = None) -> bool:
    base = base_content()
    theirs = normalise(data)[0]
    merged = merge(base, base, theirs, seq=SEEN, deleted={})
    found = written(data)
    return took_all(found._replace(raw=raw) if raw is not None else found, theirs, merged, [base])


LEFT_OUT: dict[str, Any] = {
    "a session that is a list": lambda data: data["sessions"].update(s9=["mine"]),
    "a message that is text": lambda data: data["messages"].update(m9="mine"),
    "messages in a list": lambda data: data.update(messages=[{"id": "m", "content": "mine"}]),
    "ids in an object": lambda data: data["sessions"]["s0"].update(messageIds={"mine": 1}),
    "an id that is a number": lambda data: data["sessions"]["s0"]["messageIds"].append(7),
    "a revision of their own": lambda data: data["messages"].update(m9={"id": "m9", "rev": 77}),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_it_says_no_where_something_has_no_place_with_us(name: str) -> None:
    data = file_of(base_content())
    assert outcome(data)
    LEFT_OUT[name](data)
    assert not outcome(data)


def test_it_says_no_where_a_key_stands_twice() -> None:
    data = file_of(base_content())
    twice = encode(data).replace(b'"sessions":{', b'"sessions":{"lost":{"title":"mine"}},"sessions":{', 1)
    assert not outcome(data, twice)
    deep = encode(data).replace(b'"orphan":{', b'"orphan":{"content":"mine",', 1)
    assert not outcome(data, deep)


def test_it_says_no_where_it_cannot_be_told_whether_a_key_stands_twice() -> None:
    data = file_of(base_content())
    data["messages"]["orphan"]["x"] = 1
    deep = encode(data).replace(b'"x":1', b'"x":' + b"[" * 100_000 + b"]" * 100_000)
    assert not outcome(data, deep)


def test_it_says_no_where_we_both_changed_a_field() -> None:
    base = base_content()
    mine, other = World(base, "ours"), World(base, "theirs")
    mine.edit("message", "s0m0", "content", "ours")
    other.edit("message", "s0m0", "content", "theirs")
    merged, _ = both(base, mine, other)
    data = file_of(other.content)
    assert not took_all(written(data), normalise(data)[0], merged, [mine.content, base])


def test_it_says_no_where_they_changed_what_we_had_deleted() -> None:
    base = base_content()
    mine, other = World(base, "ours"), World(base, "theirs")
    mine.delete_message("s0m0")
    other.edit("message", "s0m0", "content", "changed after it was gone")
    merged, result = both(base, mine, other)
    assert "s0m0" not in result.messages
    data = file_of(other.content)
    assert not took_all(written(data), normalise(data)[0], merged, [mine.content, base])


def test_a_merge_without_changes_of_an_empty_file_is_whole() -> None:
    empty = Content({}, {}, {}, {}, {}, {}, {})
    assert took_all(written({"sessions": {}, "messages": {}}), empty, Merged([], []), [empty])
