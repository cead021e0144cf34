"""One collection of Chroma's: rows in batches that a server takes, and questions to it.

Invariant: a row that is written has exactly the metadata that it was given: Chroma merges, so that what a row had
before and has no more is taken out by name. Verified by `tests/contract/test_chroma_records.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nomad_sessions.sync.chroma_rows import Metadata, Row

if TYPE_CHECKING:
    import chromadb

    from nomad_sessions.embedders import Vector

__all__ = ["Near", "Shelf", "Written"]

_ROWS = 1_000
_BYTES = 8 << 20
"""In one request: a server takes 40 MB, and a vector in JSON is four times as long."""


class Written(NamedTuple):
    """A row to be written: with its vector, None where it keeps the one that it has, and the metadata that it has had
    so far."""

    row: Row
    vector: Vector | None
    before: Metadata


class Near(NamedTuple):
    """A row that a query has found, and how near it is: the cosine of the angle, 1 for the same direction."""

    score: float
    text: str
    metadata: Metadata


class Shelf:
    """A collection, open."""

    def __init__(self, collection: chromadb.Collection, most: int) -> None:
        """`most` rows at a time are what the server takes."""
        self._collection = collection
        self._most = min(most, _ROWS)

    def get(self, ids: Iterable[str]) -> dict[str, Metadata]:
        """The metadata of those of these rows that there are, by id."""
        found: dict[str, Metadata] = {}
        for some in _in_batches(dict.fromkeys(ids), self._most):
            there = self._collection.get(ids=some, include=["metadatas"])
            found.update(zip(there["ids"], there["metadatas"] or (), strict=True))
        return found

    def listed(self, where: dict[str, Any] | None) -> Iterator[Metadata]:
        """The metadata of all rows, or of those that are so, a page in memory at a time."""
        offset = 0
        while True:
            page = self._collection.get(where=where, limit=self._most, offset=offset, include=["metadatas"])
            yield from page["metadatas"] or ()
            if len(page["ids"]) < self._most:
                return
            offset += len(page["ids"])

    def names(self, where: dict[str, Any]) -> list[str]:
        """The ids of the rows that are so."""
        return list(self._collection.get(where=where, include=[])["ids"])

    def each(self, names: Sequence[str]) -> Iterator[Metadata]:
        """The metadata of these rows, as far as they are there, a page in memory at a time."""
        for some in _in_batches(names, self._most):
            yield from self.get(some).values()

    def put(self, rows: Iterable[Written]) -> None:
        """Writes these, in order; all of them with a vector, or none."""
        batch: list[Written] = []
        size = 0
        for each in rows:
            length = len(each.row.text) + len(each.row.metadata.get("body", "")) + 12 * len(each.vector or ())
            if batch and (len(batch) >= self._most or size + length > _BYTES):
                self._write(batch)
                batch, size = [], 0
            batch.append(each)
            size += length
        if batch:
            self._write(batch)

    def _write(self, batch: list[Written]) -> None:
        import numpy

        ids = [each.row.id for each in batch]
        metadatas: list[Mapping[str, Any]] = [{**dict.fromkeys(each.before), **each.row.metadata} for each in batch]
        if batch[0].vector is None:
            self._collection.update(ids=ids, metadatas=metadatas)
            return
        vectors = numpy.asarray([each.vector for each in batch], dtype=numpy.float32)
        texts = [each.row.text for each in batch]
        self._collection.upsert(ids=ids, embeddings=vectors, documents=texts, metadatas=metadatas)

    def delete(self, ids: Collection[str]) -> None:
        """Takes these out, where they are."""
        for some in _in_batches(ids, self._most):
            self._collection.delete(ids=some)

    def near(self, vector: Vector, count: int, where: dict[str, Any] | None) -> list[Near]:
        """The rows nearest to a vector, nearest first; fewer than `count` where there are no more."""
        import numpy

        found = self._collection.query(
            query_embeddings=numpy.asarray([vector], dtype=numpy.float32),
            n_results=count,
            where=where,
            include=["metadatas", "documents", "distances"],
        )
        columns: Sequence[Sequence[Any]] = [
            (found[name] or [[]])[0] for name in ("distances", "documents", "metadatas")
        ]
        return [
            Near(min(1.0, 1 - distance), text or "", metadata)
            for distance, text, metadata in zip(*columns, strict=True)
        ]


def _in_batches(ids: Iterable[str], most: int) -> Iterator[list[str]]:
    names = list(ids)
    for begin in range(0, len(names), most):
        yield names[begin : begin + most]
