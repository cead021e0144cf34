"""A message that forks have copied is one hit; the same words of sessions that have nothing to do with each other are
as many as there are sessions, even where they were said in one moment."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.search import Searcher


@pytest.fixture
def s(m: NativeSessionManager) -> Iterator[Searcher]:
    with Searcher(m) as searcher:
        yield searcher


def say(m: NativeSessionManager, session: str, **more: Any) -> None:
    """A session in which the same is said at the same time as in all others of these tests."""
    m.create_session("ws", id=session, **more)
    m.add_message("ws", session, {"role": "user", "content": "needle"})
    m.add_message("ws", session, {"role": "user", "content": "needle"})


def found(s: Searcher) -> list[tuple[str, int]]:
    results = s.find("needle", workspace_id="ws")
    assert results.total == len(results.hits)
    return sorted((hit.session_id, hit.copies) for hit in results.hits)


def test_the_same_words_in_one_moment_are_no_fork(m: NativeSessionManager, s: Searcher) -> None:
    say(m, "a")
    say(m, "b")
    assert found(s) == [("a", 0), ("a", 0), ("b", 0), ("b", 0)]


def test_forks_that_an_importer_links_are_and_sub_agents_are_not(m: NativeSessionManager, s: Searcher) -> None:
    say(m, "a")
    say(m, "fork", parentId="a", imported={"tool": "pi", "relation": "fork"})
    say(m, "agent", parentId="a", imported={"tool": "claude-code", "relation": "subagent"})
    assert found(s) == [("a", 1), ("a", 1), ("agent", 0), ("agent", 0)]


@pytest.mark.parametrize("order", [*itertools.permutations("abcd")])
@pytest.mark.parametrize("searching", [False, True])
def test_in_whatever_order_a_chain_of_forks_comes_it_is_one_family(
    m: NativeSessionManager, s: Searcher, order: tuple[str, ...], searching: bool
) -> None:
    parents = {"a": None, "b": "a", "c": "b", "d": "c"}
    for each in order:
        say(m, each, parentId=parents[each])
        if searching:
            s.find("needle")
    assert found(s) == [(order[0], 3)] * 2


def test_forks_of_a_session_that_is_gone_are_a_family(m: NativeSessionManager, s: Searcher) -> None:
    say(m, "b", parentId="gone")
    say(m, "c", parentId="gone")
    say(m, "d", parentId="other")
    assert found(s) == [("b", 1), ("b", 1), ("d", 0), ("d", 0)]


def test_a_link_that_is_set_or_taken_back_later_counts_from_then_on(m: NativeSessionManager, s: Searcher) -> None:
    say(m, "a")
    say(m, "b")
    say(m, "c", parentId="b")
    assert found(s) == [("a", 0), ("a", 0), ("b", 1), ("b", 1)]
    m.update_session("ws", "b", parentId="a")
    assert [copies for _, copies in found(s)] == [2, 2]
    m.update_session("ws", "c", parentId=None)
    assert sorted(copies for _, copies in found(s)) == [0, 0, 1, 1]
    m.delete_session("ws", "a")
    m.delete_session("ws", "b")
    assert found(s) == [("c", 0), ("c", 0)]
