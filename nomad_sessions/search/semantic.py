"""`SemanticSearcher`: what is near in meaning, and both ways of searching as one.

A vector store says which records are near; whether they are there, visible, and let through by the filters, the store's
own index says, which is brought up to date first. Both ranks as one: reciprocal rank fusion, 1 / (60 + rank) added up
(Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", SIGIR
2009). Verified by `tests/unit/test_semantic_search.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, StorageError, TargetUnavailableError
from nomad_sessions.search.arguments import check_filters, check_page
from nomad_sessions.search.finding import Filters
from nomad_sessions.search.hits import Hit
from nomad_sessions.search.locating import Entry
from nomad_sessions.search.searcher import Searcher

__all__ = ["Mode", "RankedResults", "SemanticSearcher", "VectorStore"]

Mode = Literal["semantic", "hybrid"]
_FUSION = 60
_LEAST = 100
"""Of each rank so many are fused at least: what is far down in one may be first in the other."""
_MORE = 4
_SNIPPET = 200


class _Near(Protocol):
    """A record that a vector store has found."""

    @property
    def workspace_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def score(self) -> float: ...
    @property
    def text(self) -> str: ...


@runtime_checkable
class VectorStore(Protocol):
    """What knows which records are near to a text: `ChromaTarget` does."""

    @property
    def embedder(self) -> Any:
        """What makes the vectors: its `model`, and whether it `is_semantic`."""
        ...

    def most_relevant(
        self, queries: Sequence[str], limit: int = 10, *, workspace_id: str | None = None, session_id: str | None = None
    ) -> Sequence[_Near]:
        """The records nearest to any of the queries, best first, each once. Raises `TargetUnavailableError`."""
        ...


@dataclass(frozen=True)
class RankedResults:
    """A page of hits, best first, with a score each. `mode` is how they were found: `semantic` (the score is the
    cosine, at most 1), `hybrid` (the sum of 1 / (60 + rank)), or, where there are no vectors, `lexical` (no
    scores: 0), and `note` says why, or what else is to be known. There is no total: everything is near to some
    degree."""

    hits: tuple[Hit, ...]
    scores: tuple[float, ...]
    mode: str
    note: str
    next_offset: int | None
    unreadable: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able values, in camelCase."""
        hits = [{**hit.as_dict(), "score": score} for hit, score in zip(self.hits, self.scores, strict=True)]
        unreadable = [{"workspaceId": workspace, "error": error} for workspace, error in self.unreadable]
        how = {"mode": self.mode, "note": self.note}
        return {**how, "hits": hits, "nextOffset": self.next_offset, "unreadable": unreadable}


class _Ranked(NamedTuple):
    """Hits in order, with their scores, and the workspaces that could not be read."""

    hits: list[tuple[Hit, float]]
    unreadable: dict[str, str]


