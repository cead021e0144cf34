"""Other tools' SQLite databases, read and never written.

Opened read-only, so that a tool that is running goes on undisturbed, with what its write-ahead log holds; where the
folder may not be written and the log's index cannot be made, as it was when the tool last checkpointed. A database that
is damaged gives the rows that can be read, and the rest to the report.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nomad_sessions.formats.report import ImportReport
from nomad_sessions.storage.codec import decode_text

__all__ = ["columns", "has_tables", "json_of", "opened", "rows"]

_MAGIC = b"SQLite format 3\0"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, for reading; raises `sqlite3.Error` where it is none."""
    try:
        with contextlib.closing(_connected(path)) as connection:
            yield connection
    except UnicodeDecodeError as error:  # What sqlite says of a damaged schema quotes its bytes.
        raise sqlite3.DatabaseError("its schema is damaged") from error


def _connected(path: Path) -> sqlite3.Connection:
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{mode}", uri=True, timeout=5.0)
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        except sqlite3.OperationalError:
            connection.close()
            if "immutable" in mode:
                raise
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise AssertionError("the last mode returns or raises")


def has_tables(path: Path, tables: Mapping[str, Collection[str]]) -> bool:
    """Whether this is a database with these tables, and these columns in them. Never raises."""
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return False
        with opened(path) as connection:
            return all(set(wanted) <= columns(connection, name) for name, wanted in tables.items())
    except (OSError, sqlite3.Error):
        return False


def columns(connection: sqlite3.Connection, table: str) -> set[str]:
    """The names of a table's columns; none where there is no such table."""
    return {str(row["name"]) for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def rows(
    connection: sqlite3.Connection, report: ImportReport, place: str, query: str, values: Sequence[Any] = ()
) -> Iterator[sqlite3.Row]:
    """The rows of a query, up to the first that cannot be read: then the report says so, and at which place."""
    try:
        yield from connection.execute(query, values)
    except sqlite3.Error as error:
        report.skip(place, f"rows that the database cannot give: {error}")


def json_of(value: Any) -> Any:
    """The JSON value in a column, None where it is none."""
    try:
        return decode_text(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None
