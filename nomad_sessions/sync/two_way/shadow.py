"""What a store knows of the common place: `sync/<target>-two-way.sqlite` in a workspace's folder.

For each record the number of its version there, with the stamps, and the rev of ours that is the same. All of it is
derived: where it is missing or damaged, place and store are compared whole.

Invariant: where `rev` is that of the record here, the record is as the place had it under `number`. It is written after
what it says is durable here and there. Verified by `tests/unit/test_shadow.py` and `tests/properties/test_two_way.py`.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nomad_sessions.errors import CorruptionError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import make_folder
from nomad_sessions.sync.dead_letters import FOLDER
from nomad_sessions.sync.target import Key, Kind
from nomad_sessions.sync.two_way.versions import Stamp, Stamps, Version
from nomad_sessions.workspace.faults import translated

__all__ = [
    "COMPARING",
    "OTHERWISE",
    "UNANNOUNCED",
    "Known",
    "Shadow",
    "known_of",
    "open_shadow",
    "stamps_from_json",
    "stamps_to_json",
]

_LOG = logging.getLogger("nomad_sessions")
OTHERWISE = -1
"""In place of a rev: the record here is another than the one there."""
COMPARING = "comparing"
"""The fact that the whole is being compared, and why: until it is done, not all that is the same is known to be."""
UNANNOUNCED = "unannounced"
"""The fact that something was written there that others have not been told of; it is empty, or not there, otherwise."""
_VERSION = "1"
_AT_ONCE = 500
_FACTS = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
_RECORDS = (
    "CREATE TABLE IF NOT EXISTS record (kind TEXT, id BLOB, number INTEGER NOT NULL, rev INTEGER NOT NULL,"
    " gone INTEGER NOT NULL, stamps BLOB, PRIMARY KEY (kind, id)) WITHOUT ROWID"
)

_WAITING = f"CREATE INDEX IF NOT EXISTS waiting ON record (kind, id) WHERE rev = {OTHERWISE}"


class Known(NamedTuple):
    """What is known of a record: the number there, the rev here that is the same (or `OTHERWISE`), whether it is gone
    there, and its stamps (None for what is never changed)."""

    number: int
    rev: int
    gone: bool
    stamps: Stamps | None


def known_of(version: Version, rev: int) -> Known:
    """What is known of a record, once the one here with this rev is as that version."""
    stamps = None if version.key.kind == "event" else version.stamps
    return Known(version.number, rev, version.body is None, stamps)


class Shadow:
    """That of one workspace and place. Not for several threads at once."""

    def __init__(self, path: str) -> None:
        """Raises `sqlite3.DatabaseError` for a file that is none of SQLite's, or that cannot be written; everything
        else raises `CorruptionError` for one that is damaged or has no room."""
        self.path = path
        self.latest: Stamp | None = None
        """The highest stamp among those that were noted since this was opened."""
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            # What a power cut takes of it is found out by the numbers; the file itself stays whole.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(_FACTS)
            if self.told("version") not in (None, _VERSION):
                self._db.execute("DROP TABLE IF EXISTS record")  # Another version's, with other columns.
                self._forget_facts()
            self._db.execute(_RECORDS)
            self._db.execute(_WAITING)
            self.tell("version", _VERSION)
        except BaseException:
            self._db.close()
            raise

    def told(self, key: str) -> str | None:
        """A fact that was noted."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def tell(self, key: str, value: str) -> None:
        """Notes a fact."""
        self._rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def known(self, kind: Kind, ids: Collection[str]) -> dict[str, Known]:
        """What is known of these, by id, without those of which nothing is."""
        wanted = list(ids)
        found: dict[str, Known] = {}
        for begin in range(0, len(wanted), _AT_ONCE):
            rows = self._rows_of("number, rev, gone, stamps", kind, wanted[begin : begin + _AT_ONCE])
            found |= {_text(row[0]): _known(row[1:]) for row in rows}
        return found

    def _rows_of(self, columns: str, kind: Kind, ids: Sequence[str]) -> list[Any]:
        """The id and these columns of those of these that are known: of no more than `_AT_ONCE`."""
        query = f"SELECT id, {columns} FROM record WHERE kind = ? AND id IN ({','.join('?' * len(ids))})"
        return self._rows(query, (kind, *map(_bytes, ids)))

    def numbers(self, kind: Kind) -> dict[str, tuple[int, int, bool]]:
        """The number, the rev and whether it is gone, of all of a kind, by id."""
        rows = self._rows("SELECT id, number, rev, gone FROM record WHERE kind = ?", (kind,))
        return {_text(name): (number, rev, bool(gone)) for name, number, rev, gone in rows}

    def note(self, rows: Mapping[Key, Known]) -> None:
        """Keeps these from now on, all or none."""
        stamps = [row.stamps.alive for row in rows.values() if row.stamps is not None]
        self.latest = max(stamps if self.latest is None else [*stamps, self.latest], default=None)
        values = [
            (key.kind, _bytes(key.id), row.number, row.rev, row.gone, _packed(row.stamps)) for key, row in rows.items()
        ]
        self._all_or_none("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?)", values)

    def otherwise(self, kind: Kind, there: Sequence[tuple[str, int, bool]]) -> list[str]:
        """Of these, with the numbers that they have there, those that are not known to be the same here; and what is
        known to be otherwise here, whenever that was changed there."""
        found: dict[str, None] = {}
        for begin in range(0, len(there), _AT_ONCE):
            some = there[begin : begin + _AT_ONCE]
            rows = self._rows_of("number, rev", kind, [name for name, _, _ in some])
            same = {_text(name): number for name, number, rev in rows if rev != OTHERWISE}
            found |= dict.fromkeys(name for name, number, _ in some if same.get(name) != number)
        rows = self._rows(f"SELECT id FROM record WHERE kind = ? AND rev = {OTHERWISE}", (kind,))
        return list(found | dict.fromkeys(_text(row[0]) for row in rows))

    def forget(self, keys: Iterable[Key]) -> None:
        """Knows nothing of these."""
        self._all_or_none("DELETE FROM record WHERE kind = ? AND id = ?", [(key.kind, _bytes(key.id)) for key in keys])

    def _all_or_none(self, statement: str, values: Sequence[tuple[object, ...]]) -> None:
        with self._asked():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(statement, values)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        with self._asked():
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _asked(self) -> Iterator[None]:
        """What SQLite says of the file is a `CorruptionError`: it is made anew when it is deleted."""
        try:
            yield
        except sqlite3.Error as error:
            hint = "delete it: it is made anew, and nothing is lost"
            raise CorruptionError(path=self.path, reason=str(error), hint=hint) from error

    def clear(self) -> None:
        """Knows nothing any more, but the facts that are this machine's own: its name, what clocks it has seen, and
        that others are still to be told of something."""
        self._rows("DELETE FROM record")
        self._forget_facts()

    def _forget_facts(self) -> None:
        self._rows(f"DELETE FROM meta WHERE key NOT IN ('machine', 'self', 'floor', 'version', '{UNANNOUNCED}')")

    def close(self) -> None:
        """Lets go of the file."""
        self._db.close()


