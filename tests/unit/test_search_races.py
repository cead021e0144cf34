"""What other processes do to an index while it is asked, or have done to its rows: the answer is right, or an error of
ours."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import CorruptionError, LockTimeoutError, StoreClosedError
from nomad_sessions.search import Searcher, index, searcher
from tests.support.indexes import INDEX, WS, agrees, begin, folder, look


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        yield manager


def changed(m: NativeSessionManager, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(folder(m) / INDEX)) as other, other:
        other.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET offset = offset + 1",
        "UPDATE event SET length = length + 100000 WHERE seq = 3",
        "UPDATE event SET (offset, length) = (SELECT offset, length FROM event WHERE seq = 3) WHERE seq = 2",
        "UPDATE event SET segment = 77 WHERE seq = 2",
        "UPDATE event SET archived = 1",
    ],
)
def test_rows_that_lead_elsewhere_are_made_anew(m: NativeSessionManager, statement: str) -> None:
    begin(m)
    look(m)
    changed(m, statement)
    agrees(m)


@pytest.mark.parametrize(
    "key", ["proof", "seq", "epoch", "event_proof", "event_archives", "event_state", "event_epoch"]
)
@pytest.mark.parametrize("harm", ["DELETE FROM meta", "UPDATE meta SET value = '[[{'", "UPDATE meta SET value = '[1]'"])
def test_notes_of_an_index_that_are_damaged_are_made_anew(m: NativeSessionManager, key: str, harm: str) -> None:
    begin(m)
    look(m)
    changed(m, f"{harm} WHERE key = '{key}'")
    m.add_message(WS, "s", role="user", content="later")
    look(m, "original1", "later")
    agrees(m)


def test_an_index_that_never_agrees_is_an_error_of_ours(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(m)

    def gone(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "somewhere")

    monkeypatch.setattr(searcher, "load_events", gone)
    with Searcher(m) as s, pytest.raises(CorruptionError, match=r"index\.sqlite"):
        s.events(WS)


def before_each(monkeypatch: pytest.MonkeyPatch, name: str, does: Callable[[], object]) -> None:
    original = getattr(searcher, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        does()
        return original(*args, **kwargs)

    monkeypatch.setattr(searcher, name, call)


@pytest.mark.parametrize("name", ["count_events", "find_events", "load_events", "find", "shown"])
def test_an_index_that_is_deleted_in_the_middle(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    begin(m)
    total = m.status(WS).seq

    def delete() -> None:
        for each in folder(m).glob(f"{INDEX}*"):
            each.unlink()

    before_each(monkeypatch, name, delete)
    with Searcher(m) as s:
        for _ in range(3):
            assert (s.events(WS).total, len(s.events(WS).events)) == (total, total)
            assert [hit.message_id for hit in s.find("original1").hits] == ["m1"]


def test_an_index_that_is_made_anew_between_finding_and_showing(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(m)
    times: list[int] = []

    def again() -> None:
        if len(times) < 2:
            times.append(1)
            changed(m, "UPDATE meta SET value = 'other' || random() WHERE key = 'epoch'")
            changed(m, "UPDATE doc SET body = 'something else'")

    with Searcher(m) as s:
        assert s.find("original2").total == 1
        before_each(monkeypatch, "_best", again)
        found = s.find("original2")
        assert (found.total, len(found.hits)) == (1, 1)
    assert len(times) == 2


def test_total_and_page_are_of_one_moment(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(m)

    before = m.status(WS).seq

    with Searcher(m) as s, Searcher(m) as other:

        def further() -> None:
            monkeypatch.undo()
            m.record_event(WS, "later")
            assert other.events(WS).total == before + 1

        before_each(monkeypatch, "find_events", further)
        found = s.events(WS, limit=100)
        assert (found.total, [event.seq for event in found.events]) == (before, list(range(before, 0, -1)))
        assert s.events(WS).total == before + 1


def test_only_what_was_seen_is_forgotten(m: NativeSessionManager) -> None:
    begin(m)
    with Searcher(m) as s:
        s.events(WS)
        opened = s._index(WS)
        epoch = opened.meta("event_epoch")
        searcher._forget_events(opened, epoch="of before")
        assert opened.meta("event_seq") > 0
        searcher._forget_events(opened, epoch=epoch)
        assert opened.meta("event_seq") == 0
        assert opened.meta("event_epoch") != epoch
        assert s.events(WS).total == m.status(WS).seq


def test_what_another_process_empties_meanwhile_is_filled_again(m: NativeSessionManager) -> None:
    begin(m)
    with Searcher(m) as s:
        assert s.find("original1").total == 1
        m.add_message(WS, "s", role="user", content="later")
        times: list[int] = []

        def empty(done: int, total: int) -> None:
            if not times:
                times.append(total)
                other = index.Index(str(folder(m) / INDEX))
                with other.changing():
                    other.begin_again()
                other.close()

        found = [s.find(word, progress=empty).total for word in ("original1", "later")]
        assert (found, len(times)) == ([1, 1], 1)


def failing(monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], times: int) -> None:
    left = [times]

    def fail() -> None:
        if left[0]:
            left[0] -= 1
            raise error()

    for name in ("find_events", "find"):
        before_each(monkeypatch, name, fail)


def missing() -> Exception:
    error = sqlite3.OperationalError("no such table: event")
    error.sqlite_errorcode = sqlite3.SQLITE_ERROR
    return error


def test_a_table_that_another_process_makes_this_moment_is_no_damage(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(m)
    look(m)
    before = (folder(m) / INDEX).stat().st_ino
    with Searcher(m) as s:
        failing(monkeypatch, missing, 1)
        assert s.events(WS).total == m.status(WS).seq
    assert (folder(m) / INDEX).stat().st_ino == before


@pytest.mark.parametrize("error", [missing, lambda: sqlite3.DatabaseError("odd"), sqlite3.InterfaceError])
def test_no_error_of_sqlite_reaches_the_caller(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    begin(m)
    with Searcher(m) as s:
        failing(monkeypatch, error, 8)
        with pytest.raises(CorruptionError, match=r"index\.sqlite"):
            s.events(WS)
        with pytest.raises(CorruptionError, match=r"index\.sqlite"):
            s.find("original1", workspace_id=WS)
        assert s.events(WS).total == m.status(WS).seq


def test_a_searcher_that_is_closed_meanwhile_says_so(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(m)
    with Searcher(m) as s:
        before_each(monkeypatch, "find_events", s.close)
        with pytest.raises(StoreClosedError):
            s.events(WS)


def test_events_too_say_that_another_process_has_the_index(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "WAIT", 0.05)
    begin(m)
    with Searcher(m) as s:
        assert s.events(WS).total == m.status(WS).seq
        with contextlib.closing(sqlite3.connect(folder(m) / INDEX, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = m.status(WS).seq
            m.record_event(WS, "later")
            found = s.events(WS)
            assert (found.stale, found.total) == (True, before)
            other.execute("ROLLBACK")
            assert s.events(WS).total == before + 1
        s._index(WS).connection.execute("PRAGMA journal_mode = DELETE")
        with contextlib.closing(sqlite3.connect(folder(m) / INDEX, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LockTimeoutError, match=r"index\.sqlite"):
                s.events(WS)
