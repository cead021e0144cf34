"""A sealed segment: its tables, which say where the records of one or several segments lie.

Invariant: a row is handed out only when its checksum is right; damage raises `TablesDamaged`, for the records may be
intact. Verified by `tests/unit/test_journal.py` and `tests/unit/test_recovery.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nomad_sessions.errors import JournalCorruptError
from nomad_sessions.storage import table
from nomad_sessions.storage.segment import Seal, Segment
from nomad_sessions.storage.table import TableDamaged

__all__ = ["Sealed", "TablesDamaged"]


class TablesDamaged(JournalCorruptError):
    """The tables of a sealed segment are damaged. Its records may be intact: a journal that does not trust the tables
    (`trust_tables=False`) reads those instead."""


class Sealed(NamedTuple):
    """A sealed segment whose tables cover it and perhaps some before it."""

    segment: Segment
    seal: Seal

    def lookup(self, name: str, key: str) -> list[Any] | None:
        """One row of a table of the seal."""
        row: list[Any] | None = self._verified(
            lambda region: table.lookup(self.segment.fs, self.segment.fd, region, key), name
        )
        return row

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