class SemanticSearcher:
    """Searches by meaning, through a vector store, and by words, through a `Searcher`. As safe for threads as the
    vector store is; closes neither."""

    def __init__(self, searcher: Searcher, vectors: VectorStore) -> None:
        self._searcher = searcher
        self._vectors = vectors

    def find(
        self,
        query: str,
        *,
        mode: Mode = "semantic",
        workspace_id: str | None = None,
        filters: Filters | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> RankedResults:
        """The messages and sessions nearest to a text, best first; of one workspace, or of all that are here.

        `hybrid` asks for its words as well, in the language of `Searcher.find`, and fuses both ranks. A message that
        forks have copied is one hit. Where the vector store, or what makes vectors, is away or has none yet, the
        results are those of the words, and say so.

        Raises `InvalidInputError`, `StoreClosedError`, and, of a workspace that was named, what reading it raises.
        Cost: one vector, a query of the vector store, and the index brought up to date.
        """
        filters = Filters() if filters is None else filters
        check_filters(filters)
        check_page(query, limit, offset)
        if mode not in get_args(Mode):
            raise InvalidInputError(field="mode", value=mode, reason="must be semantic or hybrid")
        if not query.strip():
            raise InvalidInputError(field="query", value=query, reason="must say what to find")
        if workspace_id is not None:
            validate_workspace_id(workspace_id)
        wanted = offset + limit + 1
        try:
            near = self._near(query, workspace_id, filters, wanted if mode == "semantic" else max(wanted, _LEAST))
        except TargetUnavailableError as error:
            return self._lexical(query, workspace_id, filters, limit, offset, str(error))
        if not near.hits:
            return self._lexical(
                query, workspace_id, filters, limit, offset, "there are no vectors of what is asked for"
            )
        if mode == "hybrid":
            near = self._fused(near, query, workspace_id, filters, max(wanted, _LEAST))
        page = near.hits[offset : offset + limit]
        embedder = self._vectors.embedder
        note = "" if embedder.is_semantic else f"{embedder.model} compares words, not meaning"
        return RankedResults(
            tuple(hit for hit, _ in page),
            tuple(score for _, score in page),
            mode,
            note,
            offset + limit if len(near.hits) > offset + limit else None,
            tuple(near.unreadable.items()),
        )

    def _near(self, query: str, workspace_id: str | None, filters: Filters, wanted: int) -> _Ranked:
        """The nearest that are there and that the filters let through: the vector store is asked for more until there
        are as many as wanted, or it has no more."""
        count = wanted
        while True:
            near = self._vectors.most_relevant([query], count, workspace_id=workspace_id, session_id=filters.session_id)
            ranked = self._shown(near, filters, named=workspace_id is not None)
            if len(ranked.hits) >= wanted or len(near) < count:
                return ranked
            count *= _MORE

    def _shown(self, near: Sequence[_Near], filters: Filters, *, named: bool) -> _Ranked:
        """What was found as hits, in its order, copies as one."""
        hits: dict[tuple[str, Entry], Hit] = {}
        unreadable: dict[str, str] = {}
        for workspace in dict.fromkeys(each.workspace_id for each in near):
            texts = {_entry(each): _cut(each.text) for each in near if each.workspace_id == workspace}
            try:
                found = self._searcher.hits_of(workspace, texts, filters)
            except (StorageError, OSError) as error:
                if named:
                    raise
                unreadable[workspace] = str(error)
                continue
            hits.update(((workspace, entry), hit) for entry, hit in found.items())
        ranked: dict[Hit, float] = {}
        for each in near:
            hit = hits.get((each.workspace_id, _entry(each)))
            if hit is not None:
                ranked.setdefault(hit, each.score)
        return _Ranked(list(ranked.items()), unreadable)

    def _lexical(
        self, query: str, workspace_id: str | None, filters: Filters, limit: int, offset: int, why: str
    ) -> RankedResults:
        found = self._searcher.find(query, workspace_id=workspace_id, limit=limit, offset=offset, **filters._asdict())
        scores = (0.0,) * len(found.hits)
        return RankedResults(found.hits, scores, "lexical", f"by words: {why}", found.next_offset, found.unreadable)

    def _fused(self, near: _Ranked, query: str, workspace_id: str | None, filters: Filters, count: int) -> _Ranked:
        words = self._searcher.find(query, workspace_id=workspace_id, limit=count, **filters._asdict())
        hits = {_name(hit): hit for hit, _ in near.hits}
        hits |= {_name(hit): hit for hit in words.hits}  # Which has its marks.
        scores = fused([[_name(hit) for hit, _ in near.hits], [_name(hit) for hit in words.hits]])
        return _Ranked([(hits[name], score) for name, score in scores], {**near.unreadable, **dict(words.unreadable)})


def fused(ranks: Sequence[Sequence[tuple[str, ...]]]) -> list[tuple[tuple[str, ...], float]]:
    """Several orders of things as one: by the sum of 1 / (60 + rank) over those that have it, ranks from 1."""
    scores: dict[tuple[str, ...], float] = {}
    for rank in ranks:
        for number, name in enumerate(rank, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (_FUSION + number)
    return sorted(scores.items(), key=lambda each: -each[1])


def _name(hit: Hit) -> tuple[str, ...]:
    return (hit.workspace_id, hit.session_id, hit.message_id or "")


def _entry(near: _Near) -> Entry:
    return Entry(near.id, None) if near.kind == "session" else Entry(near.session_id or "", near.id)


def _cut(text: str) -> str:
    text = text.replace("\x02", " ").replace("\x03", " ")
    return text if len(text) <= _SNIPPET else f"{text[:_SNIPPET].rsplit(None, 1)[0]}…"
