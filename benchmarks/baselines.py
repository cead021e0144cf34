"""What the disk and a bare database cost: the lower ends of the ratios.

None of them knows what a message is. The raw append is the least that a durable write can cost on this disk; the
flocked append is the same for several processes; the sqlite3 reads are what a cold indexed lookup costs.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from benchmarks.work import Appender


class RawAppend(Appender):
    """`os.write` then `os.fdatasync` of as many bytes as our own journal takes for the message."""

    name = "raw append + fdatasync"
    shared = False

    def fill(self, count: int) -> None:
        (self.folder / "raw.log").write_bytes(b"x" * self.size * count)

    def open(self) -> None:
        self._bytes = b"x" * (self.size - 1) + b"\n"
        self._fd = os.open(self.folder / "raw.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # The file's own creation must be on disk before the first timed append, which would otherwise pay for it.
        os.fsync(self._fd)

    def append(self, text: str) -> None:
        os.write(self._fd, self._bytes)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def kept(self) -> int:
        return (self.folder / "raw.log").stat().st_size // self.size


class FlockedAppend(RawAppend):
    """The raw append under an exclusive `flock`, as several processes sharing one file need it."""

    name = "flocked append + fdatasync"
    shared = True

    def append(self, text: str) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            os.write(self._fd, self._bytes)
            os.fdatasync(self._fd)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)


SCHEMA = """
    CREATE TABLE sessions (id TEXT PRIMARY KEY, updated INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE INDEX sessions_by_time ON sessions (updated);
    CREATE TABLE messages (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, place INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE INDEX messages_by_session ON messages (session_id, place);
"""


def build_sqlite(path: Path, store: Path, *, mode: str) -> None:
    """Copy the sessions and messages of a checkpointed `sessions.json` into a bare database of the same content.

    `mode` is sqlite's journal mode: `DELETE` (what `sqlite3.connect` gives, the fastest to open) for the rows that
    read, `WAL` (one sync a commit) for the row that writes. So each row meets the faster of the two.
    """
    data = json.loads(store.read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO sessions VALUES (?, ?, ?)", _session_rows(data["sessions"]))
        connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", _message_rows(data))
    connection.close()


def _session_rows(sessions: dict[str, dict[str, object]]) -> Iterable[tuple[str, object, str]]:
    for key, session in sessions.items():
        yield key, session["updatedAt"], json.dumps(session, separators=(",", ":"))


def _message_rows(data: dict[str, dict[str, dict[str, object]]]) -> Iterable[tuple[str, object, int, str]]:
    places: dict[object, int] = {}
    for key, message in data["messages"].items():
        session = message["sessionId"]
        places[session] = places.get(session, -1) + 1
        yield key, session, places[session], json.dumps(message, separators=(",", ":"))
