"""Searches find what is there, all of it and nothing else: words, parts, filters, copies, pages."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import ManualClock, NativeSessionManager
from nomad_sessions.errors import InvalidInputError, InvalidWorkspaceIdError, StoreClosedError
from nomad_sessions.search import Searcher
from nomad_sessions.search.query import expression, trigrams
from tests.support.talks import add, ids, talking


@pytest.fixture
def s(m: NativeSessionManager) -> Iterator[Searcher]:
    with Searcher(m) as searcher:
        yield searcher


@pytest.fixture
def talk(m: NativeSessionManager, clock: ManualClock) -> dict[str, str]:
    return talking(m, clock)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("slugify", ["asked"]),
        ("SLUGIFY fails", ["asked"]),
        ("slugify dashes", []),
        ('"trailing dashes"', ["looked", "s"]),
        ('"dashes trailing"', []),
        ("strip*", ["fixed"]),
        ("strip", []),
        ("dashes -stripped", ["looked", "s"]),
        ('dashes -"in slug"', ["fixed", "s"]),
        ("slugify OR stripped", ["asked", "fixed"]),
        ("re.sub", ["looked"]),
        ("slug.py", ["looked"]),
        ("naively", ["fixed"]),
        ('unclosed "quote', []),
        ("test' fails) OR (", ["asked"]),
        ("NEAR(slugify test)", []),
        ("build", ["s"]),
        ("...", []),
        ("", []),
    ],
)
def test_what_is_typed_finds_what_it_says(s: Searcher, talk: dict[str, str], query: str, names: list[str]) -> None:
    found = s.find(query, workspace_id="ws")
    assert sorted(map(str, ids(found.hits))) == sorted(str(talk.get(name)) for name in names)
    assert found.total == len(names)


def test_only_to_exclude_is_no_question(s: Searcher, talk: dict[str, str]) -> None:
    for query in ("-slugify", "dashes OR -slugify"):
        with pytest.raises(InvalidInputError, match="what to find"):
            s.find(query)


def test_nothing_that_is_typed_breaks_the_language_below(s: Searcher, talk: dict[str, str]) -> None:
    chance = random.Random(5)
    for _ in range(400):
        query = "".join(chance.choices("ab \"*-()^:+.OR\ud800\0é{}'", k=chance.randint(1, 12)))
        with contextlib.suppress(InvalidInputError):
            s.find(query, substring=chance.random() < 0.5)


def test_expressions_are_what_fts5_takes() -> None:
    assert expression('one "two three" fo* -bad -worse OR else') == (
        '(("one" AND "two three" AND "fo" *) NOT ("bad" OR "worse")) OR ("else")'
    )
    assert expression(" ... ") is None
    assert trigrams("abcd") == '"abc" AND "bcd"'
    assert trigrams("ab") is None


def test_any_part_of_a_text_is_found_whatever_the_case(s: Searcher, talk: dict[str, str]) -> None:
    for query, names in (
        ("LUGIF", ["asked"]),
        ("ashes", ["fixed", "looked", "s"]),
        ("e.su", ["looked"]),
        ("`re", ["looked"]),
        ("NAÏV", ["fixed"]),
        ("fi", ["fixed", "asked"]),
        ("100%", []),
        ("_", []),
        ("zzz", []),
    ):
        found = s.find(query, workspace_id="ws", substring=True)
        assert ids(found.hits) == [talk.get(name) for name in names], query
        assert found.total == len(names)


def test_a_hit_says_where_it_is_and_marks_what_was_found(s: Searcher, talk: dict[str, str]) -> None:
    (hit,) = s.find("slugify", workspace_id="ws").hits
    assert (hit.workspace_id, hit.session_id, hit.title) == ("ws", "s", "Trailing dashes")
    assert (hit.message_id, hit.role, hit.copies) == (talk["asked"], "user", 0)
    assert [hit.snippet[start:end] for start, end in hit.marks] == ["slugify"]
    assert json.loads(json.dumps(hit.as_dict()))["sessionId"] == "s"
    (part,) = s.find("lugif", workspace_id="ws", substring=True).hits
    assert [part.snippet[start:end] for start, end in part.marks] == ["lugif"]


def test_a_snippet_of_a_long_text_is_short_and_on_one_line(m: NativeSessionManager, s: Searcher) -> None:
    m.create_session("ws", id="s")
    add(m, "s", "word \n" * 5000 + "needle" + "\nword" * 5000)
    for substring in (False, True):
        (hit,) = s.find("needle", substring=substring).hits
        assert len(hit.snippet) < 300
        assert "\n" not in hit.snippet
        assert [hit.snippet[start:end] for start, end in hit.marks] == ["needle"]
        assert hit.snippet[0] == hit.snippet[-1] == "…"


def test_tools_their_arguments_and_their_results_are_found(m: NativeSessionManager, s: Searcher) -> None:
    m.create_session("ws", id="s")
    call = {"id": "c", "type": "function", "function": {"name": "run_shell", "arguments": '{"cmd": "pytest -q"}'}}
    part = {"type": "tool_call", "toolCall": call, "toolResult": {"toolCallId": "c", "content": "3 passed"}}
    called = m.add_message("ws", "s", role="assistant", parts=[{"type": "thinking", "content": "hmm"}, part]).id
    told = m.add_message("ws", "s", role="tool", tool_call_id="c", content="exit code 0", toolName="run_shell").id
    file = {"mime": "image/png", "name": "shot.png", "url": "data:image/png;base64,aGVsbG8="}
    shown = m.add_message("ws", "s", role="user", parts=[{"type": "file", "file": file}]).id
    other = m.add_message(
        "ws", "s", role="user", parts=[{"type": "subtask", "opencode": {"prompt": "survey loops"}}]
    ).id
    for query, wanted in (
        ("pytest", [called]),
        ("passed", [called]),
        ("hmm", [called]),
        ('"exit code"', [told]),
        ("shot.png", [shown]),
        ("aGVsbG8", []),
        ("survey", [other]),
        ("subtask", []),
    ):
        assert ids(s.find(query).hits) == wanted, query
    assert s.find("run_shell").total == 2
    assert set(ids(s.find("", tool="run_shell").hits)) == {told, called}
    assert s.find("", tool="run").total == 0


def test_filters_leave_what_they_say(m: NativeSessionManager, s: Searcher, clock: ManualClock) -> None:
    m.create_session("ws", id="a", title="one")
    m.create_session("ws", id="b", title="two")
    model = {"providerId": "anthropic", "modelId": "claude-x"}
    first = add(m, "a", "needle", agent="plan")
    clock.advance(1000)
    second = m.add_message("ws", "b", role="assistant", content="needle", model=model).id
    m.archive_session("ws", "b")
    for filters, wanted in (
        ({}, {first, second}),
        ({"session_id": "a"}, {first}),
        ({"session_id": "none"}, set()),
        ({"role": "assistant"}, {second}),
        ({"agent": "plan"}, {first}),
        ({"model": "claude-x"}, {second}),
        ({"model": "anthropic/claude-x"}, {second}),
        ({"model": "claude"}, set()),
        ({"since": clock.now()}, {second}),
        ({"until": clock.now()}, {first}),
        ({"archived": True}, {second}),
        ({"archived": False}, {first}),
        ({"role": "assistant", "session_id": "a"}, set()),
    ):
        for substring in (False, True):
            found = s.find("needle", substring=substring, **filters)
            assert set(ids(found.hits)) == wanted, filters
            assert found.total == len(wanted)
    assert ids(s.find("", workspace_id="ws", role="user").hits) == [first]


def test_a_title_counts_more_than_a_mention(m: NativeSessionManager, s: Searcher) -> None:
    m.create_session("ws", id="a", title="other")
    add(m, "a", "A long text that mentions the migration once among many other words, and goes on for a while.")
    m.create_session("ws", id="b", title="Database migration")
    assert [hit.session_id for hit in s.find("migration").hits] == ["b", "a"]


def test_all_workspaces_are_searched_and_pages_add_up(m: NativeSessionManager, s: Searcher, clock: ManualClock) -> None:
    for ws in ("one", "two", "three"):
        m.create_session(ws, id=f"s-{ws}", title="t")
        for number in range(17):
            clock.advance(1)
            m.add_message(ws, f"s-{ws}", role="user", content=f"needle {'x ' * number}")
    whole = s.find("needle", limit=1000)
    assert (whole.total, len(whole.hits), whole.next_offset) == (51, 51, None)
    pages: list[str | None] = []
    offset: int | None = 0
    while offset is not None:
        page = s.find("needle", limit=10, offset=offset)
        assert page.total == 51
        pages += ids(page.hits)
        offset = page.next_offset
    assert pages == ids(whole.hits)
    assert {hit.workspace_id for hit in whole.hits} == {"one", "two", "three"}
    assert s.find("needle", workspace_id="two").total == 17
    assert s.find("needle", offset=60).hits == ()


def test_copies_of_forks_are_one_hit_and_outlive_the_original(
    m: NativeSessionManager, s: Searcher, talk: dict[str, str]
) -> None:
    fork = m.fork_session("ws", "s")
    later = m.fork_session("ws", fork.id)
    (hit,) = s.find("slugify", workspace_id="ws").hits
    assert (hit.message_id, hit.session_id, hit.copies) == (talk["asked"], "s", 2)
    (copy,) = s.find("slugify", session_id=later.id).hits
    assert copy.session_id == later.id
    m.delete_session("ws", "s")
    (hit,) = s.find("slugify", workspace_id="ws").hits
    assert (hit.session_id, hit.copies) == (fork.id, 1)
    m.delete_session("ws", fork.id)
    m.delete_session("ws", later.id)
    assert s.find("slugify", workspace_id="ws").total == 0


def test_a_copy_that_was_edited_is_a_hit_of_its_own(m: NativeSessionManager, s: Searcher, talk: dict[str, str]) -> None:
    fork = m.fork_session("ws", "s")
    assert s.find("slugify").total == 1
    m.update_message("ws", fork.message_ids[0], content="slugify is another word here")
    assert s.find("slugify").total == 2
    assert ids(s.find("another").hits) == [fork.message_ids[0]]


def test_the_same_words_twice_in_one_session_are_two_hits(m: NativeSessionManager, s: Searcher) -> None:
    m.create_session("ws", id="s")
    both = [add(m, "s", "yes") for _ in range(2)]
    assert sorted(map(str, ids(s.find("yes").hits))) == sorted(both)
    m.fork_session("ws", "s")
    assert [hit.copies for hit in s.find("yes").hits] == [1, 1]


def test_what_is_hidden_is_not_found_until_it_is_shown_again(
    m: NativeSessionManager, s: Searcher, talk: dict[str, str]
) -> None:
    assert s.find("stripped").total == 1
    m.revert("ws", "s", talk["asked"])
    assert s.find("stripped").total == 0
    m.unrevert("ws", "s")
    assert s.find("stripped").total == 1
    m.delete_message("ws", talk["fixed"])
    assert s.find("stripped").total == 0


def test_a_stream_is_found_as_far_as_it_came(m: NativeSessionManager, s: Searcher) -> None:
    m.create_session("ws", id="s")
    with m.stream_message("ws", "s") as stream:
        stream.text("The first word")
        assert s.find("first").total == 1
        stream.text(" and the second")
    assert s.find("first second").total == 1


def test_text_that_sqlite_would_refuse_is_found_too(m: NativeSessionManager, s: Searcher) -> None:
    m.create_session("ws", id="s", title="half \ud83d title")
    found = add(m, "s", "before\0after half \ud83d emoji")
    assert ids(s.find("before after").hits) == [found]
    assert s.find("emoji \ud83d").total == 1
    assert s.find("half title").total == 1
    assert s.find("half", role="\ud83d").total == 0


def test_a_workspace_that_is_not_there_has_nothing_and_stays_so(m: NativeSessionManager, s: Searcher) -> None:
    assert s.find("word", workspace_id="none").total == 0
    assert not (Path(m.data_dir) / "none").exists()
    assert s.find("word").total == 0


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"query": 3}, "query"),
        ({"role": 3}, "role"),
        ({"since": "today"}, "since"),
        ({"archived": 1}, "archived"),
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"offset": -1}, "offset"),
    ],
)
def test_a_wrong_argument_is_named(s: Searcher, more: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        s.find(**{"query": "word", **more})
    assert caught.value.field == field


def test_a_wrong_workspace_id_and_a_closed_searcher_are_said(m: NativeSessionManager, talk: dict[str, str]) -> None:
    s = Searcher(m)
    with pytest.raises(InvalidWorkspaceIdError):
        s.find("word", workspace_id="../x")
    s.close()
    with pytest.raises(StoreClosedError):
        s.find("word")


def test_a_time_that_no_database_holds_is_found_all_the_same(s: Searcher, m: NativeSessionManager) -> None:
    m.create_session("ws", id="far", title="late", createdAt=10**25)
    m.add_message("ws", "far", role="user", content="needle", createdAt=10**25)
    m.add_message("ws", "far", role="user", content="needle", createdAt=-(10**25))
    assert s.find("needle").total == 2
    assert s.find("late").total == 1
