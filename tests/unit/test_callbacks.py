"""Events handed to a callback: one after the other, where they are to be, and to the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nomad_sessions import DiskFullError, InvalidInputError, NativeSessionManager
from nomad_sessions.events.cursors import Cursor
from nomad_sessions.events.delivery import Deliver
from nomad_sessions.models import Event
from tests.support.subscribers import WS, add, take, until


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


def goes_on_with(m: NativeSessionManager, name: str) -> int:
    """The seq of what comes first to who has the cursor next."""
    with m.subscribe(WS, cursor=name) as subscription:
        return take(subscription, 1)[0].seq


def test_a_callback_is_called_for_one_event_after_the_other(m: NativeSessionManager) -> None:
    got: list[int] = []
    busy = threading.Lock()

    def callback(event: Event) -> None:
        assert busy.acquire(blocking=False), "two at once"
        assert m.get_session(WS, "s") is not None, "no lock is held"
        got.append(event.seq)
        busy.release()

    with m.subscribe(WS, callback=callback), ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: add(m, 25), range(4)))
        until(lambda: len(got) == 100)
    assert got == sorted(seq for each in made for seq in each)


def test_a_callback_that_fails_is_called_for_the_next(
    m: NativeSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []

    def callback(event: Event) -> None:
        got.append(event.seq)
        if len(got) == 1:
            raise RuntimeError("the first time")

    with m.subscribe(WS, callback=callback):
        seqs = add(m, 3)
        until(lambda: len(got) == 3)
    assert got == seqs
    assert "the first time" in caplog.text


def test_a_callback_may_close_its_subscription(m: NativeSessionManager) -> None:
    got: list[Event] = []

    def callback(event: Event) -> None:
        got.append(event)
        subscription.close()

    subscription = m.subscribe(WS, callback=callback)
    add(m, 5)
    until(lambda: subscription.closed)
    time.sleep(0.02)
    assert len(got) == 1


def test_a_callback_runs_where_it_is_told_to(m: NativeSessionManager) -> None:
    names: set[str] = set()
    got: list[Event] = []

    def callback(event: Event) -> None:
        names.add(threading.current_thread().name)
        got.append(event)

    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool, m.subscribe(WS, callback=callback, deliver=pool):
        add(m, 10)
        until(lambda: len(got) == 10)
    assert {name.split("_")[0] for name in names} == {"pool"}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with m.subscribe(WS, callback=callback, deliver=loop):
            await loop.run_in_executor(None, add, m, 10)
            while len(got) < 20:
                await asyncio.sleep(0.005)

    names.clear()
    asyncio.run(main())
    assert names == {threading.current_thread().name}

    jobs: list[Callable[[], None]] = []
    with m.subscribe(WS, callback=callback, deliver=jobs.append):
        add(m, 10)
        until(lambda: bool(jobs))
        time.sleep(0.02)
        assert len(got) == 20, "only when it is called"
        while len(got) < 30:
            until(lambda: bool(jobs))
            jobs.pop(0)()


def test_a_turn_on_a_loop_is_short(m: NativeSessionManager) -> None:
    turns: list[float] = []
    got: list[Event] = []

    def callback(event: Event) -> None:
        got.append(event)
        time.sleep(0.001)

    def deliver(job: Callable[[], None]) -> None:
        start = time.perf_counter()
        job()
        turns.append(time.perf_counter() - start)

    add(m, 200)
    with m.subscribe(WS, since=1, callback=callback, deliver=deliver):
        until(lambda: len(got) == 200)
    assert len(turns) >= 20


def test_a_callback_s_return_acknowledges(m: NativeSessionManager) -> None:
    got: list[int] = []

    def callback(event: Event) -> None:
        if len(got) == 2:
            raise RuntimeError("not this one")
        got.append(event.seq)

    subscription = m.subscribe(WS, cursor="c", callback=callback)
    seqs = add(m, 4)
    until(lambda: subscription.closed)
    assert got == seqs[:2], "it ends, so that nothing is skipped"
    with m.subscribe(WS, cursor="c") as again:
        assert [event.seq for event in take(again, 2)] == seqs[2:]


class Ended(BaseException):
    """What ends a thread or a loop: no failure of the callback's."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_ends_the_thread_ends_the_subscription_and_acknowledges_nothing(m: NativeSessionManager) -> None:
    def callback(event: Event) -> None:
        raise Ended

    subscription = m.subscribe(WS, cursor="c", callback=callback)
    seqs = add(m, 3)
    until(lambda: subscription.closed)
    assert goes_on_with(m, "c") == seqs[0]


