"""Hits of several workspaces stand in the order in which one index of everything would have them."""

from __future__ import annotations

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.search import Searcher
from nomad_sessions.search.ranking import Commonness, scales

RARE, COMMON = "migration", "deploy"


def fill(m: NativeSessionManager, workspace: str, texts: list[str]) -> None:
    session = m.create_session(workspace, title="a session").id
    m.add_messages(workspace, session, [{"role": "user", "content": text} for text in texts])


def test_a_workspace_that_is_all_about_a_word_has_the_best_of_it_first(m: NativeSessionManager) -> None:
    # By itself each index would say: here everybody says it, so it counts for nothing; there it is rare, so for much.
    fill(m, "about", [f"{RARE} {RARE} {RARE} step {number}" for number in range(20)])
    fill(m, "aside", [f"{RARE} and many other words that say something else {number}" for number in range(2)])
    fill(m, "aside", [f"nothing of it, {number}" for number in range(60)])
    with Searcher(m) as s:
        hits = s.find(RARE, limit=22).hits
    assert [hit.workspace_id for hit in hits] == ["about"] * 20 + ["aside"] * 2


def test_pages_of_several_workspaces_add_up(m: NativeSessionManager) -> None:
    for number in range(4):
        fill(m, f"w{number}", [f"{RARE} {COMMON} {'x ' * each}" for each in range(number * 4)])
        fill(m, f"w{number}", [f"{COMMON} {each}" for each in range(9)])
    for query in (COMMON, f"{RARE} OR {COMMON}", f"{COMMON} -{RARE}", f"{RARE[:3]}*"):
        with Searcher(m) as s:
            whole = s.find(query, limit=500)
            pages = [hit for offset in range(0, whole.total, 7) for hit in s.find(query, limit=7, offset=offset).hits]
        assert pages == list(whole.hits)
        assert len(pages) == whole.total


def test_a_scale_is_what_a_word_weighs_in_all_beside_what_it_weighs_there() -> None:
    assert scales([Commonness(100, (10,)), Commonness(100, (10,))]) == pytest.approx([1.0, 1.0], rel=0.01)
    rare, usual = scales([Commonness(1000, (1,)), Commonness(1000, (400,))])
    assert rare < 1 < usual
    assert scales([Commonness(10, (0,)), Commonness(0, (0,))]) == [1.0, 1.0]
    assert scales([]) == []
