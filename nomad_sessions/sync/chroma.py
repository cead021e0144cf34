"""`ChromaTarget`: sessions and messages in Chroma, as vectors, so that they are found by meaning.

Of other kinds it takes nothing: tasks, mail and events have no text that anybody would look for by meaning. What a
record is there, `chroma_rows.py` says, which collections there are `chroma_shelves.py`. Verified by
`tests/contract/test_sync_targets.py` and `tests/contract/test_chroma_*.py`, against real Chroma.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from nomad_sessions.embedders import Embedder
from nomad_sessions.embedders.embedder import dimension_of, embed_checked
from nomad_sessions.errors import TargetUnavailableError
from nomad_sessions.sync.chroma_asking import Relevant, Where, check_question, condition, nearest
from nomad_sessions.sync.chroma_connection import Connection
from nomad_sessions.sync.chroma_shelves import COLLECTIONS, Model, Shelves, check_agent, found_shelves, open_shelves
from nomad_sessions.sync.chroma_writing import applied, fetched, listing, refilled
from nomad_sessions.sync.target import Applied, Change, Kind, Stored, TargetInfo

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

    from nomad_sessions.sync.chroma_rows import Metadata

__all__ = ["ChromaTarget"]

_LOG = logging.getLogger("nomad_sessions")


class ChromaTarget:
    """Vectors of sessions and messages in a folder, or on a Chroma server. Threads, and the processes that use one
    folder, take turns: who asks waits for 5 s at most, and a push for `timeout`."""

    kinds: Collection[Kind] = tuple(COLLECTIONS)
    place = None

    def __init__(
        self,
        embedder: Embedder,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        agent: str = "duck",
        name: str = "chroma",
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """`path` is a folder of Chroma's own, `url` a server: one of the two. Collections are called after `agent`.
        `headers` go with each request to a server (a token, say), and are never shown; `timeout` is for one answer.
        `progress` is told, while the records of another model are embedded anew, how many, of how many of their kind.

        Put a `CachedEmbedder` in front of what costs time or money: a text that is sent again, or copied by a fork, is
        then not embedded again.

        Raises `InvalidInputError` for an agent or an address that is none, and where chromadb is missing. Asks nobody
        yet.
        """
        self.name = name
        self._agent = check_agent(agent)
        self._embedder = embedder
        where = None if path is None else os.fspath(path)
        self._connection = Connection(name, where, url, {} if headers is None else headers, timeout)
        self._progress = progress
        self._shelves: tuple[ClientAPI, Shelves] | None = None
        self._listings: dict[tuple[str, Kind], list[Stored]] = {}

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        """See `SyncTarget`. A record whose text the embedder refuses is rejected. Cost: the embedder's, and Chroma's
        upsert of the same rows."""
        self._listings.clear()
        with self._use() as shelves:
            rejected = applied(shelves, self._embedder, changes, force=force)
        return Applied(len(changes) - len(rejected), tuple(rejected))

    def renew(self) -> None:
        """Embeds anew what is there of another model. Cost: nothing but the first time."""
        if self._shelves is None:
            with self._use():
                pass

    def scan(self, workspace_id: str, kind: Kind, *, after: str = "", limit: int = 1000) -> list[Stored]:
        """See `SyncTarget`. The first page costs reading what all of it is called, further ones nothing."""
        place = (workspace_id, kind)
        if not after or place not in self._listings:
            with self._use() as shelves:
                self._listings[place] = listing(shelves, workspace_id, kind)
        return [each for each in self._listings[place] if each.id > after][:limit]

    def fetch(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Change]:
        """See `SyncTarget`."""
        with self._use() as shelves:
            return fetched(shelves, workspace_id, kind, ids) if ids else {}

    def workspaces(self) -> list[str]:
        """See `SyncTarget`. Cost: reading what every record is called."""
        with self._use() as shelves:
            there = {
                each["workspaceId"] for shelf in (*shelves.of.values(), shelves.bare) for each in shelf.listed(None)
            }
            return sorted(each for each in there if any(listing(shelves, each, kind) for kind in self.kinds))

    def ping(self) -> None:
        """See `SyncTarget`. The embedder is not asked; a folder that is not there is made."""
        with self._connection.client(asks=self._connection.exists) as client:
            client.heartbeat()

    def describe(self) -> TargetInfo:
        """See `SyncTarget`."""
        details = {"agent": self._agent, "model": self._embedder.model, "isSemantic": self._embedder.is_semantic}
        return TargetInfo("chroma", self._connection.place, details)

    @property
    def embedder(self) -> Embedder:
        """What makes its vectors."""
        return self._embedder

    def most_relevant(
        self,
        queries: Sequence[str],
        limit: int = 10,
        where: Where | None = None,
        *,
        workspace_id: str | None = None,
        session_id: str | None = None,
        kinds: Collection[Kind] = tuple(COLLECTIONS),
    ) -> list[Relevant]:
        """The records nearest to any of the queries, best first, each once, at most `limit`; of one workspace or all.

        `where` is a filter of Chroma's over the metadata of rows. Nothing is written, and no vectors are made anew:
        raises `TargetUnavailableError` where there are none of this model, as where Chroma or the embedder is away, and
        `InvalidInputError` for a query, a limit, a kind or a filter that is none. Cost: the embedder's, and a query for
        each of the queries; with a filter, Chroma looks at all rows.
        """
        check_question(queries, limit, kinds)
        if not queries:
            return []
        filters = condition(where, workspace_id, session_id)
        with self._connection.client(asks=True) as client:
            vectors = embed_checked(self._embedder, list(queries))
            shelves = self._known(client)
            if shelves is None:
                shelves, why = found_shelves(client, self._agent, self._model())
                if shelves is None:
                    raise TargetUnavailableError(target=self.name, reason=why)
            return nearest(shelves, kinds, vectors, limit, filters)

    @contextlib.contextmanager
    def _use(self) -> Iterator[Shelves]:
        with self._connection.client() as client:
            shelves = self._known(client)
            if shelves is None:
                shelves = open_shelves(client, self._agent, self._model(), self._refill)
                self._shelves = client, shelves
            yield shelves

    def _known(self, client: ClientAPI) -> Shelves | None:
        """The shelves, unless they were opened through another client than is there now."""
        return self._shelves[1] if self._shelves is not None and self._shelves[0] is client else None

    def _model(self) -> Model:
        return Model(self._embedder.model, dimension_of(self._embedder))

    def _refill(self, kind: Kind, rows: Iterator[Metadata], total: int, shelves: Shelves) -> None:
        for each in refilled(shelves, self._embedder, kind, self._told(rows, total)):
            _LOG.warning("%s: %s is left out: %s", self.name, each.key.id, each.reason)

    def _told(self, rows: Iterator[Metadata], total: int) -> Iterator[Metadata]:
        for number, each in enumerate(rows, 1):
            if self._progress is not None:
                self._progress(number, total)
            yield each

    def close(self) -> None:
        """See `SyncTarget`. The embedder is closed too."""
        self._shelves = None
        self._listings.clear()
        self._connection.close()
        self._embedder.close()
