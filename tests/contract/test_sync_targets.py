"""What every sync target has to do, asked of each: in memory, and of the real servers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.sync import Applied, Change, Key, MemoryTarget, Stored, SyncTarget
from tests.support.targets import TARGETS, made_target

WS = "ws"


@pytest.fixture(params=TARGETS, scope="module")
def target(request: pytest.FixtureRequest) -> Iterator[SyncTarget]:
    """One for all tests: each uses workspaces of its own."""
    with made_target(request.param) as target:
        yield target


@pytest.fixture
def ws(request: pytest.FixtureRequest) -> str:
    """A workspace that no other test has."""
    return f"ws-{abs(hash(request.node.name)):x}"


def session(ws: str, name: str, rev: int, **fields: Any) -> Change:
    body = {
        "id": name,
        "workspaceId": ws,
        "title": name,
        "createdAt": 1,
        "updatedAt": rev,
        "messageIds": [],
        "rev": rev,
    }
    return Change(ws, Key("session", name), rev, {**body, **fields}, name)


def message(ws: str, name: str, rev: int, owner: str = "s", **fields: Any) -> Change:
    body = {"id": name, "sessionId": owner, "role": "user", "content": f"text of {name}", "createdAt": 1}
    return Change(ws, Key("message", name), rev, {**body, "updatedAt": rev, "rev": rev, **fields}, owner)


def gone(change: Change, rev: int) -> Change:
    return change._replace(rev=rev, body=None)


def everything(target: SyncTarget, ws: str) -> dict[Key, tuple[int, Any]]:
    """What it has, by key: the rev and the body."""
    found = {}
    for kind in ("session", "message"):
        stored: list[Stored] = []
        while page := target.scan(ws, kind, after=stored[-1].id if stored else "", limit=3):
            stored += page
        there = target.fetch(ws, kind, [each.id for each in stored])
        assert set(there) == {each.id for each in stored}
        for each in stored:
            assert there[each.id].rev == each.rev
            found[Key(kind, each.id)] = (each.rev, there[each.id].body)
    return found


def test_what_was_applied_is_there_in_the_order_of_ids(target: SyncTarget, ws: str) -> None:
    changes = [
        session(ws, "s", 1),
        *(message(ws, name, n) for n, name in enumerate(("b", "B", "a", "é", "10", "9"), 2)),
    ]
    assert target.apply(changes) == Applied(len(changes))
    assert [each.id for each in target.scan(ws, "message")] == ["10", "9", "B", "a", "b", "é"]
    assert target.scan(ws, "message", after="B", limit=2) == [Stored("a", 4), Stored("b", 2)]
    assert target.scan(ws, "message", after="zz") == [Stored("é", 5)]
    found = target.fetch(ws, "message", ["a", "nobody"])
    assert found == {"a": changes[3]}
    assert target.fetch(ws, "session", ["s"]) == {"s": changes[0]}
    assert target.fetch(ws, "message", []) == {}
    assert target.apply([]) == Applied(0)


def test_the_highest_rev_stays_whatever_comes_when(target: SyncTarget, ws: str) -> None:
    target.apply([message(ws, "m", 5, content="five")])
    for late in (
        message(ws, "m", 4, content="four"),
        message(ws, "m", 5, content="another"),
        gone(message(ws, "m", 1), 3),
    ):
        assert target.apply([late]).confirmed == 1
        assert everything(target, ws)[Key("message", "m")] == (5, message(ws, "m", 5, content="five").body)
    target.apply([message(ws, "m", 6, content="six")])
    assert everything(target, ws)[Key("message", "m")][1]["content"] == "six"
    target.apply([message(ws, "m", 2, content="forced")], force=True)
    assert everything(target, ws) == {Key("message", "m"): (2, message(ws, "m", 2, content="forced").body)}


def test_what_is_gone_stays_so_until_something_newer_comes(target: SyncTarget, ws: str) -> None:
    target.apply([message(ws, "m", 5), message(ws, "other", 6)])
    target.apply([gone(message(ws, "m", 5), 7), gone(message(ws, "never", 1), 8)])
    target.apply([message(ws, "m", 6), message(ws, "never", 3)])
    assert list(everything(target, ws)) == [Key("message", "other")]
    target.apply([message(ws, "m", 9)])
    assert [key.id for key in everything(target, ws)] == ["m", "other"]
    target.apply([gone(message(ws, "m", 1), 1)], force=True)
    assert [key.id for key in everything(target, ws)] == ["other"]


def test_with_a_session_its_messages_go(target: SyncTarget, ws: str) -> None:
    target.apply([session(ws, "s", 1), session(ws, "t", 2), message(ws, "a", 3), message(ws, "b", 4, "t")])
    target.apply([gone(session(ws, "s", 1), 5)])
    assert set(everything(target, ws)) == {Key("session", "t"), Key("message", "b")}
    target.apply([message(ws, "a", 3)])
    target.apply([session(ws, "s", 8), message(ws, "new", 9)])
    target.apply([gone(session(ws, "s", 1), 5)])
    assert set(everything(target, ws)) == {
        Key("session", "s"),
        Key("session", "t"),
        Key("message", "b"),
        Key("message", "new"),
    }


def test_of_a_session_that_ended_no_older_message_stays_in_whatever_order_it_is_told(
    target: SyncTarget, ws: str
) -> None:
    """The message had gone before, came again, and its session ended; then that came again, too."""
    told = [gone(message(ws, "m", 1), 1), message(ws, "m", 2), gone(session(ws, "s", 1), 3), session(ws, "s", 4)]
    for number, order in enumerate(itertools.permutations(told)):
        place = f"{ws}-{number}"
        for change in order:
            assert target.apply([change._replace(workspace_id=place)]) == Applied(1)
        assert everything(target, place) == {Key("session", "s"): (4, told[3].body)}, order


def test_of_a_session_that_ended_what_is_forced_stays(target: SyncTarget, ws: str) -> None:
    target.apply([gone(session(ws, "s", 1), 3)])
    target.apply([message(ws, "m", 2), message(ws, "other", 2, "t"), message(ws, "n", 5)])
    assert set(everything(target, ws)) == {Key("message", "n"), Key("message", "other")}
    target.apply([message(ws, "m", 2)], force=True)
    assert Key("message", "m") in everything(target, ws)
    target.apply([session(ws, "s", 1)], force=True)
    target.apply([message(ws, "late", 2)])
    assert Key("message", "late") in everything(target, ws), "it is told of another past, in which nothing ended"


def test_workspaces_are_apart(target: SyncTarget, ws: str) -> None:
    other = f"{ws}-other"
    target.apply([message(ws, "m", 5)])
    target.apply([message(other, "m", 7), session(other, "s", 6)])
    target.apply([gone(session(other, "s", 6), 9)])
    assert list(everything(target, ws)) == [Key("message", "m")]
    assert everything(target, other) == {}
    assert ws in target.workspaces()
    assert other not in target.workspaces()


ODD = (
    "with space",
    "a/b",
    "a:b",
    "$set",
    "a.b",
    "x" * 500,
    "\U0001f600",
    "\uffff",
    "\ue000",
    "é",
    "e\u0301",
    "\x00nul",
    "lone \ud83d half",
    "quote\"'\\",
    "%2F",
)


def test_whatever_a_name_or_a_text_is_comes_back(target: SyncTarget, ws: str) -> None:
    nested: Any = "leaf"
    for _ in range(200):
        nested = {"in": [nested]}
    fields: dict[str, Any] = {
        "content": "nul \x00, half \ud83d, \U0001f600, e\u0301",
        "metadata": {"$set": 1, "a.b": {"": None}, "big": 1 << 70, "half": 0.5, "deep": nested, "\ud83d": [], "e": {}},
        "unknown": [1, None, True, [], {}],
    }
    changes = [message(ws, name, rev, **fields) for rev, name in enumerate(ODD, 1)]
    assert target.apply(changes) == Applied(len(changes))
    assert [each.id for each in target.scan(ws, "message")] == sorted(ODD)
    found = target.fetch(ws, "message", ODD)
    for change in changes:
        assert json.dumps(found[change.key.id].body) == json.dumps(change.body)
        assert found[change.key.id] == change
    pages: list[Stored] = []
    while page := target.scan(ws, "message", after=pages[-1].id if pages else "", limit=2):
        pages += page
    assert [each.id for each in pages] == sorted(ODD)
    target.apply([gone(change, 100) for change in changes])
    assert target.scan(ws, "message") == []


def test_a_long_message_comes_back_whole(target: SyncTarget, ws: str) -> None:
    change = message(ws, "long", 1, content="0123456789 words and words " * 40_000)
    assert target.apply([change]) == Applied(1)
    assert target.fetch(ws, "message", ["long"]) == {"long": change}
    shorter = message(ws, "long", 2, content="short")
    target.apply([shorter])
    assert everything(target, ws) == {Key("message", "long"): (2, shorter.body)}


def test_it_says_what_it_is_and_that_it_is_there(target: SyncTarget) -> None:
    target.ping()
    info = target.describe()
    assert info.kind
    assert info.place
    assert "secret" not in str(info)


revs = st.integers(1, 30)
names = st.sampled_from(["a", "b", "c"])
steps = st.one_of(
    st.builds(lambda name, rev: ("session", name, rev), names, revs),
    st.builds(lambda name, rev: ("gone session", name, rev), names, revs),
    st.builds(lambda name, rev: ("message", name, rev), names, revs),
    st.builds(lambda name, rev: ("gone message", name, rev), names, revs),
)


def _changes(ws: str, history: list[tuple[str, str, int]]) -> list[Change]:
    """Each rev is of one change at most, as in a log."""
    changes: dict[int, Change] = {}
    for what, name, rev in history:
        change = session(ws, name, rev) if what.endswith("session") else message(ws, f"m{name}", rev, name)
        changes.setdefault(rev, gone(change, rev) if what.startswith("gone") else change)
    return list(changes.values())


@settings(max_examples=40, deadline=None)
@given(history=st.lists(steps, max_size=25), data=st.data())
def test_it_is_what_the_one_in_memory_is_after_any_history(
    target: SyncTarget, history: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    ws = f"h-{abs(hash(json.dumps(history))):x}-{data.draw(st.integers(0, 1 << 40))}"
    model = MemoryTarget()
    for change in _changes(ws, history):
        for each in (target, model):
            assert each.apply([change]) == Applied(1)
    assert everything(target, ws) == everything(model, ws)


@given(history=st.lists(steps, max_size=25), data=st.data())
def test_the_one_in_memory_ends_the_same_in_whatever_order_and_however_often_it_is_told(
    history: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    changes = _changes("ws", history)
    again = data.draw(st.permutations(changes)) + data.draw(st.permutations(changes))
    one, other = MemoryTarget(), MemoryTarget()
    one.apply(changes)
    for change in again:
        other.apply([change])
    assert everything(one, "ws") == everything(other, "ws")
