"""`index.sqlite` in a workspace's folder: the searched text, and FTS5 indexes of it.

All of it is derived from the store: it is made again when it is missing, damaged, of another version, or of a state
that the store has not had. Deleting it loses nothing. It has a lock of its own (SQLite's): no write to the store ever
waits for it.

Tables: `session` says what sessions there are, `entry` what can be found, a message or (with `id` NULL) a session's own
fields, and what to filter by; `doc` has the texts. Messages with the same text and the same time in several sessions of
one family share a doc: what a family is, `families.py` says, for which `link` is. `words` is the index of words;
`grams`, of three characters in succession, is made when a part of a word is first searched for, since it costs four
times as much. What there is for events, `event_rows.py` says.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nomad_sessions.search.text import COLUMNS, Doc
from nomad_sessions.workspace.resting import AWAKE

__all__ = ["INDEX", "WAIT", "Index", "is_busy", "is_certain", "is_damage", "rest_others"]

INDEX = "index.sqlite"
_VERSION = 5
WAIT = 30.0
"""How long another process that is at the file is waited for, in seconds."""
_WAIT_FOR_GRAMS = 2.0  # A search finds without them, too.
_NAMES = ", ".join(COLUMNS)
_MARKS = ", ".join("?" * len(COLUMNS))
_EXTERNAL = f"{_NAMES}, content='doc', content_rowid='number'"
_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE session (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, title TEXT NOT NULL, archived INTEGER,"
    " stamp TEXT NOT NULL, family INTEGER NOT NULL)",
    "CREATE INDEX session_family ON session (family)",
    "CREATE TABLE link (name TEXT, session INTEGER, PRIMARY KEY (name, session)) WITHOUT ROWID",
    "CREATE INDEX link_session ON link (session)",
    "CREATE TABLE entry (number INTEGER PRIMARY KEY, session INTEGER NOT NULL, id TEXT, doc INTEGER NOT NULL,"
    " digest INTEGER NOT NULL, created INTEGER NOT NULL, role TEXT, agent TEXT, model TEXT, UNIQUE (session, id))",
    "CREATE INDEX entry_doc ON entry (doc)",
    "CREATE INDEX entry_digest ON entry (digest)",
    f"CREATE TABLE doc (number INTEGER PRIMARY KEY, {_NAMES}, tools TEXT NOT NULL)",
    f"CREATE VIRTUAL TABLE words USING fts5({_EXTERNAL}, tokenize='unicode61 remove_diacritics 2')",
    "INSERT INTO words (words, rank) VALUES ('rank', 'bm25(8.0, 4.0, 1.5, 1.0)')",
    # How much FTS5 gathers before it writes a piece of its index, 1 MB by default: a first build takes a fifth less.
    "INSERT INTO words (words, rank) VALUES ('hashsize', 16000000)",
    f"CREATE VIRTUAL TABLE grams USING fts5({_EXTERNAL}, tokenize='trigram', detail='none', columnsize=0)",
    f"INSERT INTO meta VALUES ('version', {_VERSION})",
    "CREATE TABLE event (seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind INTEGER NOT NULL, about INTEGER NOT NULL,"
    " flags INTEGER NOT NULL, message TEXT, segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,"
    " archived INTEGER NOT NULL)",
    "CREATE INDEX event_kind ON event (kind, flags, seq)",
    "CREATE INDEX event_about ON event (about, seq)",
    "CREATE INDEX event_time ON event (time, kind, about, flags)",
    "CREATE INDEX event_message ON event (message) WHERE message NOT NULL",
    "CREATE TABLE kind (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)",
    "CREATE TABLE about (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL)",
    "CREATE TABLE tally (about INTEGER, kind INTEGER, flags INTEGER, count INTEGER NOT NULL,"
    " PRIMARY KEY (about, kind, flags)) WITHOUT ROWID",
    "CREATE TABLE daily (day INTEGER, kind INTEGER, flags INTEGER, count INTEGER NOT NULL,"
    " low INTEGER NOT NULL, high INTEGER NOT NULL, PRIMARY KEY (day, kind, flags)) WITHOUT ROWID",
    "CREATE VIRTUAL TABLE event_words USING fts5(text, content='', tokenize='unicode61 remove_diacritics 2')",
)
# Rows are taken out, and no table: another process may be using it this moment.
_EMPTY = (
    *(f"DELETE FROM {name}" for name in ("session", "link", "entry", "doc")),
    *(f"INSERT INTO {name} ({name}) VALUES ('delete-all')" for name in ("words", "grams")),
    "INSERT OR REPLACE INTO meta VALUES ('epoch', hex(randomblob(8))), ('seq', 0), ('last', ''), ('grams', 0),"
    " ('proof', '')",
)
_EMPTY_EVENTS = (
    *(f"DELETE FROM {name}" for name in ("event", "kind", "about", "tally", "daily")),
    "INSERT INTO event_words (event_words) VALUES ('delete-all')",
    "INSERT OR REPLACE INTO meta VALUES ('event_epoch', hex(randomblob(8))), ('event_state', ''), ('event_seq', 0),"
    " ('event_proof', ''), ('event_first', 0), ('event_words', 0), ('event_archives', '{}')",
)
_TABLES = ("words", "grams", "event_words")  # The virtual ones take their own tables along.


class Index:
    """One workspace's index, open. Safe for several threads, which take turns.

    `path` None keeps it in memory, where the folder cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self.mutex = threading.RLock()
        try:
            self._connection: sqlite3.Connection | None = self._connected()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error) or self._path is None:
                raise
            self._discard()
            self._connection = self._connected()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, opened again where it rested. For who has the mutex."""
        if self._connection is None:
            self._connection = self._connected()
        return self._connection

    def rest(self) -> bool:
        """Gives its files back until it is asked again, unless somebody is at it; whether it has none open now."""
        if self._path is None or not self.mutex.acquire(blocking=False):
            return False
        try:
            if self._connection is not None and not self._connection.in_transaction:
                self._connection.close()
                self._connection = None
            return self._connection is None
        finally:
            self.mutex.release()

    def _connected(self) -> sqlite3.Connection:
        if self._path is not None and not os.path.lexists(self._path):
            with contextlib.suppress(FileExistsError):  # Another process may just have made it.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(
            self._path or ":memory:", timeout=WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            if self._path is not None:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.create_function("has_text", 2, _has_text, deterministic=True)
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._file = _identity(self._path) if self._path is not None else None
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if _version(connection) == _VERSION:
            return
        with _transaction(connection, "BEGIN IMMEDIATE"):
            if _version(connection) != _VERSION:  # Another process may just have made it.
                _make(connection)

    def _discard(self) -> None:
        assert self._path is not None
        for end in ("-wal", "-shm", ""):  # Its own name last: then nothing goes of one that another process makes.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path + end)

    def is_in_place(self) -> bool:
        """Whether the file that is open is the one in the folder: somebody may have deleted it."""
        return self._path is None or _identity(self._path) == self._file

    def begin_again(self) -> None:
        """Takes out all that it has of sessions: it is of another past than the store's. Inside of a transaction."""
        for statement in _EMPTY:
            self.connection.execute(statement)

    def forget_events(self) -> None:
        """The same for what it has of events."""
        for statement in _EMPTY_EVENTS:
            self.connection.execute(statement)

    def reopen(self, *, anew: bool = False) -> None:
        """Gives the file back and opens it again, or, where it cannot be opened, one in memory; `anew` throws away what
        is in it."""
        with self.mutex:
            self._shut()
            if self._path is not None:
                with contextlib.suppress(sqlite3.Error, UnicodeDecodeError, OSError):
                    if anew:
                        self._discard()
                    self._connection = self._connected()
                    return
            self.leave()

    def leave(self) -> None:
        """Leaves a file that cannot be written, for the memory, and begins anew there."""
        with self.mutex:
            self._shut()
            self._path = None
            self._connection = self._connected()

    def close(self) -> None:
        """Gives the file back."""
        with self.mutex:
            self._shut()

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def meta(self, key: str) -> Any:
        """One of the noted values. Raises `sqlite3.DatabaseError` where it is gone: the file is damaged."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise sqlite3.DatabaseError(f"{key} is not noted")
        return row[0]

    def note(self, **values: Any) -> None:
        """Notes values, for later connections too."""
        self.connection.executemany("UPDATE meta SET value = ?2 WHERE key = ?1", values.items())

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that excludes other writers of this file, threads and processes; waits for them for a time."""
        with self.mutex, _transaction(self.connection, "BEGIN IMMEDIATE"):
            yield self.connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """What is read in the block is of one moment, whatever other processes change meanwhile."""
        with self.mutex, _transaction(self.connection, "BEGIN"):
            yield

    # Docs, inside of a transaction

    def add_docs(self, docs: Sequence[Doc]) -> int:
        """Adds docs; the number of the first, the others follow."""
        row = self.connection.execute("SELECT max(number) FROM doc").fetchone()
        first = int(row[0] or 0) + 1
        numbered = [(number, *doc[:4]) for number, doc in enumerate(docs, first)]
        tools = ("".join(f"\1{each}\1" for each in doc.tools) for doc in docs)
        self.connection.executemany(
            f"INSERT INTO doc (number, {_NAMES}, tools) VALUES (?, {_MARKS}, ?)",
            ((*row, used) for row, used in zip(numbered, tools, strict=True)),
        )
        for table in self._indexes():
            self.connection.executemany(f"INSERT INTO {table} (rowid, {_NAMES}) VALUES (?, {_MARKS})", numbered)
        return first

    def drop_docs(self, numbers: Iterable[int]) -> None:
        """Takes out those of these docs that no entry has any more."""
        used = "SELECT 1 FROM entry WHERE doc = ? LIMIT 1"
        indexes = self._indexes()
        for number in numbers:
            if self.connection.execute(used, (number,)).fetchone() is not None:
                continue
            row = self.connection.execute(f"SELECT {_NAMES} FROM doc WHERE number = ?", (number,)).fetchone()
            for table in indexes:
                query = f"INSERT INTO {table} ({table}, rowid, {_NAMES}) VALUES ('delete', ?, {_MARKS})"
                self.connection.execute(query, (number, *row))
            self.connection.execute("DELETE FROM doc WHERE number = ?", (number,))

    def _indexes(self) -> list[str]:
        return ["words", "grams"] if self.meta("grams") else ["words"]

    def has_grams(self) -> bool:
        """Makes the index of parts of words, if it is not there yet; False where another process is in the way. Cost:
        all texts, once."""
        with self.mutex:
            if self.meta("grams"):
                return True
            self.connection.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_GRAMS * 1000:.0f}")
            try:
                with self.changing() as connection:
                    if not self.meta("grams"):
                        connection.execute("INSERT INTO grams (grams) VALUES ('rebuild')")
                        self.note(grams=1)
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                return False
            finally:
                self.connection.execute(f"PRAGMA busy_timeout = {WAIT * 1000:.0f}")
        return True


