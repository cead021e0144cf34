"""Other tools' SQLite databases, read and never written.

Opened read-only, so that a tool that is running goes on undisturbed, with what its write-ahead log holds; where the
log's index cannot be used, as it was when the tool last checkpointed. Nothing is made beside the database. One that is
damaged gives the rows that can be read, and the rest to the report.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.source import stamp_of
from nomad_sessions.storage.codec import decode_text

__all__ = ["columns", "copied_once", "has_tables", "json_of", "opened", "rows", "salvaged"]

_MAGIC = b"SQLite format 3\0"
_GAP = 2_000  # How many rows in succession may be beyond reach before the rest of a damaged table is given up.


class _Copies:
    """Copies of databases in temporary folders, until it is closed."""

    def __init__(self) -> None:
        self._made: dict[Path, tuple[str, tempfile.TemporaryDirectory[str]]] = {}

    def of(self, path: Path, log: Path) -> Path:
        """The copy of a database with its log: made now, unless both are as they were when one was made."""
        stamp = stamp_of(path, log)
        before, folder = self._made.get(path, ("", None))
        if folder is None or stamp != before:
            outdated = folder
            folder = tempfile.TemporaryDirectory(prefix="nomad-sessions-", ignore_cleanup_errors=True)
            try:
                for each in (path, log):
                    shutil.copyfile(each, Path(folder.name, each.name))
            except BaseException:
                folder.cleanup()
                raise
            self._made[path] = stamp, folder
            if outdated is not None:
                outdated.cleanup()
        return Path(folder.name, path.name)

    def close(self) -> None:
        """Nothing of them stays."""
        for _, folder in self._made.values():
            folder.cleanup()


_COPIES: ContextVar[_Copies | None] = ContextVar("copies", default=None)


@contextlib.contextmanager
def copied_once() -> Iterator[None]:
    """While it lasts, a database that has to be copied to be read is copied again only after it has changed."""
    if _COPIES.get() is not None:
        yield
        return
    copies = _Copies()
    token = _COPIES.set(copies)
    try:
        with contextlib.closing(copies):
            yield
    finally:
        _COPIES.reset(token)


@contextlib.contextmanager
def opened(path: Path, tables: Mapping[str, Collection[str]] | None = None) -> Iterator[sqlite3.Connection]:
    """The database, for reading; raises `sqlite3.Error` where it is none, or lacks one of these tables or columns."""
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(contextlib.closing(_connected(path, stack)))
        except OSError as error:
            raise sqlite3.OperationalError(f"cannot be read: {error.strerror}") from error
        try:
            for name, wanted in (tables or {}).items():
                lacking = sorted(set(wanted) - columns(connection, name))
                if lacking:
                    raise sqlite3.OperationalError(f"its table {name} has no {', '.join(lacking)}")
            yield connection
        except UnicodeDecodeError as error:  # What sqlite says of a damaged schema quotes its bytes.
            raise sqlite3.DatabaseError("its schema is damaged") from error


def _connected(path: Path, stack: contextlib.ExitStack) -> sqlite3.Connection:
    path = path.resolve()
    if not _is_in_wal_mode(path):
        return _connection(path, "mode=ro")
    log, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    if not log.exists():
        # Nobody has it open. Opened as a database that others may write, it would get a log and an index beside it.
        return _connection(path, "mode=ro&immutable=1")
    if index.exists():
        try:
            return _connection(path, "mode=ro")
        except sqlite3.OperationalError:  # Whoever may not write the folder cannot use the index either.
            return _connection(path, "mode=ro&immutable=1")
    # A copy that somebody made: the log has the newest, and an index of it may not be made there.
    copies = _COPIES.get()
    if copies is None:
        copies = _Copies()
        stack.enter_context(contextlib.closing(copies))
    return _connection(copies.of(path, log), "mode=ro")


def _is_in_wal_mode(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(20)[18:] == b"\2\2"


def _connection(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=5.0)
    connection.row_factory = sqlite3.Row
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        # The connection cannot write. What this allows is to read a file that was cut off, whose schema names pages
        # that are gone: sqlite would refuse all of it.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def has_tables(path: Path, tables: Mapping[str, Collection[str]]) -> bool:
    """Whether this is a database with these tables, and these columns in them. Never raises."""
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return False
        with opened(path, tables):
            return True
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


def salvaged(
    connection: sqlite3.Connection, report: ImportReport, place: str, table: str, column: str = "", value: Any = None
) -> list[sqlite3.Row]:
    """The rows of a table, those where a column has a value or all, in no order. Where the file is damaged, every row
    that can still be reached; the report says at which place.

    Cost: as the index on the column allows; of a damaged file, all of the table.
    """
    where, values = (f" WHERE {column} = ?", (value,)) if column else ("", ())
    try:
        return connection.execute(f"SELECT * FROM {table}{where}", values).fetchall()
    except sqlite3.Error as error:
        report.skip(place, f"rows that the database cannot give: {error}")
    return [row for row in _reachable(connection, table) if not column or row[column] == value]


def _reachable(connection: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """The rows of a damaged table: past a page that cannot be read, on with the next row that can."""
    last: int | None = None
    while True:
        try:
            query = f"SELECT rowid AS rowNumber, * FROM {table} WHERE rowid > ? ORDER BY rowid"
            for row in connection.execute(query, (-1 if last is None else last,)):
                last = row["rowNumber"]
                yield row
        except sqlite3.Error:
            found = _next_reachable(connection, table, 0 if last is None else last + 1)
            if found is None:
                return
            last = found["rowNumber"]
            yield found
        else:
            return


def _next_reachable(connection: sqlite3.Connection, table: str, first: int) -> sqlite3.Row | None:
    for number in range(first, first + _GAP):
        with contextlib.suppress(sqlite3.Error):
            row: sqlite3.Row | None = connection.execute(
                f"SELECT rowid AS rowNumber, * FROM {table} WHERE rowid = ?", (number,)
            ).fetchone()
            if row is not None:
                return row
    return None


def json_of(value: Any) -> Any:
    """The JSON value in a column, None where it is none."""
    try:
        return decode_text(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None
