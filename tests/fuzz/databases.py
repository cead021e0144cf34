"""What may befall a database: to its rows and tables, to its write-ahead log, to its bytes."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.mishaps import RAW, altered, struck
from tests.fuzz.seeds import Files

__all__ = ["is_database", "struck_database"]

_ODD: list[Any] = [
    None,
    -1,
    0,
    1,
    0.5,
    2**63 - 1,
    -(2**63),
    1e308,
    float("inf"),
    "",
    "\0",
    "x" * 50_000,
    b"",
    b"\xff\xfe",
]
_ODD += ["[]", "{}", "null", '{"a":1e400}', '[{"type":"text"}]', "2026-01-01 10:00:00", *RAW]


def is_database(data: bytes) -> bool:
    """Whether these are the bytes of a database."""
    return data.startswith(b"SQLite format 3\0")


def struck_database(name: str, data: bytes, chance: random.Random) -> Files:
    """A database with something wrong with it, and its log where it has one."""
    files: Files = {}
    if chance.random() < 0.7:
        with contextlib.suppress(sqlite3.DatabaseError):  # one that was struck before may be none any more
            files = _with_changes(data, chance)
    if not files:
        return {name: struck(data, data, chance)}
    for end in ("-wal", "-shm"):
        if end in files and chance.random() < 0.4:
            files[end] = struck(files[end], data, chance)
    return {name + end: content for end, content in files.items()}


def _with_changes(data: bytes, chance: random.Random) -> Files:
    """The files of a database in which one to five things are changed, by what their names end with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "it.db"
        path.write_bytes(data)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            database.execute("PRAGMA synchronous = OFF")
            ends = [""]
            if chance.random() < 0.3:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA wal_autocheckpoint = 0")
                ends += chance.choice([["-wal"], ["-wal", "-shm"]])
            for _ in range(chance.randint(1, 5)):
                with contextlib.suppress(sqlite3.Error):  # what the tables do not allow, no program has written
                    _change(database, chance)
            return {end: Path(f"{path}{end}").read_bytes() for end in ends}


def _change(database: sqlite3.Connection, chance: random.Random) -> None:
    names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    filled = [(name, rows) for (name,) in names.fetchall() if (rows := _rows(database, name))]
    if filled:
        table, rows = chance.choice(filled)
        chance.choice(_CHANGES)(database, table, chance.choice(rows), chance)


def _rows(database: sqlite3.Connection, table: str) -> list[int]:
    return [number for (number,) in database.execute(f'SELECT rowid FROM "{table}" ORDER BY rowid')]


def _column(database: sqlite3.Connection, table: str, chance: random.Random) -> str:
    query = "SELECT name FROM pragma_table_info(?)"
    return str(chance.choice([name for (name,) in database.execute(query, (table,))]))


def _set(database: sqlite3.Connection, table: str, row: int, column: str, value: Any, chance: random.Random) -> None:
    new = "CAST(? AS TEXT)" if isinstance(value, bytes) and chance.random() < 0.7 else "?"
    database.execute(f'UPDATE OR REPLACE "{table}" SET "{column}" = {new} WHERE rowid = ?', (value, row))


def _replace(database: sqlite3.Connection, table: str, row: int, chance: random.Random) -> None:
    _set(database, table, row, _column(database, table, chance), chance.choice(_ODD), chance)


def _alter(database: sqlite3.Connection, table: str, row: int, chance: random.Random) -> None:
    """The JSON in a column, changed."""
    fields = database.execute(f'SELECT * FROM "{table}" WHERE rowid = ?', (row,))
    for (column, *_), value in zip(fields.description, fields.fetchone() or (), strict=False):
        if isinstance(value, str) and value[:1] in ("{", "["):
            _set(database, table, row, column, altered(value.encode(), chance), chance)


def _exchange(database: sqlite3.Connection, table: str, row: int, chance: random.Random) -> None:
    """A value of another row or column: ids of each other, things that are their own parents."""
    other, to = _column(database, table, chance), _column(database, table, chance)
    source = chance.choice(_rows(database, table))
    for (value,) in database.execute(f'SELECT "{other}" FROM "{table}" WHERE rowid = ?', (source,)).fetchall():
        _set(database, table, row, to, value, chance)


def _repeat(database: sqlite3.Connection, table: str, row: int, chance: random.Random) -> None:
    """A row once more, with one value changed."""
    for found in database.execute(f'SELECT * FROM "{table}" WHERE rowid = ?', (row,)).fetchall():
        values = list(found)
        values[chance.randrange(len(values))] = chance.choice([*_ODD, "another"])
        database.execute(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(values))})', values)


def _delete(database: sqlite3.Connection, table: str, row: int, chance: random.Random) -> None:
    database.execute(f'DELETE FROM "{table}" WHERE rowid = ?', (row,))


def _remake(database: sqlite3.Connection, table: str, row: int, chance: random.Random) -> None:
    """A table or a column less, or by another name."""
    column = _column(database, table, chance)
    how = [f'DROP COLUMN "{column}"', f'RENAME COLUMN "{column}" TO "other"', 'RENAME TO "other"']
    database.execute(chance.choice([f'DROP TABLE "{table}"', *(f'ALTER TABLE "{table}" {each}' for each in how)]))


_CHANGES: list[Callable[[sqlite3.Connection, str, int, random.Random], None]] = [
    _replace,
    _replace,
    _replace,
    _alter,
    _alter,
    _alter,
    _exchange,
    _exchange,
    _repeat,
    _delete,
    _remake,
]
