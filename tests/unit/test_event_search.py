"""Events found and counted through the index: the same as a replay of the log gives, whatever happened to either."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import EventFilter, InvalidInputError, NativeSessionManager
from nomad_sessions.models import Event
from nomad_sessions.search import Searcher, event_rows
from nomad_sessions.search.event_rows import DAY
from nomad_sessions.workspace import folding
from nomad_sessions.workspace.state import WORKSPACE

WS = "ws"
T0 = 1_760_000_000_000


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        yield manager


@pytest.fixture
def s(m: NativeSessionManager) -> Iterator[Searcher]:
    with Searcher(m) as searcher:
        yield searcher


def history(m: NativeSessionManager) -> None:
    """Changes and recorded events, of several kinds, sessions and days."""
    m.create_session(WS, id="a", title="first")
    m.create_session(WS, id="b")
    call = {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    one = m.add_message(WS, "a", role="user", content="kanban")
    m.add_message(WS, "a", role="assistant", parts=[{"type": "tool_call", "toolCall": call}])
    with m.stream_message(WS, "b") as stream:
        for word in ("slug", "ify"):
            stream.text(word)
    m.update_message(WS, one.id, content="board")
    m.delete_message(WS, one.id)
    body = {"type": "task.created", "sessionId": WORKSPACE, "rowId": "t", "about": "b", "row": {"sessionId": "b"}}
    m._commit(WS, lambda view, stamp: ([body], lambda after: None))
    record(m, 40)


def record(m: NativeSessionManager, count: int, first: int = 0) -> None:
    m.record_events(
        WS,
        [
            {
                "type": ("session.idle", "session.error", "tool.ran")[n % 3],
                "properties": {"note": f"word{n % 7} note", "tool": "bash"}
                if n % 3 == 2
                else {"n": [{"deep": "deep"}]},
                "session_id": (None, "a", "b", "elsewhere")[n % 4],
                "timestamp": T0 + n * DAY // 5,
            }
            for n in range(first, first + count)
        ],
    )


def filters() -> Iterator[EventFilter]:
    yes_no = (None, True, False)
    for types, session, recorded, tool, task in itertools.product(
        ((), "session.*", ("tool.ran", "message.*", "none")), (None, "a", "none"), yes_no, yes_no, yes_no
    ):
        yield EventFilter(types, session, None, recorded, tool, task)
    for after, before, types in itertools.product((None, T0, T0 + DAY + 5), (None, T0 + 5 * DAY, 0), ((), "*.idle")):
        yield EventFilter(types, after=after, before=before)
        yield EventFilter(types, "a", is_agent_task=False, after=after, before=before)


def replayed(m: NativeSessionManager, wanted: EventFilter) -> list[Event]:
    given = {name: getattr(wanted, name) for name in EventFilter.__dataclass_fields__ if name != "_pattern"}
    journal = list(m.events(WS, **given))
    recorded = [] if wanted.recorded is False else m.events(WS, **{**given, "recorded": True})
    return sorted({event.seq: event for event in (*journal, *recorded)}.values(), key=lambda event: event.seq)


def compare(m: NativeSessionManager, s: Searcher, *, pages: bool = True) -> None:
    for wanted in filters():
        expected = replayed(m, wanted)
        found = s.events(WS, wanted, limit=1000, newest_first=False)
        assert (found.total, found.next_offset) == (len(expected), None), wanted
        assert list(found.events) == expected, wanted
        if pages and expected:
            page = s.events(WS, wanted, limit=3, offset=1)
            assert list(page.events) == expected[::-1][1:4]
            assert page.next_offset == (4 if len(expected) > 4 else None)


def test_it_is_what_a_replay_gives(m: NativeSessionManager, s: Searcher) -> None:
    history(m)
    compare(m, s)
    record(m, 5, 40)
    m.delete_session(WS, "a")
    compare(m, s, pages=False)


def test_it_follows_the_journal_s_retention(
    m: NativeSessionManager, s: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_ROTATE_ABOVE", 4_000)
    m.configure_workspace(WS, retention={"bytes": 0})
    history(m)
    assert s.events(WS).total == m.status(WS).seq
    for first in (100, 500, 900):
        record(m, 50, first)
        m.checkpoint(WS)
        compare(m, s, pages=False)
    assert s.events(WS).total < m.status(WS).seq, "what the store changed itself is pruned"
    assert s.events(WS, EventFilter(recorded=True)).total == 190


@pytest.mark.parametrize("harm", ["deleted", "damaged", "of another version"])
def test_the_index_is_made_again(m: NativeSessionManager, s: Searcher, tmp_path: Path, harm: str) -> None:
    history(m)
    total = s.events(WS).total
    path = tmp_path / "data" / WS / "index.sqlite"
    if harm == "deleted":
        for each in path.parent.glob("index.sqlite*"):
            each.unlink()
    elif harm == "damaged":
        s.close()
        path.write_bytes(b"\0" * 9_000)
        s = Searcher(m)
    else:
        s.close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE meta SET value = 1 WHERE key = 'version'")
        connection.close()
        s = Searcher(m)
    assert s.events(WS).total == total
    compare(m, s, pages=False)
    s.close()


def test_an_older_state_put_back_is_another_past(m: NativeSessionManager, tmp_path: Path) -> None:
    history(m)
    with Searcher(m) as s:
        assert s.events(WS, EventFilter("later")).total == 0
        m.record_event(WS, "later")
        assert s.events(WS, EventFilter("later")).total == 1
    m.delete_workspace(WS)
    m.create_session(WS, id="a")
    m.record_event(WS, "other")
    with Searcher(m) as s:
        assert [event.type for event in s.events(WS).events] == ["other", "session.created"]


def test_words_are_found_in_what_events_say(m: NativeSessionManager, s: Searcher) -> None:
    history(m)
    assert s.events(WS, query="kanban").total == 1
    assert s.events(WS, query="kan*").events[0].type == "message.updated"
    assert s.events(WS, query="deep").total == len([n for n in range(40) if n % 3 != 2])
    both = s.events(WS, EventFilter("tool.ran", "b"), query="word2 OR word3")
    assert {event.properties["note"] for event in both.events} <= {"word2 note", "word3 note"}
    assert both.total == len([n for n in range(40) if n % 3 == 2 and n % 4 == 2 and n % 7 in (2, 3)])
    record(m, 10, 70)
    m.record_event(WS, "said", {"text": "unheard of"})
    assert [event.type for event in s.events(WS, query='"unheard of"').events] == ["said"]
    assert s.events(WS, query="nowhere") == replace(s.events(WS, query="nowhere"), events=(), total=0)


def test_words_of_what_was_pruned_are_not_found(m: NativeSessionManager, s: Searcher) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    history(m)
    assert s.events(WS, query="kanban").total == 1
    for first in (100, 500):
        record(m, 300, first)
        m.checkpoint(WS)
    assert s.events(WS, query="kanban").total == 0
    assert s.events(WS, query="deep").total > 300


def test_groups_are_noted_one_by_one(m: NativeSessionManager, s: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_rows, "_GROUP", 7)
    history(m)
    compare(m, s, pages=False)
    assert s.events(WS, query="note").total == 13


def test_nothing_there_and_bad_questions(m: NativeSessionManager, s: Searcher) -> None:
    found = s.events("nowhere")
    assert (found.events, found.total, found.next_offset, found.stale) == ((), 0, None, False)
    m.create_session(WS, id="a")
    bad: list[dict[str, Any]] = [{"limit": 0}, {"offset": -1}, {"query": 5}, {"query": "-all"}]
    for wrong in bad:
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            s.events(WS, **wrong)
    assert s.events(WS, offset=5).events == ()
    odd = s.events(WS, EventFilter("session.*", "\ud800"), query="\ud800x")
    assert odd.total == 0
