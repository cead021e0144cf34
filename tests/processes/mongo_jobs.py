"""What is done to a workspace while it is copied to MongoDB, and by whom."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

from nomad_sessions import NativeSessionManager
from nomad_sessions.sync import MongoTarget, Synchronizer
from tests.support.zygote import Emit

__all__ = ["Writes", "push_until_killed"]


class Writes:
    """Changes of every kind, one at a call, drawn; `sessions` are those that there are, with their messages."""

    def __init__(self, manager: NativeSessionManager, seed: int) -> None:
        self.manager = manager
        self.random = random.Random(seed)
        self.sessions: dict[str, list[str]] = {}
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        draw = self.random.random()
        if len(self.sessions) < 3 or draw < 0.02:
            self.sessions[self.manager.create_session("ws", title=f"number {self.count}").id] = []
            return
        session = self.random.choice(list(self.sessions))
        if draw < 0.06:
            self.manager.create_task("ws", session, task_type=f"task {self.count}", status="running")
        elif draw < 0.10:
            self.manager.record_event("ws", "told", {"number": self.count}, session_id=session)
        elif draw < 0.12:
            self.manager.send("ws", "bob", {"number": self.count})
        elif draw < 0.13:
            self.manager.delete_session("ws", session)
            del self.sessions[session]
        else:
            self._message(session, draw)

    def _message(self, session: str, draw: float) -> None:
        messages = self.sessions[session]
        if not messages or draw < 0.75:
            messages.append(self.manager.add_message("ws", session, role="user", content=f"text {self.count} \0é").id)
        elif draw < 0.92:
            self.manager.update_message("ws", self.random.choice(messages), content=f"other text {self.count}")
        else:
            self.manager.delete_message("ws", messages.pop(self.random.randrange(len(messages))))


def push_until_killed(emit: Emit, data_dir: str, uri: str, database: str, after: float, reset: bool) -> None:
    """Brings the target up to now; killed with -9 after so many seconds of that, unless it has ended before."""
    threading.Thread(target=_kill_after, args=(after, os.getpid()), daemon=True).start()
    with (
        NativeSessionManager(data_dir) as manager,
        Synchronizer(manager, [MongoTarget(uri, database=database)]) as sync,
    ):
        if reset:
            sync.reset("ws", target="mongo")
        done = sync.push("ws")["mongo", "ws"]
    emit([done.confirmed, done.rejected, done.compared])


def _kill_after(seconds: float, pid: int) -> None:
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
