"""`DualStoreManager`: the original's interface, on the local store and copies of it.

Invariant: a record is durable here before any target is told of it, and none is lost where a target is away, refuses,
or the process dies. Verified by `tests/unit/test_dualstore.py`, `test_dualstore_copies.py`, failure by failure by
`test_dualstore_failures_copies.py`, and on real Chroma by `tests/contract/test_dualstore_chroma.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from nomad_sessions.dualstore.copies import Copies, TargetReport
from nomad_sessions.dualstore.entries import Collection, Entry, Kind, Place, given, place_of
from nomad_sessions.dualstore.filters import Filter, Sort, checked, checked_sort, is_newest_first, matches, ordered
from nomad_sessions.dualstore.recent import newest
from nomad_sessions.dualstore.records import Records
from nomad_sessions.errors import InvalidInputError, NotConfirmedError, NotFoundError
from nomad_sessions.search import VectorStore
from nomad_sessions.sync.courier import TargetStatus
from nomad_sessions.sync.synchronizer import Synchronizer
from nomad_sessions.sync.target import Key, SyncTarget

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Collection", "Consistency", "DualStoreManager", "Relevant", "Scored"]

_VECTORS: dict[Collection, Kind] = {"sessions": "session", "session_messages": "message"}
_MORE = 4


class Scored(NamedTuple):
    """An entry with its score: the higher, the nearer to what was asked."""

    entry: Entry
    score: float


class Relevant(NamedTuple):
    """What a question found, best first. `by` is the target that answered, a score being the cosine, or "lexical": then
    it is by words, through the search index, and a score is the inverse of the place among the hits. `failed` has the
    targets that could not answer, each with the reason. `is_semantic` says whether it is by meaning at all: the vectors
    of the hashing embedder are not."""

    hits: list[Scored]
    by: str
    failed: dict[str, str]
    is_semantic: bool


class Consistency(NamedTuple):
    """Whether a record is here, and how each target has it: `same`, `missing`, `stale`, `ahead`, or why that cannot be
    said."""

    id: str
    has_document: bool
    targets: dict[str, str]

    @property
    def is_consistent(self) -> bool:
        """Whether it is here, and the same everywhere."""
        return self.has_document and all(state == "same" for state in self.targets.values())


class DualStoreManager:
    """One collection of a workspace, with copies. Safe for several threads. A context manager.

    `collection` is what `get_most_recent` and `get_most_relevant` look through; keys name whatever they name.
    `consistency` is "eventual": `insert` returns when the record is durable here, and targets receive it in the
    background; or "strict": it waits until each target has confirmed it, and raises `NotConfirmedError` where one has
    not; the record is kept then, and sent when the target is there again. `timeout` is how long strict waits, in
    seconds, for another process that pushes; a target itself has time-outs of its own.
    """

    def __init__(
        self,
        manager: NativeSessionManager,
        workspace_id: str,
        targets: Iterable[SyncTarget] = (),
        *,
        collection: Collection = "session_messages",
        consistency: Literal["eventual", "strict"] = "eventual",
        agent: str = "duck",
        timeout: float = 10.0,
    ) -> None:
        """Begins to keep the targets up to date. They are closed with it; the manager stays the caller's. Raises
        `InvalidInputError`. Asks no target, and waits for none."""
        for field, value, allowed in (
            ("collection", collection, get_args(Collection)),
            ("consistency", consistency, ("eventual", "strict")),
        ):
            if value not in allowed:
                raise InvalidInputError(field=field, value=value, reason=f"must be one of {', '.join(allowed)}")
        self.workspace_id = workspace_id
        self._collection = collection
        self._strict = consistency == "strict"
        self._manager = manager
        self._records = Records(manager, workspace_id, f"{agent}_{collection}")
        self._synchronizer = Synchronizer(manager, targets)
        self._copies = Copies(manager, workspace_id, self._synchronizer, timeout)
        self._synchronizer.start()

    # Entries

    def insert(self, entry: Mapping[str, Any]) -> str:
        """Puts `{id?, text, timestamp?, metadata?}` in place of what is there under its key; gives the key.

        Without an id it is a message of a new id, of the session that its metadata names, or of one of its own that the
        collection has. Durable here on return, and with "strict" there. Raises `InvalidInputError`,
        `SessionNotFoundError`, `AlreadyExistsError` (another session's message), `NotConfirmedError`, `StorageError`.
        """
        found = given(entry)
        place = Place("message", "") if found.id is None else place_of(found.id)
        if place.kind == "session":
            self._records.put_session(place.id, found)
        elif place.kind == "messages":
            self._records.put_messages(place.id, found)
        elif place.kind == "event":
            self._records.put_event(place.id, entry)
        else:
            place = Place("message", self._records.put_message(found))
        key = found.id or place.id
        if self._strict:
            failed = self._copies.confirm(self._keys(place))
            if failed:
                raise NotConfirmedError(id=key, targets=failed)
        return key

    def get(self, id: str) -> Entry | None:
        """What is under a key, as it is now, or None. Raises what reading does: never an error as None."""
        place = place_of(id)
        if place.kind == "session":
            return self._records.session(place.id)
        if place.kind == "messages":
            return self._records.messages(place.id)
        if place.kind == "event":
            return self._records.event(place.id)
        return self._records.message(place.id)

    def get_most_recent(self, limit: int = 10, filter: Filter | None = None, sort: Sort | None = None) -> list[Entry]:
        """The first entries of the collection in an order, the newest first where none is given, that pass a filter.

        Without a filter those with a text that is not blank. `filter` and `sort` are as MongoDB's (`filters.py` names
        the operators that there are). `limit` is a number above 0. Raises `InvalidInputError`. Cost, the newest first:
        of sessions those that are given; of messages the sessions that were changed since the oldest that is given; of
        events those of their span of time, through the search index; and what a filter leaves out on the way. In
        another order the collection is read.
        """
        _check_limit(limit)
        wanted, order = checked(filter), checked_sort(sort)

        def passes(entry: Entry) -> bool:
            return bool(entry.text.strip()) if filter is None else matches(entry.as_dict(), wanted)

        batches = self._records.recent(self._collection)
        if is_newest_first(order):
            return newest(batches, limit, passes)
        rows = (entry.as_dict() for batch in batches for entry in batch.read() if passes(entry))
        return [Entry(**row) for row in ordered(rows, order)[:limit]]

    def get_most_relevant(self, queries: Sequence[str], limit: int = 10, where: Filter | None = None) -> Relevant:
        """The entries of the collection nearest to any of the queries, each once with its best score, `limit` at most.

        Through the first target that has vectors and is there; else, and for events, by words, and labelled so. What a
        revert hides is not found. `where` is a filter of entries as in `get_most_recent`. No query finds nothing.
        Raises `InvalidInputError`.
        """
        _check_limit(limit)
        if isinstance(queries, str) or not all(type(each) is str for each in queries):
            raise InvalidInputError(field="queries", value=queries, reason="must be texts")
        wanted, failed = checked(where, "where"), dict[str, str]()
        asked = [each for each in queries if each.strip()]
        if not asked:
            return Relevant([], "lexical", failed, False)
        for target in self._synchronizer.targets:
            if isinstance(target, VectorStore) and self._collection in _VECTORS:
                store: VectorStore = target
                found = self._copies.ask(target, lambda _, store=store: self._near(store, asked, wanted, limit), failed)  # type: ignore[misc]
                if found is not None:
                    return Relevant(found, target.name, failed, bool(store.embedder.is_semantic))
        return Relevant(self._lexical(asked, wanted, limit), "lexical", failed, False)

    # Copies

    def check_consistency(self, id: str) -> Consistency:
        """Whether a record is here and how each target that takes its kind has it. A target that cannot be asked says
        so: it is never taken for one that has nothing."""
        changes = self._records.changes(place_of(id))
        has = any(each.body is not None for each in changes[:1])
        return Consistency(id, has, self._copies.states(changes) if has else {})

    def retry_vector_write(self, id: str) -> dict[str, str]:
        """Sends a record to the targets once more, whatever they have; those that have not taken it, with the reason.
        Raises `NotFoundError` for a key under which nothing is."""
        if self.get(id) is None:
            raise NotFoundError(kind="entry", id=id)
        return self._copies.send(self._keys(place_of(id)))

    def get_consistency_report(self) -> dict[str, TargetReport]:
        """How each target stands, over everything in the workspace. Cost: store and targets are read."""
        return self._copies.report()

    def queue_stats(self) -> list[TargetStatus]:
        """How far each target is behind, what it refused, and its last error. Asks no target."""
        return self._synchronizer.status(self.workspace_id)

    def close(self) -> None:
        """Ends the background work and closes the targets. What was not sent is sent by the next one. May be called
        twice."""
        self._synchronizer.close()
        self._records.close()

    # How

    def _keys(self, place: Place) -> list[Key]:
        return [each.key for each in self._records.changes(place)]

    def _near(self, store: VectorStore, queries: Sequence[str], wanted: Filter, limit: int) -> list[Scored]:
        """The nearest that are here and pass: the store is asked for more until there are enough, or it has no more."""
        count = limit
        while True:
            near = store.most_relevant(queries, count, workspace_id=self.workspace_id)
            kind = _VECTORS[self._collection]
            rows = (
                (self._records.visible(self._collection, each.id), each.score) for each in near if each.kind == kind
            )
            found = (Scored(entry, score) for entry, score in rows if entry is not None)
            best = list(islice((each for each in found if matches(each.entry.as_dict(), wanted)), limit))
            if len(best) == limit or len(near) < count:
                return best
            count *= _MORE

    def _lexical(self, queries: Sequence[str], wanted: Filter, limit: int) -> list[Scored]:
        best: dict[str, Scored] = {}
        for query in queries:
            passing = (
                Scored(entry, 1 / number)
                for number, entry in enumerate(self._records.by_words(self._collection, query), start=1)
                if matches(entry.as_dict(), wanted)
            )
            for each in islice(passing, limit):
                if each.entry.id not in best or best[each.entry.id].score < each.score:
                    best[each.entry.id] = each
        return sorted(best.values(), key=lambda each: -each.score)[:limit]

    def __enter__(self) -> DualStoreManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_limit(limit: object) -> None:
    if type(limit) is not int or limit < 1:
        raise InvalidInputError(field="limit", value=limit, reason="must be a number above 0")
