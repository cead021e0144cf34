"""A search answers whatever has happened to an index, and whatever a workspace beside it is like."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import CorruptionError, InvalidInputError, LockTimeoutError
from nomad_sessions.events import EventFilter
from nomad_sessions.search import Searcher, index
from tests.support.damage import long_damaged


@pytest.fixture
def talk(m: NativeSessionManager) -> None:
    m.create_session("ws", id="s", title="Trailing dashes")
    for text in ("The slugify test fails, naïvely.", "Look at `re.sub` in slug.py."):
        m.add_message("ws", "s", role="user", content=text)


@pytest.fixture
def s(m: NativeSessionManager, talk: None) -> Iterator[Searcher]:
    with Searcher(m) as searcher:
        yield searcher


def place(m: NativeSessionManager) -> Path:
    return Path(m.data_dir) / "ws" / "index.sqlite"


def finds_everything(s: Searcher) -> None:
    assert s.find("slugify").total == 1
    assert s.find("lugif", substring=True).total == 1
    assert s.events("ws").total == 3


@pytest.mark.parametrize("text", [b"na\xc3\xafvely", b"CREATE TABLE session", b"Trailing dashes", b"unicode61"])
@pytest.mark.parametrize("open_already", [False, True])
def test_text_that_is_none_any_more_is_damage(
    m: NativeSessionManager, s: Searcher, text: bytes, open_already: bool
) -> None:
    finds_everything(s)
    if not open_already:
        s.close()
    content = place(m).read_bytes()
    with contextlib.closing(sqlite3.connect(place(m))) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = place(m).read_bytes()
    assert text in content
    place(m).write_bytes(content.replace(text, b"\xff" * len(text)))
    with contextlib.ExitStack() as stack:
        again = s if open_already else stack.enter_context(Searcher(m))
        again.find("naively")
        again.find("", role="user")
        m.add_message("ws", "s", role="user", content="later")
        assert again.find("later").total == 1


@pytest.mark.parametrize("seed", range(8))
def test_whatever_bytes_of_an_index_are_changed_a_search_ends_with_an_answer(
    m: NativeSessionManager, talk: None, seed: int
) -> None:
    with Searcher(m) as s:
        finds_everything(s)
        s.events("ws", query="slugify")
    whole, chance = place(m).read_bytes(), random.Random(seed)
    for _ in range(12):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 20, 400))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        for end in ("-wal", "-shm"):
            place(m).with_name(f"index.sqlite{end}").unlink(missing_ok=True)
        place(m).write_bytes(content)
        with Searcher(m) as s:
            m.add_message("ws", "s", role="user", content="slugify")
            for query in ("slugify", "dash*", ""):
                s.find(query, role="user")
                s.find(query, substring=True)
            s.events("ws", query="slugify")
            s.events("ws", EventFilter("message.*"))


def test_parts_of_words_are_found_while_another_process_has_the_file(
    m: NativeSessionManager, s: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_WAIT_FOR_GRAMS", 0.05)
    assert s.find("slugify").total == 1
    with contextlib.closing(sqlite3.connect(place(m), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = s.find("lugif", substring=True)
        assert (found.total, [hit.session_id for hit in found.hits]) == (1, ["s"])
    assert s.find("lugif", substring=True).total == 1
    with contextlib.closing(sqlite3.connect(place(m))) as other:
        assert other.execute("SELECT value FROM meta WHERE key = 'grams'").fetchone() == (1,)


def test_an_index_that_cannot_even_be_read_for_long_is_an_error_of_ours(
    m: NativeSessionManager, s: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "WAIT", 0.05)
    assert s.find("slugify").total == 1
    s._index("ws").connection.execute("PRAGMA journal_mode = DELETE")
    with contextlib.closing(sqlite3.connect(place(m), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LockTimeoutError, match=r"index\.sqlite"):
            s.find("slugify", workspace_id="ws")


def test_an_index_that_can_no_longer_be_written_is_made_in_memory(m: NativeSessionManager, s: Searcher) -> None:
    finds_everything(s)
    s._index("ws").connection.execute("PRAGMA query_only = ON")  # The error is that of a read-only file system.
    m.add_message("ws", "s", role="user", content="later")
    assert s.find("later").total == 1
    assert s.find("ater", substring=True).total == 1
    assert s.find("slugify").total == 1
    with contextlib.closing(sqlite3.connect(place(m))) as other:
        assert other.execute("SELECT count(*) FROM doc").fetchone() == (3,)


def test_the_rights_of_an_index_that_is_there_are_left_as_they_are(m: NativeSessionManager, talk: None) -> None:
    with Searcher(m) as s:
        finds_everything(s)
    place(m).chmod(0o640)
    with Searcher(m) as s:
        finds_everything(s)
    assert place(m).stat().st_mode & 0o777 == 0o640


HUGE = 10**22


@pytest.mark.parametrize(
    "given", [{"limit": HUGE}, {"offset": HUGE}, {"since": -HUGE}, {"until": HUGE}, {"limit": (1 << 53) + 1}]
)
def test_numbers_that_no_index_can_hold_are_refused(s: Searcher, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        s.find("slugify", **given)
    assert caught.value.field in given


def test_so_they_are_for_events(s: Searcher) -> None:
    cases: list[tuple[EventFilter, dict[str, Any]]] = [
        (EventFilter(), {"limit": HUGE}),
        (EventFilter(), {"offset": HUGE}),
        (EventFilter(after=HUGE), {}),
        (EventFilter(before=HUGE), {}),
    ]
    for wanted, page in cases:
        with pytest.raises(InvalidInputError):
            s.events("ws", wanted, **page)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"wanted": "session.*"}, "wanted"),
        ({"wanted": {"types": "x"}}, "wanted"),
        ({"limit": True}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"offset": False}, "offset"),
        ({"offset": 1.0}, "offset"),
        ({"query": None}, "query"),
        ({"newest_first": "no"}, "newest_first"),
    ],
)
def test_what_no_question_to_events_can_be_is_named(s: Searcher, given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        s.events("ws", **given)
    assert caught.value.field == field


def test_the_largest_numbers_are_numbers(s: Searcher) -> None:
    most = 1 << 53
    assert s.find("slugify", limit=most, offset=most, since=-most, until=most).total == 1
    assert s.find("slug", substring=True, limit=most, offset=most).total == 2
    assert s.events("ws", EventFilter(after=0, before=most), limit=most, offset=most).total == 3


def test_a_very_long_query_is_answered_or_refused(s: Searcher, m: NativeSessionManager) -> None:
    long = "slugify " * 8_000
    m.add_message("ws", "s", role="user", content=f"before {long}after")
    assert s.find(long).total == 2
    assert s.find(f"{long}after".upper()[-60_000:], substring=True).total == 1
    assert s.find(" OR ".join(f"slugify{number}" for number in range(500))).total == 0
    with pytest.raises(InvalidInputError, match="501 different words"):
        s.find(" ".join(f"slugify{number}" for number in range(501)))


def test_a_workspace_that_cannot_be_read_hides_no_other(m: NativeSessionManager, s: Searcher) -> None:
    m.create_session("other", id="o", title="slugify too")
    broken(m, "bad")
    found = s.find("slugify")
    assert {hit.workspace_id for hit in found.hits} == {"ws", "other"}
    ((name, reason),) = found.unreadable
    assert name == "bad"
    assert "sessions.json" in reason
    assert found.as_dict()["unreadable"] == [{"workspaceId": "bad", "error": reason}]
    with pytest.raises(CorruptionError):
        s.find("slugify", workspace_id="bad")


def broken(m: NativeSessionManager, workspace: str) -> None:
    """A workspace of which nothing can be read."""
    m.create_session(workspace, title="lost")
    m.checkpoint(workspace)
    m.clear_workspace(workspace)
    folder = Path(m.data_dir) / workspace
    long_damaged(folder / "sessions.json")
    (folder / "sessions.json.prev").unlink(missing_ok=True)
    shutil.rmtree(folder / "journal")
