"""The other processes beside the windows: `python -m tests.examples.jobs <job> <data_dir> …`. Each line is a fact."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from nomad_sessions import NativeSessionManager


def say(fact: Any) -> None:
    print(json.dumps(fact), flush=True)


def fill(data_dir: str, sessions: str, messages: str) -> None:
    """A workspace of this many sessions with this many messages each, folded."""
    words = "the quick brown fox jumps over the lazy dog and then does it again, a little slower "
    with NativeSessionManager(data_dir, durability="os") as manager:
        for number in range(int(sessions)):
            session = manager.create_session("ws", id=f"ses_{number}", title=f"Session {number}")
            items = [{"role": "user" if at % 2 else "assistant", "content": words * 2} for at in range(int(messages))]
            manager.add_messages("ws", session.id, items)
        manager.checkpoint("ws")
        say(manager.status("ws").snapshot_bytes)


def checkpoint(data_dir: str) -> None:
    """A change and a checkpoint of all, again and again until told to stop; says how many there were."""
    stopped = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        stopped.set()

    threading.Thread(target=listen, daemon=True).start()
    done = 0
    with NativeSessionManager(data_dir) as manager:
        say("ready")
        while not stopped.is_set():
            manager.add_message("ws", f"ses_{1 + done % 9}", role="user", content=f"another {done}")
            assert manager.checkpoint("ws")
            done += 1
            stopped.wait(0.2)
    say(done)


def stream(data_dir: str, session_id: str, seconds: str, tokens: str) -> None:
    """Streams answers into a session, up to 200 tokens a second, for so long and so many at least; says the seq of the
    end, and how many they were."""
    until, least, sent = time.monotonic() + float(seconds), int(tokens), 0
    with NativeSessionManager(data_dir) as manager, manager.open_session("ws", session_id, client="agent") as agent:
        say("ready")
        with agent.busy():
            while sent < least or time.monotonic() < until:
                with manager.stream_message("ws", session_id) as answer:
                    for _ in range(50):
                        answer.text(f"token {sent} ")
                        sent += 1
                        time.sleep(0.005)
        say([answer.message.rev, sent])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
