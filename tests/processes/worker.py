"""What a child process of these tests does: `python -m tests.processes.worker <job> <data_dir> …`.

Each line it prints is a fact that outlives it: an acknowledged write, a lock that it holds, a state that it has read.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import time
from typing import Any

from nomad_sessions import ConnectionClosedError, IllegalTransitionError, NativeSessionManager, SessionInUseError
from nomad_sessions.events.watching import Watcher
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock
from nomad_sessions.workspace import folding, store


def say(fact: Any) -> None:
    print(json.dumps(fact), flush=True)


def add(data_dir: str, name: str, count: str, every: str = "0") -> None:
    """`count` messages to session `shared`, a checkpoint after each `every`; says (seq, id) of each."""
    acked = []
    with NativeSessionManager(data_dir, lock_timeout=30) as manager:
        say("ready")
        sys.stdin.readline()
        for number in range(int(count)):
            message = manager.add_message("ws", "shared", role="user", content=f"{name} {number}")
            acked.append((message.rev, message.id))
            if int(every) and (number + 1) % int(every) == 0:
                manager.checkpoint("ws")
    say(acked)


def read(data_dir: str) -> None:
    """Reads until told to stop. Fails at a state that is torn, half applied, or older than the one before."""
    import threading

    stopped = threading.Event()
    polls = 0
    seen: list[str] = []
    pairs = 0
    with NativeSessionManager(data_dir) as manager:
        say("ready")

        def stop_when_told() -> None:
            sys.stdin.readline()
            stopped.set()

        threading.Thread(target=stop_when_told, daemon=True).start()
        while not stopped.is_set():
            page = [message.content for message in manager.get_session_messages("ws", "shared")]
            assert page[: len(seen)] == seen, "went back in time, or changed what was there"
            seen = page
            session = manager.get_session("ws", "shared")
            assert session is not None
            assert len(session.message_ids) >= len(seen)
            grouped = [message.content for message in manager.get_session_messages("ws", "pairs")]
            assert len(grouped) % 2 == 0, "half of a transaction"
            assert len(grouped) >= pairs
            pairs = len(grouped)
            polls += 1
    say([polls, len(seen), pairs])


def pair(data_dir: str, count: str) -> None:
    """`count` transactions of two messages each to session `pairs`."""
    with NativeSessionManager(data_dir, lock_timeout=30) as manager:
        say("ready")
        sys.stdin.readline()
        for number in range(int(count)):
            with manager.transaction("ws") as transaction:
                transaction.add_message("ws", "pairs", role="user", content=f"one {number}")
                transaction.add_message("ws", "pairs", role="assistant", content=f"two {number}")
    say(int(count))


def mix(data_dir: str, name: str, count: str) -> None:
    """`count` messages to session `shared`, singly, in transactions and as streams, in small segments, and in between
    all that makes others read afresh; says what was acknowledged."""
    store.SEGMENT_BYTES, folding.FLOOR, folding._ROTATE_ABOVE = 4_000, 20_000, 800
    chance = random.Random(name)
    acked: list[str] = []
    manager = NativeSessionManager(data_dir, durability=chance.choice(["os", "full"]), lock_timeout=30)
    say("ready")
    sys.stdin.readline()
    while len(acked) < int(count):
        what = chance.choices(["open", "fold", "several", "stream", "one"], [3, 1, 2, 1, 8])[0]
        texts = [f"{name} {len(acked) + number}" for number in range(3 if what == "several" else 1)]
        if what == "open":
            manager.close()
            manager = NativeSessionManager(data_dir, durability=manager._options.durability, lock_timeout=30)
            continue
        if what == "fold":
            manager.checkpoint("ws")
            continue
        if what == "stream":
            with manager.stream_message("ws", "shared") as streaming:
                for word in texts[0]:
                    streaming.text(word)
        elif what == "several":
            with manager.transaction("ws") as transaction:
                for text in texts:
                    transaction.add_message("ws", "shared", role="user", content=text)
        else:
            manager.add_message("ws", "shared", role="user", content=texts[0])
        acked += texts
    manager.close()
    say(acked)


def tell(data_dir: str, name: str) -> None:
    """Records events, and folds now and then, until it is ended."""
    with NativeSessionManager(data_dir, durability="os", lock_timeout=30) as manager:
        say("ready")
        for number in range(1_000_000):
            manager.record_event("ws", "told", {"by": name, "number": number})
            if number % 60 == 59:
                manager.checkpoint("ws")
            time.sleep(0.004)


def listen(data_dir: str, cursor: str, path: str, asleep: str) -> None:
    """Writes down the seq of each event of a durable cursor, and then acknowledges it, until it is ended. With `asleep`
    nothing of the file system's wakes it."""
    if asleep == "asleep":
        Watcher.begin = lambda _: None  # type: ignore[assignment, method-assign]
    written = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    manager = NativeSessionManager(data_dir, durability="os")
    with manager, manager.subscribe("ws", cursor=cursor, since=0) as subscription:
        say("ready")
        for event in subscription:
            os.write(written, b"%d\n" % event.seq)
            if event.seq % 3:  # Of three, one is acknowledged with the next.
                subscription.ack(event)