def is_busy(error: Exception) -> bool:
    """Whether another process has the file for too long."""
    return _code(error) in _BUSY


def is_damage(error: Exception) -> bool:
    """Whether the file may not be what SQLite wrote. Python has no code for text that is none any more."""
    return _code(error) not in _BUSY | _NO_PLACE


def is_certain(error: Exception) -> bool:
    """Whether it is surely not; else another process may only have made its tables anew."""
    return isinstance(error, UnicodeDecodeError) or _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_PLACE = frozenset(  # Read-only, full, or no place for such a file.
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
)


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite ends it itself after some errors.
            connection.execute("ROLLBACK")
        raise


def _identity(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _make(connection: sqlite3.Connection) -> None:
    """Empty tables, in place of whatever there is."""
    for name in _TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for name in [row[0] for row in connection.execute(query)]:
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    for statement in (*_SCHEMA, *_EMPTY, *_EMPTY_EVENTS):
        connection.execute(statement)


def _version(connection: sqlite3.Connection) -> int | None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone() is None:
        return None
    row = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    return row[0] if row is not None else None


def _has_text(text: str | None, folded: str) -> bool:
    return text is not None and folded in text.casefold()


def rest_others(indexes: dict[str, Index], name: str) -> None:
    """Has all but the newest of them give their files back, so that the one of this name can have its own."""
    others = [index for other, index in indexes.items() if other != name]
    for each in others[: max(0, len(others) + 1 - AWAKE.few())]:
        each.rest()
