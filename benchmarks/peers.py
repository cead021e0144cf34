"""The stores that people have today, each driven as its own documentation drives it.

Libraries are imported when their turn comes, so the benchmarks run without them; what is missing is reported as
missing. What is said about syncs in the docstrings comes from reading their source, and `syncs` counts it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from benchmarks.work import Appender, need, text_of


class SqliteWalFull(Appender):
    """sqlite3 with `journal_mode=WAL` and `synchronous=FULL`: the log is synced at each commit."""

    name = "SQLite WAL FULL"
    synchronous = "FULL"

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.folder / "messages.db", timeout=30.0)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self.synchronous}")
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        with connection:
            columns = "id INTEGER PRIMARY KEY, session_id TEXT NOT NULL, body TEXT NOT NULL"
            connection.execute(f"CREATE TABLE IF NOT EXISTS messages ({columns})")
            connection.execute("CREATE INDEX IF NOT EXISTS by_session ON messages (session_id, id)")

    def fill(self, count: int) -> None:
        self.open()
        rows = (("s", json.dumps({"role": "user", "content": text_of(number)})) for number in range(count))
        with self._connection:
            self._connection.executemany("INSERT INTO messages (session_id, body) VALUES (?, ?)", rows)
        self.close()

    def open(self) -> None:
        self._connection = self._connect()
        self._create(self._connection)

    def append(self, text: str) -> None:
        body = json.dumps({"role": "user", "content": text})
        with self._connection:
            self._connection.execute("INSERT INTO messages (session_id, body) VALUES (?, ?)", ("s", body))

    def close(self) -> None:
        self._connection.close()

    def kept(self) -> int:
        connection = self._connect()
        count = int(connection.execute("SELECT count(*) FROM messages WHERE session_id = 's'").fetchone()[0])
        connection.close()
        return count


class SqliteWalNormal(SqliteWalFull):
    """The same with `synchronous=NORMAL`: a commit is not synced, power loss may take the newest ones."""

    name = "SQLite WAL NORMAL"
    synchronous = "NORMAL"


class JsonRewrite(Appender):
    """One JSON file kept in memory and rewritten whole after each change, with the syncs that make that safe.

    Temporary file, fsync, rename, fsync of the folder. As the tools that keep their history so do it, the file is
    read once; nothing notices another process.
    """

    name = "whole-file JSON rewrite"

    def _write(self) -> None:
        temporary = self.folder / f"sessions.json.{os.getpid()}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(self._store, indent=2))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / "sessions.json")
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def fill(self, count: int) -> None:
        self._store = [{"role": "user", "content": text_of(number)} for number in range(count)]
        self._write()

    def open(self) -> None:
        path = self.folder / "sessions.json"
        self._store = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []

    def append(self, text: str) -> None:
        self._store.append({"role": "user", "content": text})
        self._write()

    def close(self) -> None:
        self._store = []

    def kept(self) -> int:
        return len(json.loads((self.folder / "sessions.json").read_text(encoding="utf-8")))


class OpenAISession(Appender):
    """OpenAI Agents SDK, `SQLiteSession(session_id, db_path)` with `await add_items([...])`.

    Its connection is in WAL mode with sqlite's default `synchronous`, FULL. The time contains the hop to a worker
    thread that its `async` methods make, and about 0.02 ms of entering the event loop.
    """

    name = "OpenAI Agents SQLiteSession"
    distribution = "openai-agents"

    def _session(self) -> Any:
        return need("agents").SQLiteSession("s", str(self.folder / "conversation.db"))

    def fill(self, count: int) -> None:
        self.open()
        items = [{"role": "user", "content": text_of(number)} for number in range(count)]
        self._loop.run_until_complete(self._peer.add_items(items))
        self.close()

    def open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._peer = self._session()

    def append(self, text: str) -> None:
        self._loop.run_until_complete(self._peer.add_items([{"role": "user", "content": text}]))

    def close(self) -> None:
        self._peer.close()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def kept(self) -> int:
        self.open()
        count = len(self._loop.run_until_complete(self._peer.get_items()))
        self.close()
        return count


def _silent_model() -> Any:
    """A Strands model that is never asked anything: an Agent needs one, the session manager does not."""

    def refuse(*args: object, **options: object) -> Any:
        raise NotImplementedError("no model is called in a benchmark of storage")

    base = need("strands.models.model").Model
    names = ("update_config", "get_config", "structured_output", "stream")
    return type("SilentModel", (base,), dict.fromkeys(names, refuse))()


class StrandsSession(Appender):
    """Strands Agents, `Agent(session_manager=FileSessionManager(...))`: one JSON file a message, renamed, not synced.

    A message is added as the Agent's own loop adds it: put into `agent.messages`, then `MessageAddedEvent`, on which
    the manager writes the message and then the agent's state where that changed. The loop lets the conversation
    manager trim what the agent holds in memory after each answer; here that is done once, on opening, untimed.
    """

    name = "Strands FileSessionManager"
    distribution = "strands-agents"

    def _agent(self, messages: list[dict[str, object]] | None) -> Any:
        manager = need("strands.session.file_session_manager").FileSessionManager("s", storage_dir=str(self.folder))
        return need("strands").Agent(
            model=_silent_model(), agent_id="a", session_manager=manager, callback_handler=None, messages=messages
        )

    def fill(self, count: int) -> None:
        self._agent([{"role": "user", "content": [{"text": text_of(number)}]} for number in range(count)])

    def open(self) -> None:
        self._peer = self._agent(None)
        self._peer.conversation_manager.apply_management(self._peer)
        self._event = need("strands.hooks").MessageAddedEvent

    def append(self, text: str) -> None:
        message = {"role": "user", "content": [{"text": text}]}
        self._peer.messages.append(message)
        self._peer.hooks.invoke_callbacks(self._event(agent=self._peer, message=message))

    def close(self) -> None:
        self._peer = None

    def kept(self) -> int:
        manager = need("strands.session.file_session_manager").FileSessionManager("s", storage_dir=str(self.folder))
        return len(manager.list_messages("s", "a"))


class TinyDbFile(Appender):
    """TinyDB with its JSON storage: `insert` reads the file, rewrites it in place, fsyncs, then truncates."""

    name = "TinyDB"
    distribution = "tinydb"

    def _database(self) -> Any:
        return need("tinydb").TinyDB(Path(self.folder) / "db.json")

    def fill(self, count: int) -> None:
        database = self._database()
        database.insert_multiple({"role": "user", "content": text_of(number)} for number in range(count))
        database.close()

    def open(self) -> None:
        self._peer = self._database()

    def append(self, text: str) -> None:
        self._peer.insert({"role": "user", "content": text})

    def close(self) -> None:
        self._peer.close()

    def kept(self) -> int:
        database = self._database()
        count = len(database)
        database.close()
        return count
