"""A sealed segment: its tables, which say where the records of one or several segments lie.

Invariant: a row is handed out only when its checksum is right; damage raises `TablesDamaged`, for the records may be
intact. Verified by `tests/unit/test_journal.py` and `tests/unit/test_recovery.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nomad_sessions.errors import JournalCorruptError
from nomad_sessions.storage import table
from nomad_sessions.storage.segment import Seal, Segment
from nomad_sessions.storage.table import Keys, TableDamaged

__all__ = ["Sealed", "TablesDamaged"]


class TablesDamaged(JournalCorruptError):
    """The tables of a sealed segment are damaged. Its records may be intact: a journal that does not trust the tables
    (`trust_tables=False`) reads those instead."""


class Sealed:
    """A sealed segment whose tables cover it and perhaps some before it."""

    __slots__ = ("_keys", "seal", "segment")

    def __init__(self, segment: Segment, seal: Seal) -> None:
        self.segment = segment
        self.seal = seal
        self._keys: dict[str, Keys] = {}

    def lookup(self, name: str, key: str) -> list[Any] | None:
        """One row of a table of the seal."""
        return self.lookup_many(name, (key,)).get(key)

    def lookup_many(self, name: str, keys: Collection[str]) -> dict[str, list[Any]]:
        """The rows of those `keys` that are in a table of the seal, by key; who asks for many is answered from memory
        where they are not there."""
        if not keys:
            return {}
        segment, known = self.segment, self._keys.setdefault(name, Keys())
        found: dict[str, list[Any]] = self._verified(
            lambda region: known.find(segment.fs, segment.fd, region, keys), name
        )
        return found

    def rows(self, name: str) -> list[list[Any]]:
        """All rows of a table of the seal, key first."""
        rows = self._verified(lambda region: table.rows(self.segment.fs, self.segment.fd, region), name)
        return [fields[1:] for fields in rows]

    def _verified(self, read: Any, name: str) -> Any:
        region = self.seal.tables[name]
        try:
            return read(region)
        except TableDamaged as error:
            raise TablesDamaged(
                path=self.segment.path, offset=region.offset, length=region.length, reason=str(error)
            ) from error

    def intact(self) -> bool:
        """Whether a walk through the lines reaches the seal, and every table is as it was written. Reads everything."""
        if self.segment.scan().seal is None:
            return False
        try:
            for name in self.seal.tables:
                self.rows(name)
        except TablesDamaged:
            return False
        return True