def test_a_callback_that_is_to_be_awaited_is_refused(m: NativeSessionManager) -> None:
    async def callback(event: Event) -> None:
        raise AssertionError("nobody awaits it")

    class Awaited:
        async def __call__(self, event: Event) -> None:
            raise AssertionError("nobody awaits it")

    for each in (callback, Awaited()):
        with pytest.raises(InvalidInputError, match="callback"):
            m.subscribe(WS, cursor="c", callback=each)
    m.subscribe(WS, cursor="c").close()


def test_one_that_gives_something_to_be_awaited_has_not_dealt_with_its_event(
    m: NativeSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    later = loop.create_future()
    loop.close()
    subscription = m.subscribe(WS, cursor="c", callback=lambda event: later)
    seqs = add(m, 3)
    until(lambda: subscription.closed)
    assert "awaited" in caplog.text
    assert goes_on_with(m, "c") == seqs[0]


def test_where_nothing_is_run_any_more_the_subscription_ends(
    m: NativeSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    down = ThreadPoolExecutor(1)
    down.shutdown()
    closed = asyncio.new_event_loop()
    closed.close()

    def refuses(job: Callable[[], None]) -> None:
        raise ValueError("not today")

    seqs = add(m, 3)
    nowhere: list[Deliver] = [down, closed, refuses]
    ended = [m.subscribe(WS, cursor=f"c{n}", since=1, callback=print, deliver=each) for n, each in enumerate(nowhere)]
    until(lambda: all(each.closed for each in ended))
    until(lambda: not any(each.held for each in m.list_cursors(WS)))
    assert [goes_on_with(m, each.name) for each in m.list_cursors(WS)] == [seqs[0]] * 3
    assert "not today" in caplog.text


def test_a_job_that_an_executor_or_a_loop_drops_ends_it_too(m: NativeSessionManager) -> None:
    gate = threading.Event()
    pool = ThreadPoolExecutor(1)
    pool.submit(gate.wait)
    add(m, 3)
    subscription = m.subscribe(WS, since=0, callback=print, deliver=pool)
    until(lambda: pool._work_queue.qsize() == 1)
    pool.shutdown(wait=False, cancel_futures=True)
    until(lambda: subscription.closed)
    gate.set()

    loop = asyncio.new_event_loop()
    subscription = m.subscribe(WS, since=0, callback=print, deliver=loop)
    time.sleep(0.02)
    loop.close()
    until(lambda: subscription.closed)


def test_an_acknowledgement_that_fails_ends_it_and_the_event_comes_again(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []
    moves = Cursor.advance

    def advance(cursor: Cursor, seq: int, identifier: str) -> None:
        if len(got) == 2:
            raise DiskFullError(path="full", errno=28)
        moves(cursor, seq, identifier)

    monkeypatch.setattr(Cursor, "advance", advance)
    subscription = m.subscribe(WS, cursor="c", callback=lambda event: got.append(event.seq))
    seqs = add(m, 3)
    until(lambda: subscription.closed)
    assert got == seqs[:2]
    assert "full" in caplog.text
    monkeypatch.undo()
    assert goes_on_with(m, "c") == seqs[1]


def test_one_that_closes_its_subscription_has_dealt_with_its_event(m: NativeSessionManager) -> None:
    subscription = m.subscribe(WS, cursor="c", callback=lambda event: subscription.close())
    seqs = add(m, 2)
    until(lambda: not m.list_cursors(WS)[0].held)
    assert goes_on_with(m, "c") == seqs[1]
