"""Vectors that were made once: a file that has them by model and text, so that no text is embedded twice.

Invariant: what it gives for a text is what the embedder of that name gave for exactly this text, rounded to 32 bits as
every vector store does, and so is what it gives when it has just asked. The file is derived: one that is damaged is
made again, and one that cannot be used costs no more than asking. Verified by `tests/unit/test_vector_cache.py`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from nomad_sessions.embedders.embedder import PROBE, CheckedEmbedder, Embedder, Vector, embed_checked
from nomad_sessions.forking import Mutex
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.files import make_folder

__all__ = ["CachedEmbedder", "VectorCache"]

_LOG = logging.getLogger("nomad_sessions")
T = TypeVar("T")
_OF_THE_MOMENT = (sqlite3.OperationalError, sqlite3.ProgrammingError)
_WAIT = 5.0
_AT_ONCE = 500
_SLICE = 256
"""Texts that are embedded before what was given is kept: what a crash can cost."""
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS vector (number INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, numbers BLOB NOT NULL)"
)


class VectorCache:
    """Vectors by key, in a SQLite file of mode 0600; at most so many, the oldest go first. Safe for several threads
    and processes."""

    def __init__(self, path: str, *, most: int = 200_000) -> None:
        """`most` vectors: of 768 numbers, 200,000 are 0.6 GB. Opens nothing yet."""
        self._path = os.path.abspath(path)
        self._most = most
        self._mutex = Mutex()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """Those that there are; where the file cannot be read, none. Cost: some microseconds each."""

        def look(connection: sqlite3.Connection) -> dict[bytes, Vector]:
            found: dict[bytes, Vector] = {}
            for begin in range(0, len(keys), _AT_ONCE):
                some = keys[begin : begin + _AT_ONCE]
                marks = ", ".join("?" * len(some))
                query = f"SELECT key, numbers FROM vector WHERE key IN ({marks})"
                found.update((key, array("f", numbers)) for key, numbers in connection.execute(query, some))
            return found

        return self._use(look) or {}

    def put(self, vectors: Iterable[tuple[bytes, array[float]]]) -> None:
        """Keeps these. Durable on return, unless the file cannot be written: then the log says so."""
        rows = [(key, numbers.tobytes()) for key, numbers in vectors]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO vector (key, numbers) VALUES (?, ?)", rows)
                # Numbers only grow, and what is replaced is rare: the newest minus `most` is where the oldest end.
                connection.execute(
                    "DELETE FROM vector WHERE number <= (SELECT max(number) FROM vector) - ?", (self._most,)
                )

        self._use(write)

    def _use(self, use: Callable[[sqlite3.Connection], T]) -> T | None:
        """`use(connection)`, with a file that is made again where it is damaged; None where that does not help."""
        with self._mutex:
            for attempt in range(2):
                try:
                    return use(self._connected())
                except (sqlite3.Error, OSError) as error:
                    self._drop_connection()
                    damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, _OF_THE_MOMENT)
                    if attempt or not damaged:
                        _LOG.warning("%s: vectors are not kept: %s", self._path, error)
                        return None
                    for end in ("", "-wal", "-shm"):
                        REAL.unlink(f"{self._path}{end}")
            return None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():  # In a forked child it is the parent's.
            make_folder(REAL, os.path.dirname(self._path))
            # SQLite gives its further files the mode of the first; texts can be guessed from vectors.
            REAL.close(REAL.open(self._path, os.O_RDWR | os.O_CREAT))
            connection = sqlite3.connect(self._path, timeout=_WAIT, check_same_thread=False)
            self._connection, self._owner = connection, os.getpid()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(_SCHEMA)
        return self._connection

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._owner == os.getpid():
            connection.close()

    def close(self) -> None:
        """Gives the file back; another call opens it again."""
        with self._mutex:
            self._drop_connection()


class CachedEmbedder(CheckedEmbedder):
    """An embedder that asks another only for what is not in the cache."""

    def __init__(self, embedder: Embedder, cache: VectorCache) -> None:
        self._embedder = embedder
        self._cache = cache

    def __repr__(self) -> str:
        return f"CachedEmbedder({self._embedder!r})"

    @property
    def model(self) -> str:
        """The other's."""
        return self._embedder.model

    @property
    def dimension(self) -> int | None:
        """The other's."""
        return self._embedder.dimension

    @property
    def is_semantic(self) -> bool:
        """The other's."""
        return self._embedder.is_semantic

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder`. What was made is kept, slice by slice, also when a later one fails. How long a vector is, is
        asked of the other: a model may have been replaced by one of the same name."""
        keys = [self._key(text) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        there = self._cache.get([key for key, text in wanted.items() if text != PROBE])
        missing = [key for key in wanted if key not in there]
        found = self._made({key: wanted[key] for key in missing})
        length = self.dimension or next((len(each) for each in found.values()), None)
        fitting = {key: each for key, each in there.items() if length in (None, len(each))}
        found |= fitting | self._made({key: wanted[key] for key in there if key not in fitting})
        return [found[key] for key in keys]

    def _made(self, wanted: dict[bytes, str]) -> dict[bytes, Vector]:
        """These, asked of the other, and kept."""
        found: dict[bytes, Vector] = {}
        missing = list(wanted)
        for begin in range(0, len(missing), _SLICE):
            some = missing[begin : begin + _SLICE]
            made = [array("f", each) for each in embed_checked(self._embedder, [wanted[key] for key in some])]
            rows = list(zip(some, made, strict=True))
            self._cache.put(rows)
            found.update(rows)
        return found

    def _key(self, text: str) -> bytes:
        whole = f"{self.model}\0{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(whole, digest_size=16).digest()

    def close(self) -> None:
        """Closes both."""
        self._embedder.close()
        self._cache.close()
