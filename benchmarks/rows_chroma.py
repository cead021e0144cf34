"""The Chroma target beside a bare `collection.upsert` of the same rows: what it costs besides the embedder.

Both sides write into a folder of their own, in turns, batch by batch, with vectors that cost nothing to know; the time
that the embedder takes is subtracted. The bare side is given ids, vectors, texts and metadata ready made, in batches as large.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

import chromadb
import numpy
from chromadb.config import Settings

from benchmarks.bars import row
from benchmarks.model import Context, Row
from benchmarks.rows_search import text_of
from nomad_sessions.embedders import BatchedEmbedder, CachedEmbedder, Vector, VectorCache
from nomad_sessions.sync import Change, Key
from nomad_sessions.sync.chroma import ChromaTarget
from nomad_sessions.sync.chroma_rows import rows_of

_BATCH = 500
_DIMENSION = 384


class _Table(BatchedEmbedder):
    """Vectors drawn from the text's hash; knows how long it took."""

    def __init__(self) -> None:
        super().__init__("table/1", dimension=_DIMENSION, batch=_BATCH)
        self.seconds = 0.0

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        start = time.perf_counter()
        made = super().embed(texts)
        self.seconds += time.perf_counter() - start
        return made

    def _vectors(self, texts: list[str]) -> list[Vector]:
        found: list[Vector] = []
        for text in texts:
            chance = random.Random(text)
            found.append([chance.random() - 0.5 for _ in range(_DIMENSION)])
        return found


def _batches(count: int) -> Iterator[list[Change]]:
    changes = []
    for number in range(count):
        body = {"id": f"m{number:06}", "sessionId": "s", "role": "user", "content": text_of(number), "rev": number + 1}
        changes.append(Change("ws", Key("message", f"m{number:06}"), number + 1, body, "s"))
        if len(changes) == _BATCH:
            yield changes
            changes = []


def run(context: Context) -> list[Row]:
    """A first push of messages of 1 KB, in batches of 500: the median of the batches' ratios."""
    count = context.pick(5_000, 2_000)
    table = _Table()
    cache = VectorCache(str(context.make("chroma-cache") / "vectors.sqlite"))
    client = chromadb.PersistentClient(str(context.make("chroma-bare")), settings=Settings(anonymized_telemetry=False))
    configuration = {"hnsw": {"space": "cosine", "ef_search": 200}}
    bare = client.create_collection("bare", embedding_function=None, configuration=configuration)  # type: ignore[arg-type]
    mine, base = [], []
    with closing(ChromaTarget(CachedEmbedder(table, cache), path=context.make("chroma-ours"))) as target:
        target.scan("ws", "message")
        for batch in _batches(count):
            rows = [each for change in batch for each in rows_of(change)]
            vectors = numpy.asarray(table._vectors([each.text for each in rows]), dtype=numpy.float32)
            start = time.perf_counter()
            bare.upsert(
                ids=[each.id for each in rows],
                embeddings=vectors,
                documents=[each.text for each in rows],
                metadatas=[each.metadata for each in rows],
            )
            base.append(time.perf_counter() - start)
            table.seconds = 0.0
            start = time.perf_counter()
            target.apply(batch)
            mine.append(time.perf_counter() - start - table.seconds)
    client.close()  # type: ignore[attr-defined]
    ratio = sum(mine) / sum(base)
    middle = statistics.median(one / other for one, other in zip(mine, base, strict=True))
    what = f"push {count:,} messages of 1 KB to Chroma, without the embedder's time"
    note = f"the median of {len(mine)} batches' ratios: {middle:.2f}"
    baseline = f"{sum(base):.2f} s bare upsert of the same rows"
    return [row("chroma-push", what, ratio, ours=f"{sum(mine):.2f} s", baseline=baseline, note=note)]
