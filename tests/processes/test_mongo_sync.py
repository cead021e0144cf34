"""A real mongod that dies, stops, is slow or lets nobody in, and a process that pushes to it and dies: nothing is lost,
nothing waits, and in the end the copy is what the store is."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import TargetUnavailableError
from nomad_sessions.sync import MongoTarget, Synchronizer
from tests.processes.mongo_jobs import Writes, push_until_killed
from tests.support.mongod import GuardedMongod, Mongod, running_mongod
from tests.support.troublesome import TROUBLES, TroublesomeMongo
from tests.support.zygote import Zygote

pytestmark = pytest.mark.processes

WRITES, FROM, UNTIL = 2_000, 400, 1_600
KILLS, CHANGES = 50, 30
TROUBLED = 50
PATIENCE = 60.0
# Far above what a write takes, and below what one would take that waits for a target whose server is stopped.
LONGEST_WRITE = 10.0
ANSWER = 20.0


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with running_mongod() as mongod:
        yield mongod


@pytest.fixture
def database() -> str:
    return f"db-{uuid.uuid4().hex}"


def reached(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def write(writes: Writes, count: int) -> None:
    """So many; none of them waits."""
    for _ in range(count):
        begin = time.monotonic()
        writes()
        assert time.monotonic() - begin < LONGEST_WRITE


def same(manager: NativeSessionManager, uri: str, database: str) -> None:
    """Fails unless a push gives a copy in which everything is as in the store."""
    with Synchronizer(manager, [MongoTarget(uri, database=database)]) as sync:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                assert sync.verify("ws", target="mongo") == []
                break
            except TargetUnavailableError:  # It has just been started.
                assert time.monotonic() < until
        assert sync.dead() == []
    with closing(MongoTarget(uri, database=database)) as target:
        assert target.workspaces() == ["ws"]
        for session in manager.list_sessions("ws"):
            messages = {each.id: each.content for each in manager.get_session_messages("ws", session.id)}
            there = target.fetch("ws", "message", list(messages))
            assert {name: each.body["content"] for name, each in there.items() if each.body} == messages


def kill(mongod: Mongod) -> Callable[[], None]:
    mongod.kill()
    return mongod.start


def stop(mongod: Mongod) -> Callable[[], None]:
    mongod.signal(signal.SIGSTOP)
    return lambda: mongod.signal(signal.SIGCONT)


def restart(mongod: Mongod) -> Callable[[], None]:
    mongod.kill()
    thread = threading.Thread(target=mongod.start)
    thread.start()
    return thread.join


def slow(mongod: Mongod) -> Callable[[], None]:
    """It works a tenth of the time."""
    ended = threading.Event()
    stops = 0

    def now_and_then() -> None:
        nonlocal stops
        while not ended.is_set():
            mongod.signal(signal.SIGSTOP)
            stops += 1
            ended.wait(0.09)
            mongod.signal(signal.SIGCONT)
            ended.wait(0.01)

    thread = threading.Thread(target=now_and_then)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()
        assert stops > 1

    return end


@pytest.mark.parametrize("mishap", [kill, stop, restart, slow], ids=lambda each: each.__name__)
def test_no_write_waits_for_a_mongod_in_trouble_and_afterwards_nothing_is_missing(
    mishap: Callable[[Mongod], Callable[[], None]], mongod: Mongod, database: str, data_dir: Path
) -> None:
    with NativeSessionManager(data_dir) as manager:
        writes = Writes(manager, seed=5)
        targets = [MongoTarget(mongod.uri, database=database, connect_timeout=0.5, timeout=ANSWER)]
        with Synchronizer(manager, targets) as sync:
            sync.start()
            write(writes, FROM)
            reached(lambda: sync.status("ws")[0].reached_at is not None)
            end = mishap(mongod)
            try:
                write(writes, UNTIL - FROM)
                if mishap is kill:
                    reached(lambda: sync.status("ws")[0].error is not None)
                if mishap is stop:
                    assert sync.status("ws")[0].behind
            finally:
                end()
            write(writes, WRITES - UNTIL)
        same(manager, mongod.uri, database)


def test_who_is_not_let_in_loses_nothing(
    data_dir: Path, tmp_path_factory: pytest.TempPathFactory, database: str
) -> None:
    mongod = GuardedMongod(tmp_path_factory.mktemp("guarded"), "right-one")
    with mongod, NativeSessionManager(data_dir) as manager:
        targets = [MongoTarget(mongod.uri_with("wrong-one"), database=database, connect_timeout=0.5)]
        with Synchronizer(manager, targets) as sync:
            sync.start()
            write(Writes(manager, seed=6), WRITES)
            reached(lambda: sync.status("ws")[0].error is not None)
            said = sync.status("ws")[0].error or ""
            assert "Authentication failed" in said
            assert "wrong-one" not in said
            assert sync.status("ws")[0].reached_at is None
        same(manager, mongod.uri_with("right-one"), database)


@pytest.mark.parametrize("what", TROUBLES)
def test_whatever_it_does_with_any_call_in_the_end_nothing_is_missing(
    what: str, mongod: Mongod, database: str, data_dir: Path
) -> None:
    """Each call may do it, those of a comparison as a whole at the beginning, and of the way along the log after it: a
    comparison at the end would make right what was lost."""
    draw = random.Random(9)
    target = TroublesomeMongo(mongod.uri, database=database)
    target.trouble = lambda _: what if draw.random() < 0.25 else ""
    with NativeSessionManager(data_dir, durability="os") as manager, Synchronizer(manager, [target]) as sync:
        writes = Writes(manager, seed=10)
        for number in range(TROUBLED):
            write(writes, CHANGES // 3)
            if number == TROUBLED // 5:
                sync.reset("ws", target="mongo")
            with contextlib.suppress(TargetUnavailableError):
                sync.push("ws")
        assert target.troubles > TROUBLED / 5
        target.trouble = lambda _: ""
        assert sync.push("ws")["mongo", "ws"].compared == ""
        same(manager, mongod.uri, database)


def test_a_pusher_killed_at_any_moment_loses_nothing_and_doubles_nothing(
    mongod: Mongod, database: str, data_dir: Path
) -> None:
    draw = random.Random(7)
    killed = 0
    with (
        Zygote(["tests.processes.mongo_jobs"]) as zygote,
        NativeSessionManager(data_dir) as manager,
    ):
        writes = Writes(manager, seed=8)
        where = {"data_dir": str(data_dir), "uri": mongod.uri, "database": database}
        longest = PATIENCE
        for _ in range(3):  # The first is slowed down by what it has to load and make.
            write(writes, CHANGES)
            begin = time.monotonic()
            assert zygote.run(push_until_killed, **where, after=PATIENCE, reset=False).well()[0][0] > 0
            longest = min(longest, time.monotonic() - begin)
        for resets in (True, False):  # A comparison as a whole makes right what was lost before it: at the end is none.
            assert zygote.run(push_until_killed, **where, after=PATIENCE, reset=False).well()
            for attempt in range(KILLS * 4):
                write(writes, CHANGES)
                reset = resets and attempt % 5 == 0
                done = zygote.run(push_until_killed, **where, after=draw.uniform(0, longest), reset=reset)
                killed += done.status == -signal.SIGKILL
                if done.status != -signal.SIGKILL:
                    done.well()
                if killed == (KILLS // 2 if resets else KILLS):
                    break
        ((_, _, compared),) = zygote.run(push_until_killed, **where, after=PATIENCE, reset=False).well()
        assert compared == ""
        assert killed == KILLS
        same(manager, mongod.uri, database)