def _bytes(identifier: str) -> bytes:
    return identifier.encode("utf-8", "surrogatepass")


def _text(identifier: bytes) -> str:
    return identifier.decode("utf-8", "surrogatepass")


def _packed(stamps: Stamps | None) -> bytes | None:
    return None if stamps is None else encode(stamps_to_json(stamps))


def _known(row: tuple[int, int, int, bytes | None]) -> Known:
    number, rev, gone, packed = row
    return Known(number, rev, bool(gone), None if packed is None else stamps_from_json(decode(packed)))


def stamps_to_json(stamps: Stamps) -> list[object]:
    """Stamps as JSON: the base, the highest, and those of fields that have another than the base."""
    return [list(stamps.base), list(stamps.alive), {name: list(each) for name, each in stamps.fields.items()}]


def stamps_from_json(value: Any) -> Stamps:
    """Stamps that were made JSON. Raises `ValueError`, `AttributeError` or `TypeError` for what are none."""
    base, alive, fields = value
    return Stamps(_stamp(base), {str(name): _stamp(each) for name, each in fields.items()}, _stamp(alive))


def _stamp(value: Any) -> Stamp:
    time, machine, seq = value
    return Stamp(int(time), str(machine), int(seq))


def open_shadow(fs: FileSystem, folder: str, name: str) -> Shadow:
    """What is known of a place. A file that is damaged is made anew."""
    path = f"{folder}/{FOLDER}/{name}-two-way.sqlite"
    with translated(folder):
        make_folder(fs, f"{folder}/{FOLDER}")
    try:
        return Shadow(path)
    except (sqlite3.DatabaseError, CorruptionError) as error:
        if isinstance(error, sqlite3.OperationalError):
            reason = f"it cannot be used: {error}"
            raise CorruptionError(
                path=path, reason=reason, hint="delete it: it is made anew, and nothing is lost"
            ) from error
        _LOG.warning("%s is made anew: %s", path, error)
        for each in (path, f"{path}-wal", f"{path}-shm"):
            if fs.stat(each) is not None:
                fs.unlink(each)
        return Shadow(path)
