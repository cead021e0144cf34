"""Our own side: the same appender as the peers have, and workspaces of a given size to open from cold.

Everything goes through the public manager; nothing here reaches below it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.work import Appender, text_of
from nomad_sessions import NativeSessionManager

Durability = Literal["full", "batch", "os"]
WORKSPACE = "bench"
SESSION = "bench-session"


class Ours(Appender):
    """`add_message` of ours, `durability="full"`: one synced append to the journal."""

    name = "nomad-sessions (full)"
    durability: ClassVar[Durability] = "full"

    def fill(self, count: int) -> None:
        with NativeSessionManager(self.folder, durability="os") as manager:
            manager.create_session(WORKSPACE, id=SESSION)
            for start in range(0, count, 1000):
                numbers = range(start, min(start + 1000, count))
                manager.add_messages(WORKSPACE, SESSION, [{"role": "user", "content": text_of(n)} for n in numbers])
            manager.checkpoint(WORKSPACE)

    def open(self) -> None:
        self.manager = NativeSessionManager(self.folder, durability=self.durability)
        self.manager.create_session(WORKSPACE, id=SESSION)

    def append(self, text: str) -> None:
        self.manager.add_message(WORKSPACE, SESSION, {"role": "user", "content": text})

    def close(self) -> None:
        self.manager.close()

    def kept(self) -> int:
        with NativeSessionManager(self.folder) as manager:
            return manager.get_session_messages(WORKSPACE, SESSION).total


class OursOs(Ours):
    """The same with `durability="os"`: written, not synced."""

    name = "nomad-sessions (os)"
    durability = "os"


@dataclass(frozen=True)
class Seed:
    """A workspace on disk: `sessions` ids in the order of their creation, each with `per_session` messages."""

    folder: Path
    sessions: tuple[str, ...]
    per_session: int

    @property
    def snapshot(self) -> Path:
        """The workspace's `sessions.json`."""
        return self.folder / WORKSPACE / "sessions.json"


def seed(folder: Path, sessions: int, per_session: int, text: Callable[[int], str] = text_of) -> Seed:
    """Fill a new data folder, checkpoint it and let the disk come to rest."""
    ids = []
    with NativeSessionManager(folder, durability="os") as manager:
        for number in range(sessions):
            session = manager.create_session(WORKSPACE, title=f"Session {number}")
            first = number * per_session
            items = [{"role": "user", "content": text(n)} for n in range(first, first + per_session)]
            manager.add_messages(WORKSPACE, session.id, items)
            ids.append(session.id)
        manager.checkpoint(WORKSPACE)
    settle()
    return Seed(folder, tuple(ids), per_session)


def clone(source: Seed, folder: Path) -> Seed:
    """A copy of the seed to write to, at rest on disk, so that one row's writes change no other row's state."""
    shutil.copytree(source.folder, folder, dirs_exist_ok=True)
    settle()
    return replace(source, folder=folder)


def settle() -> None:
    """Wait until nothing is left to write back: a later `fdatasync` would otherwise wait for it on ext4."""
    os.sync()


def opened(source: Seed, durability: Durability = "full") -> NativeSessionManager:
    """A manager on the seed that has read once and written once, as a running program has."""
    manager = NativeSessionManager(source.folder, durability=durability)
    manager.add_message(WORKSPACE, source.sessions[0], {"role": "user", "content": text_of(0)})
    return manager


def record_size(manager: NativeSessionManager, session: str) -> int:
    """How many bytes one add of a 1 KB message appends to the journal: what the raw append has to write as well."""
    count = 20
    before = manager.status(WORKSPACE).journal_bytes
    for number in range(count):
        manager.add_message(WORKSPACE, session, {"role": "user", "content": text_of(number)})
    grown = manager.status(WORKSPACE).journal_bytes - before
    return max(grown // count, 1)
