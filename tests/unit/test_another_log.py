"""A workspace whose log is another one than it was: deleted and made anew, or an older backup put back and overtaken.

Whoever reads on in it is told, and gets all of the new one; nobody is given what follows in a log that is not his.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nomad_sessions import EventsPrunedError, NativeSessionManager
from nomad_sessions.events import feed
from nomad_sessions.workspace.log import LogPosition, LogReader
from tests.support.subscribers import WS, add, everything

Replace = Callable[[NativeSessionManager, Path], None]


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        add(manager, 2)
        shutil.copytree(tmp_path / "data" / WS, tmp_path / "backup")
        yield manager


def deleted(m: NativeSessionManager, backup: Path) -> None:
    """By the library, and made anew."""
    m.delete_workspace(WS)
    m.create_session(WS, id="s")


def exchanged(m: NativeSessionManager, backup: Path) -> None:
    """By its backup, as folders are."""
    folder = Path(m.data_dir) / WS
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)


def written_over(m: NativeSessionManager, backup: Path) -> None:
    """By its backup, each file in its place."""
    folder = Path(m.data_dir) / WS
    for file in sorted(backup.rglob("*.jsonl")):
        (folder / file.relative_to(backup)).write_bytes(file.read_bytes())


REPLACED = pytest.mark.parametrize("replace", [deleted, exchanged, written_over])


def other_writer(m: NativeSessionManager, count: int) -> int:
    """Writes as a program that had nothing open when it happened; the last seq."""
    with NativeSessionManager(m.data_dir, durability="os") as other:
        return add(other, count)[-1]


@REPLACED
@pytest.mark.parametrize("count", [1, 8])  # That is behind where the subscriber was, and beyond.
def test_who_subscribes_is_told_once_and_given_all_of_the_new_log(
    m: NativeSessionManager, tmp_path: Path, replace: Replace, count: int
) -> None:
    with m.subscribe(WS) as subscription, m.subscribe(since=None) as all_of_them:
        last = add(m, 3)[-1]
        assert everything(subscription, last) == everything(all_of_them, last) == [4, 5, 6]
        replace(m, tmp_path / "backup")
        last = other_writer(m, count)
        for each in (subscription, all_of_them):
            assert everything(each, last) == [0, *range(1, last + 1)]
        assert add(m, 2) == [last + 1, last + 2]
        for each in (subscription, all_of_them):
            assert everything(each, last + 2) == [last + 1, last + 2]
            assert each.next(0.05) is None


@REPLACED
def test_who_is_slow_too(
    m: NativeSessionManager, tmp_path: Path, replace: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_MOST", 4)
    with m.subscribe(WS, since=0) as subscription:
        add(m, 60)
        assert everything(subscription, 5) == [1, 2, 3, 4, 5]
        replace(m, tmp_path / "backup")
        last = other_writer(m, 80)
        got = everything(subscription, last)
        assert got[got.index(0) :] == [0, *range(1, last + 1)]
        assert got.index(0) in range(59), "what it had read before it may give"


def test_what_is_as_long_as_the_other_is_told_from_it_by_its_last_record(m: NativeSessionManager) -> None:
    with m.subscribe(WS) as subscription:
        assert everything(subscription, add(m, 1)[0]) == [4]
        deleted(m, Path())
        last = other_writer(m, 3)
        assert last == 4
        assert everything(subscription, last) == [0, 1, 2, 3, 4]


def reader(m: NativeSessionManager, position: LogPosition) -> LogReader:
    workspace = m.workspace(WS)
    return LogReader(workspace.fs, workspace.folder, workspace.read, *position)


def test_a_reader_knows_the_log_that_it_was_made_for_by_a_mark(m: NativeSessionManager) -> None:
    ids = [event.id for event in m.events(WS)]
    assert reader(m, LogPosition(3, ids[2])).read() == []
    assert [entry.record["seq"] for entry in reader(m, LogPosition(2, ids[1])).read()] == [3]
    assert [entry.record["seq"] for entry in reader(m, LogPosition(2)).read()] == [3]
    for seq in (1, 3):
        with pytest.raises(EventsPrunedError) as told:
            reader(m, LogPosition(seq, ids[1])).read()
        assert told.value.first <= seq
    with pytest.raises(EventsPrunedError):
        reader(m, LogPosition(4)).read()


def test_where_nothing_is_left_of_the_log_to_tell_it_by_it_is_believed(m: NativeSessionManager) -> None:
    last = list(m.events(WS))[-1]
    m.configure_workspace(WS, retention={"bytes": 0})
    for _ in range(3):
        add(m, 200)
        m.checkpoint(WS)
    there = reader(m, LogPosition(0))
    there.go_to_end()
    assert there.first() > last.seq
    assert reader(m, LogPosition(there.after, there.mark)).read() == []


def test_a_subscription_to_all_is_told_of_one_that_is_deleted_while_another_goes_on(m: NativeSessionManager) -> None:
    with m.subscribe() as subscription:
        m.create_session("other", id="o")
        assert everything(subscription, 1) == [1]
        m.delete_workspace(WS)
        with pytest.raises(EventsPrunedError, match=WS):
            subscription.next(10)
        m.record_event("other", "note")
        assert everything(subscription, 2) == [2]
        assert subscription.next(0.05) is None
