"""`DualStoreManager`: the original's interface, on the local store and copies of it.

Invariant: a record is durable here before any target is told of it, and none is lost where a target is away, refuses,
or the process dies. Verified by `tests/unit/test_dualstore.py`, `test_dualstore_copies.py`, and, failure by failure, by
`test_dualstore_failures_copies.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from nomad_sessions.dualstore.copies import Copies, TargetReport
from nomad_sessions.dualstore.entries import Entry, Place, event_entry, given, place_of
from nomad_sessions.dualstore.filters import Filter, Sort, checked, matches, ordered
from nomad_sessions.dualstore.records import Records
from nomad_sessions.errors import InvalidInputError, NotConfirmedError, NotFoundError
from nomad_sessions.search import Searcher
from nomad_sessions.sync.courier import TargetStatus
from nomad_sessions.sync.synchronizer import Synchronizer
from nomad_sessions.sync.target import Key, SyncTarget

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Collection", "Consistency", "DualStoreManager", "Relevance", "Relevant", "Scored"]

Collection = Literal["sessions", "session_messages", "opencode_events"]
_MOST = 1_000


class Scored(NamedTuple):
    """An entry with its score: the higher, the nearer to what was asked."""

    entry: Entry
    score: float


class Relevant(NamedTuple):
    """What a question found, best first. `by` is the target that answered, or "lexical": then it is by words, through
    the search index, and a score is the inverse of the place among the hits. `failed` has the targets that could not
    answer, each with the reason."""

    hits: list[Scored]
    by: str
    failed: dict[str, str]


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


@runtime_checkable
class Relevance(Protocol):
    """A target that finds by meaning."""

    def most_relevant(
        self, queries: Sequence[str], limit: int, where: Mapping[str, Any] | None = None, *, workspace_id: str
    ) -> Iterable[Any]:
        """Hits with a `message_id` and a `score`, best first."""
        ...


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
            keys = self._keys(place)
            failed = self._copies.confirm({key.kind for key in keys} or {"event"}, keys)
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
            event = self._records.event(place.id)
            return None if event is None else event_entry(event)
        return self._records.message(place.id)

    def get_most_recent(self, limit: int = 10, filter: Filter | None = None, sort: Sort | None = None) -> list[Entry]:
        """The first entries of the collection in an order, the newest first where none is given, that pass a filter.

        Without a filter those with a text that is not blank. `filter` and `sort` are as MongoDB's (`filters.py` names
        the operators that there are). `limit` is a number above 0. Raises `InvalidInputError`. Cost: the collection is
        read.
        """
        _check_limit(limit)
        wanted = checked(filter)
        rows = (each.as_dict() for each in self._all())
        passing = (row for row in rows if (matches(row, wanted) if filter is not None else row["text"].strip()))
        return [Entry(**row) for row in ordered(passing, sort)[:limit]]

    def get_most_relevant(self, queries: Sequence[str], limit: int = 10, where: Filter | None = None) -> Relevant:
        """The messages nearest to any of the queries, each once with its best score, `limit` at most.

        Through the first target that can find by meaning and is there; else by words, and labelled so. `where` is a
        filter of entries as in `get_most_recent`. No query finds nothing. Raises `InvalidInputError`.
        """
        _check_limit(limit)
        if isinstance(queries, str) or not all(type(each) is str for each in queries):
            raise InvalidInputError(field="queries", value=queries, reason="must be texts")
        wanted, failed = checked(where, "where"), dict[str, str]()
        if not queries:
            return Relevant([], "lexical", failed)
        for target in self._synchronizer.targets:
            if isinstance(target, Relevance):
                found = self._copies.ask(target, lambda box, target=target: self._near(target, queries), failed)  # type: ignore[misc]
                if found is not None:
                    return Relevant(self._best(found, wanted, limit), target.name, failed)
        return Relevant(self._best(self._lexical(queries), wanted, limit), "lexical", failed)

    # Copies

    def check_consistency(self, id: str) -> Consistency:
        """Whether a record is here and how each target has it. A target that cannot be asked says so: it is never taken
        for one that has nothing. Events are compared by `get_consistency_report`."""
        keys = self._keys(place_of(id))
        has = self.get(id) is not None
        return Consistency(id, has, self._copies.states(keys) if has else {})

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

    # How

    def _keys(self, place: Place) -> list[Key]:
        if place.kind == "event":
            return []  # Targets know an event by its place in the log.
        if place.kind != "messages":
            return [Key(place.kind, place.id)]
        page = self._manager.get_session_messages(self.workspace_id, place.id)
        return [Key("session", place.id), *(Key("message", each.id) for each in page)]

    def _all(self) -> Iterator[Entry]:
        if self._collection == "sessions":
            return self._records.sessions()
        return self._records.events() if self._collection == "opencode_events" else self._records.all_messages()

    def _near(self, target: Relevance, queries: Sequence[str]) -> list[tuple[str, float]]:
        hits = target.most_relevant(list(queries), _MOST, None, workspace_id=self.workspace_id)
        return [(each.message_id, each.score) for each in hits if each.message_id is not None]

    def _lexical(self, queries: Sequence[str]) -> list[tuple[str, float]]:
        with Searcher(self._manager) as searcher:
            return [
                (hit.message_id, 1 / number)
                for query in queries
                for number, hit in enumerate(
                    searcher.find(query, workspace_id=self.workspace_id, limit=_MOST).hits, start=1
                )
                if hit.message_id is not None
            ]

    def _best(self, found: Iterable[tuple[str, float]], wanted: Filter, limit: int) -> list[Scored]:
        best: dict[str, float] = {}
        for identifier, score in found:
            best[identifier] = max(score, best.get(identifier, score))
        scored: list[Scored] = []
        for identifier, score in sorted(best.items(), key=lambda each: -each[1]):
            entry = self._records.message(identifier)
            if entry is not None and matches(entry.as_dict(), wanted):
                scored.append(Scored(entry, score))
                if len(scored) == limit:
                    break
        return scored

    def __enter__(self) -> DualStoreManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_limit(limit: object) -> None:
    if type(limit) is not int or limit < 1:
        raise InvalidInputError(field="limit", value=limit, reason="must be a number above 0")