def hold(path: str) -> None:
    """Holds a lock until it is ended."""
    lock = StoreLock(REAL, path)
    lock.acquire()
    say("held")
    time.sleep(600)


def stream(data_dir: str) -> None:
    """Streams words into a message, saying each after it was taken, until it is ended."""
    manager = NativeSessionManager(data_dir)
    with manager.stream_message("ws", "shared") as streaming:
        say(streaming.message.id)
        for number in range(1_000_000):
            streaming.text(f"{number} ")
            say(number)
            if number > 50:
                time.sleep(0.005)


def claim_tasks(data_dir: str) -> None:
    """Tries to start every pending task, each process in another order; says which it got, and how many others did."""
    got, lost = [], 0
    with NativeSessionManager(data_dir, lock_timeout=30) as manager:
        tasks = [task.id for task in manager.list_tasks("ws", status="pending")]
        random.shuffle(tasks)
        say("ready")
        sys.stdin.readline()
        for task_id in tasks:
            try:
                manager.start_task("ws", task_id)
                got.append(task_id)
            except IllegalTransitionError:
                lost += 1
    say([got, lost])


def work_on_tasks(data_dir: str, prefix: str, count: str) -> None:
    """Says again and again how far tasks are, until it is ended; says each (task, progress) once it was taken."""
    with NativeSessionManager(data_dir, lock_timeout=30) as manager:
        for number in itertools.count(1):
            task_id = f"{prefix}{number % int(count)}"
            done = number % 101 if number % 3 else manager.touch_task("ws", task_id).progress
            say([task_id, manager.progress_task("ws", task_id, done).progress])
            time.sleep(0.005)


def give_up_tasks(data_dir: str) -> None:
    """Fails what the clock says is overdue, once; says what that was."""
    with NativeSessionManager(data_dir, lock_timeout=30) as manager:
        say("ready")
        sys.stdin.readline()
        say([task.id for task in manager.fail_overdue_tasks("ws")])


class _Jumping:
    """A clock that is set by up to a year, forwards or backwards, each time that somebody looks at it."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + random.randrange(-365, 365) * 86_400_000


def monitor_tasks(data_dir: str, idle_ms: str, every_ms: str) -> None:
    """Watches tasks, with a clock that jumps, until it is ended."""
    manager = NativeSessionManager(data_dir, lock_timeout=30, clock=_Jumping())
    with manager, manager.monitor_tasks("ws", idle_ms=int(idle_ms), every_ms=int(every_ms)):
        say("watching")
        time.sleep(600)


def connect(data_dir: str, mode: str, expires_after: str = "") -> None:
    """Connects to session `shared`, and stays until it is ended; at each line, a heartbeat."""
    manager = NativeSessionManager(data_dir)
    late = float(expires_after) if expires_after else None
    connection = manager.open_session(
        "ws", "shared", client="a child", exclusive=mode == "exclusive", expires_after=late
    )
    say(connection.info.id)
    while sys.stdin.readline():
        try:
            connection.heartbeat()
            say("beat")
        except ConnectionClosedError as error:
            say(str(error))


def race(data_dir: str, count: str) -> None:
    """Connects to session `shared` alone, `count` times; says when it had it, on the clock that all processes share."""
    say("ready")
    sys.stdin.readline()
    had: list[tuple[int, int]] = []
    with NativeSessionManager(data_dir) as manager:
        while len(had) < int(count):
            try:
                with manager.open_session("ws", "shared", exclusive=True):
                    begin = time.monotonic_ns()
                    time.sleep(0.001)
                    had.append((begin, time.monotonic_ns()))
            except SessionInUseError:
                time.sleep(0.0005)
    say(had)


def send_mail(data_dir: str, name: str, count: str) -> None:
    """`count` messages to bob, with a pause now and then; says how many there are."""
    with NativeSessionManager(data_dir, lock_timeout=30) as manager:
        say("ready")
        sys.stdin.readline()
        for number in range(int(count)):
            manager.send("ws", "bob", [name, number], sender=name, max_attempts=1_000_000)
            time.sleep(0.01)
    say(int(count))


def hold_mail(data_dir: str, seconds: str) -> None:
    """Leases a message and says so; waits to be killed."""
    manager = NativeSessionManager(data_dir)
    mail = manager.receive("ws", "bob", lease=float(seconds))
    say(mail.content if mail is not None else None)
    time.sleep(600)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
