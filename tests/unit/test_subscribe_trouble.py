"""Subscriptions where things go wrong: nothing stops for good, nothing is taken for what it is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    EventsPrunedError,
    InvalidInputError,
    LockTimeoutError,
    NativeSessionManager,
    StoreClosedError,
)
from nomad_sessions.events import feed, hub, subscription
from nomad_sessions.events.reading import Reading
from nomad_sessions.workspace.log import LogPosition, agree, mark_after
from nomad_sessions.workspace.resting import AWAKE
from nomad_sessions.workspace.store import Workspace
from tests.support.subscribers import WS, add, everything, take, until
from tests.support.there import there


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


def cursor_file(m: NativeSessionManager) -> Path:
    return Path(m.data_dir) / WS / "cursors" / "c.json"


def journal(m: NativeSessionManager) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (Path(m.data_dir) / WS / "journal").iterdir()}


def put_back(kept: dict[Path, bytes]) -> None:
    """An older journal in place of the one that is there."""
    for path in next(iter(kept)).parent.iterdir():
        path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)


def other_writer(m: NativeSessionManager, write: Callable[[NativeSessionManager], Any]) -> None:
    with NativeSessionManager(m.data_dir, durability="os") as other:
        write(other)


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")])
def test_whatever_fails_in_a_look_is_said_and_the_next_goes_on(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    with m.subscribe() as one:
        failures = iter([error, error])
        look = hub.Hub._read_on

        def fails(self: hub.Hub, which: feed.Feed) -> bool:
            for each in failures:
                raise each
            return look(self, which)

        monkeypatch.setattr(hub.Hub, "_read_on", fails)
        seqs = add(m, 3)
        assert everything(one, seqs[-1]) == seqs
        assert str(error) in caplog.text


def test_only_so_many_logs_are_kept_open(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AWAKE, "few", lambda: 3)
    names = [f"w{number}" for number in range(12)]
    for name in names:
        m.create_session(name, id="s")
    with m.subscribe() as everybody:
        for _ in range(3):
            for name in names:
                m.record_event(name, "note")
            got = take(everybody, len(names))
            assert sorted(event.workspace_id for event in got) == sorted(names)
        feeds = there(m._hub)._feeds.values()
        assert sum(each._reader._segment is not None for each in feeds) <= 3


def test_an_event_with_an_id_of_its_own_is_no_other_log(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_MOST", 4)
    with m.subscribe(WS, cursor="c", since=0) as one, m.subscribe(WS, since=0) as slow:
        seqs = m.record_events(WS, [{"type": "x", "id": f"evt_{n}"} for n in range(30)])
        assert everything(slow, 5) == [1, 2, 3, 4, 5]
        seqs += m.record_events(WS, [{"type": "x", "id": f"more_{n}"} for n in range(30)])
        assert everything(slow, seqs[-1]) == list(range(6, seqs[-1] + 1))
        assert everything(one, seqs[20]) == list(range(1, seqs[20] + 1))
        one.ack()
    with m.subscribe(WS, cursor="c") as one:
        assert everything(one, seqs[-1]) == seqs[21:]


def test_a_seq_that_somebody_named_is_of_the_log_that_there_is(m: NativeSessionManager) -> None:
    last = add(m, 4)[-1]
    with m.subscribe(WS, since=last) as one:
        assert one.next(0.05) is None
        m.delete_workspace(WS)
        m.create_session(WS, id="s")
        last = add(m, 9)[-1]
        assert everything(one, last) == [0, *range(1, last + 1)]


def test_a_cursor_at_a_delta_knows_its_log(m: NativeSessionManager) -> None:
    add(m, 2)
    kept = journal(m)
    message = m.add_message(WS, "s", role="assistant", content="")
    with m.subscribe(WS, cursor="c", since=0) as one:
        for _ in range(3):
            m.append_to_message(WS, message.id, "x")
        everything(one, 7)
        one.ack()
    with m.subscribe(WS, cursor="c") as one:
        assert one.next(0.01) is None
    put_back(kept)
    other_writer(m, lambda other: add(other, 9))
    with m.subscribe(WS, cursor="c") as one:
        assert everything(one, 12) == [0, *range(1, 13)]


def test_a_backup_that_a_stream_overtakes_is_another_log(m: NativeSessionManager, tmp_path: Path) -> None:
    message = m.add_message(WS, "s", role="assistant", content="")
    m.append_to_message(WS, message.id, "Once")
    shutil.copytree(Path(m.data_dir) / WS, tmp_path / "backup")
    with m.subscribe(WS, since=2) as one:
        for text in ("old1", "old2", "old3"):
            m.append_to_message(WS, message.id, text)
        assert everything(one, 6) == [3, 4, 5, 6]
        shutil.rmtree(Path(m.data_dir) / WS)
        shutil.copytree(tmp_path / "backup", Path(m.data_dir) / WS)

        def stream(other: NativeSessionManager) -> None:
            for number in range(5):
                other.append_to_message(WS, message.id, f"new{number}")

        other_writer(m, stream)
        assert everything(one, 8) == [0, *range(1, 9)]


def test_marks_tell_deltas_apart() -> None:
    first = mark_after("id", {"text": "a"})
    assert mark_after("", {"text": "a"}) == ""
    assert mark_after(first, {"id": "next", "text": "b"}) == "next"
    assert mark_after("id~?", {"text": "a"}) == "id~?"
    for other in ({"text": "b"}, {"text": "a", "part": 1}, {"text": "a", "new": {"type": "text"}}):
        assert not agree(first, mark_after("id", other))
    assert not agree(first, "id")
    assert not agree("id", "other")
    assert not agree("id~?", "other~?")
    assert agree(first, "id~?")
    assert agree("", first)
    assert agree(first, mark_after("id", {"text": "a"}))


def test_from_now_on_is_after_what_was_committed(m: NativeSessionManager) -> None:
    with m.subscribe(WS):
        for number in range(40):
            last = m.record_event(WS, "before")
            with m.subscribe(WS) as one, m.subscribe(WS, cursor=f"c{number}") as named:
                m.record_event(WS, "after")
                assert take(one, 1)[0].seq == take(named, 1)[0].seq == last + 1


@pytest.fixture
def stuck(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, threading.Event]]:
    """A workspace that makes whoever opens it wait, until the test ends."""
    go = threading.Event()
    look = Workspace.read
    folder = Path(m.data_dir) / "stuck"

    def waits(self: Workspace, ask: Any) -> Any:
        if self.folder == str(folder):
            assert go.wait(30)
        return look(self, ask)

    monkeypatch.setattr(Workspace, "read", waits)
    yield folder, go
    go.set()


def test_one_workspace_that_makes_who_opens_it_wait_holds_up_no_other(
    m: NativeSessionManager, stuck: tuple[Path, threading.Event]
) -> None:
    folder, go = stuck
    with m.subscribe() as everybody, m.subscribe(WS) as one:
        folder.mkdir()
        (folder / "sessions.json").write_text('{"sessions": {}, "messages": {}}')
        for _ in range(3):
            time.sleep(hub.POLL_EVERY)
            seqs = add(m, 2)
            assert [event.seq for event in take(everybody, 2)] == [event.seq for event in take(one, 2)] == seqs
        opening = threading.Thread(target=lambda: m.subscribe("stuck").close())
        opening.start()
        m.subscribe(WS).close()
        assert opening.is_alive(), "closing waited for nobody"
        go.set()
        opening.join()


def test_what_could_not_be_read_at_first_is_watched_from_when_it_can_be(m: NativeSessionManager) -> None:
    with NativeSessionManager(m.data_dir) as other:  # Synced: then damage is no torn tail.
        for n in range(9):
            other.record_event("broken", "before", {"n": n})
    (journal_file,) = (Path(m.data_dir) / "broken" / "journal").iterdir()
    whole = journal_file.read_bytes()
    second = whole.index(b"\n") + 1
    journal_file.write_bytes(whole[: second + 30] + b"xx" + whole[second + 32 :])
    intact = Path(f"{m.data_dir}-intact")
    intact.write_bytes(whole)
    with m.subscribe() as everybody:
        assert [name for name, _, _ in everybody.behind()] == [WS]
        intact.replace(journal_file)
        until(lambda: any(name == "broken" for name, _, _ in everybody.behind()))
        m.record_event("broken", "after")
        assert take(everybody, 1)[0].type == "after"


def test_an_acknowledgement_is_of_what_was_given_of_this_log(m: NativeSessionManager) -> None:
    add(m, 8)
    kept = journal(m)
    m.record_event("v", "note")
    m.record_event("v", "note")
    with m.subscribe(WS, cursor="c", since=0) as one:
        for event in m.events("v"):
            with pytest.raises(InvalidInputError, match="not given"):
                one.ack(event)
        batch = take(one, 9)
        with pytest.raises(InvalidInputError, match="not given"):
            one.ack(batch[3].model_copy(update={"id": "another"}))
        one.ack(batch[2])
        add(m, 5)
        batch += take(one, 5)
        put_back(kept)
        other_writer(m, lambda other: add(other, 2))
        with pytest.raises(EventsPrunedError):
            take(one, 1)
        for old in (None, batch[-1], batch[4]):
            with pytest.raises(InvalidInputError, match="not given"):
                one.ack(old)
        for event in take(one, 11):
            one.ack(event)
        assert json.loads(cursor_file(m).read_text())["seq"] == 11
    with m.subscribe(WS, cursor="c") as one:
        assert one.next(0.02) is None


def test_the_tasks_of_another_log_are_looked_at_anew(m: NativeSessionManager) -> None:
    for name in ("one", "two"):
        m.delete_workspace(WS)
        m.create_session(WS, id=name)
        m.create_task(WS, name)
        assert [event.session_id for event in m.events(WS, is_agent_task=True)] == [name, name]
    m.delete_workspace(WS)
    m.record_event(WS, "note", session_id="two")
    assert list(m.events(WS, is_agent_task=True)) == []


def test_of_another_log_nothing_has_been_told_yet(m: NativeSessionManager) -> None:
    with m.subscribe(WS):
        reading = Reading(there(m._hub).feed(WS), LogPosition(5, "id"), 0)
        assert not reading.go_on(EventsPrunedError(path="", since=5, first=9))
        assert reading.told == 9
        assert reading.go_on(EventsPrunedError(path="", since=5, first=1))
        assert (reading.position, reading.told) == (LogPosition(0), 0)


def test_a_refused_subscription_leaves_no_cursor_and_no_workspace(m: NativeSessionManager) -> None:
    for wrong in ({"callback": 5}, {"callback": print, "deliver": 7}, {"deliver": print}):
        with pytest.raises(InvalidInputError):
            m.subscribe("nobody", cursor="c", **wrong)
    assert not (Path(m.data_dir) / "nobody").exists()


def test_a_closed_manager_has_no_subscriptions(tmp_path: Path) -> None:
    manager = NativeSessionManager(tmp_path)
    manager.close()
    for workspace in (None, WS):
        with pytest.raises(StoreClosedError):
            manager.subscribe(workspace)


def test_who_only_asks_for_cursors_keeps_nobody_from_one(m: NativeSessionManager) -> None:
    m.subscribe(WS, cursor="c").close()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            m.list_cursors(WS)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(200):
            m.subscribe(WS, cursor="c").close()
    finally:
        stop.set()
        asking.join()
    with m.subscribe(WS, cursor="c"), pytest.raises(LockTimeoutError):
        m.subscribe(WS, cursor="c")


def test_the_retention_does_not_overtake_who_wanted_none_of_it(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "_PASSED", 50)
    m.configure_workspace(WS, retention={"bytes": 0})
    with m.subscribe(WS, types="session.*", cursor="c") as one:
        m.update_session(WS, "s", title="wanted")
        event = take(one, 1)[0]
        add(m, 300)
        assert one.next(0.1) is None
        assert json.loads(cursor_file(m).read_text())["seq"] < event.seq, "it waits for the acknowledgement"
        one.ack()
        last = add(m, 60)[-1]
        until(lambda: one.next(0.01) is None and m.list_cursors(WS)[0].seq > last - 50)
        last = add(m, 3)[-1]
        one.next(0.05)
    assert m.list_cursors(WS)[0].seq == last
    for _ in range(3):
        add(m, 200)
        m.checkpoint(WS)


def test_closing_from_another_thread_is_no_failure_of_the_callback(
    m: NativeSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    entered, go = threading.Event(), threading.Event()

    def callback(_: object) -> None:
        entered.set()
        assert go.wait(10)

    one = m.subscribe(WS, cursor="c", callback=callback)
    (seq,) = add(m, 1)
    assert entered.wait(10)
    one.close()
    go.set()
    with m.subscribe(WS, cursor="c") as again:
        assert take(again, 1)[0].seq == seq
    assert caplog.text == ""


def test_cancelling_loses_no_notice_and_does_not_end_the_iterator(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Reading.step

    def slowly(reading: Reading) -> feed.Step:
        time.sleep(0.05)
        return step(reading)

    async def main() -> list[int]:
        events = aiter(one)
        got: list[int] = []
        while len(got) < 4:
            try:
                got.append((await asyncio.wait_for(anext(events), 0.01)).seq)
            except TimeoutError:
                continue
            except EventsPrunedError:
                got.append(0)
        return got

    last = add(m, 3)[-1]
    with m.subscribe(WS, since=last) as one:
        assert one.next(0.05) is None
        m.delete_workspace(WS)
        m.create_session(WS, id="s")
        add(m, 4)
        monkeypatch.setattr(Reading, "step", slowly)
        assert asyncio.run(asyncio.wait_for(main(), 30)) == [0, 1, 2, 3]


def test_workspaces_that_are_gone_are_forgotten(m: NativeSessionManager) -> None:
    with m.subscribe() as everybody:
        for number in range(10):
            m.record_event(f"w{number}", "note")
        assert len(take(everybody, 10)) == 10
        for number in range(10):
            m.delete_workspace(f"w{number}")

        def is_forgotten() -> bool:
            with contextlib.suppress(EventsPrunedError):
                everybody.next(0.01)
            return there(m._hub)._feeds.keys() == {WS}

        until(is_forgotten)
        assert [name for name, _, _ in everybody.behind()] == [WS]
        m.record_event("w3", "again")
        assert take(everybody, 1)[0].type == "again"


def test_strange_numbers_and_files_are_named(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c") as one:
        add(m, 1)
        assert there(one.next(float("inf"))).seq == 2
        with pytest.raises(InvalidInputError, match="timeout"):
            one.next(float("nan"))
    cursor_file(m).write_text('{"seq": 1e999, "id": ""}')
    with pytest.raises(Exception, match=r"c\.json is damaged"):
        m.list_cursors(WS)
    cursor_file(m).unlink()
    cursor_file(m).mkdir()
    with pytest.raises(Exception, match=r"c\.json is damaged"):
        m.list_cursors(WS)


def test_a_data_folder_that_was_made_anew_is_watched_anew(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    with m.subscribe(WS) as one:
        add(m, 1)
        take(one, 1)
        shutil.rmtree(m.data_dir)
        other_writer(m, lambda other: other.create_session(WS, id="s"))
        time.sleep(3 * hub.POLL_EVERY)
        monkeypatch.setattr(hub, "POLL_EVERY", 3600.0)
        time.sleep(2 * 0.25)  # The last wait with the old one is over.
        other_writer(m, lambda other: add(other, 3))
        assert everything(one, 4) == [0, 1, 2, 3, 4]
