"""What a child process of these tests does: `python -m tests.processes.worker <job> <data_dir> …`.

Each line it prints is a fact that outlives it: an acknowledged write, a lock that it holds, a state that it has read.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock


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
