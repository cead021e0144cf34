"""What is near to some vectors: the rows that Chroma finds, as records, each once, the best row of it.

Invariant: what is given is what comparing with every row would give, as far as Chroma's index finds it: rows that are
left over of an older state are not counted, and are no reason to give less. Verified by
`tests/contract/test_chroma_search.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from nomad_sessions.embedders import Vector
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.sync.chroma_rows import bare_id, key_of, quoted, row_id, unquoted
from nomad_sessions.sync.chroma_shelf import Near, Shelf
from nomad_sessions.sync.chroma_shelves import COLLECTIONS, Shelves
from nomad_sessions.sync.target import Kind

__all__ = ["Relevant", "Where", "check_question", "condition", "nearest"]

Where = Mapping[str, Any]
"""A filter of Chroma's, over the names that `chroma_rows.py` says: `{"role": "user"}`, `{"createdAt": {"$gte": 1}}`;
with several names all of them must hold."""
_FIRST = 2
_MORE = 4


class Relevant(NamedTuple):
    """A record that is near to what was asked: `score` is the cosine, at most 1, the nearer the higher; `text` is the
    piece of it that is nearest."""

    workspace_id: str
    kind: Kind
    id: str
    session_id: str | None
    score: float
    text: str
    rev: int

    @property
    def message_id(self) -> str | None:
        """Which message it is, None for a session: as `DualStoreManager` asks."""
        return self.id if self.kind == "message" else None


def check_question(queries: object, limit: object, kinds: Collection[str]) -> None:
    """Raises `InvalidInputError` for what none could be."""
    texts = queries if isinstance(queries, Sequence) and not isinstance(queries, str) else [None]
    if not all(isinstance(each, str) and each.strip() for each in texts):
        raise InvalidInputError(field="queries", value=queries, reason="must be a list of texts, none of them empty")
    if not isinstance(limit, int) or limit < 1:
        raise InvalidInputError(field="limit", value=limit, reason="must be a whole number, at least 1")
    for each in kinds:
        if each not in COLLECTIONS:
            raise InvalidInputError(field="kinds", value=each, reason=f"must be of {', '.join(COLLECTIONS)}")


def condition(where: Where | None, workspace_id: str | None, session_id: str | None) -> dict[str, Any] | None:
    """These as one filter; None for none: without, Chroma need not look at what each row is. Raises `InvalidInputError`
    for one that Chroma does not take."""
    from chromadb.api.types import validate_where

    terms: list[dict[str, Any]] = []
    if workspace_id is not None:
        terms.append({"workspaceId": workspace_id})
    if session_id is not None:
        terms.append({"sessionId": quoted(session_id)})
    for name, value in (where or {}).items():
        try:
            validate_where({name: value})
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(field="where", value=name, reason=f"is no filter of Chroma's: {error}") from error
        terms.append({name: value})
    return {"$and": terms} if len(terms) > 1 else next(iter(terms), None)


def nearest(
    shelves: Shelves, kinds: Collection[Kind], vectors: Sequence[Vector], limit: int, where: dict[str, Any] | None
) -> list[Relevant]:
    """The records nearest to any of the vectors, nearest first, at most `limit`."""
    found: dict[tuple[str, Kind, str], Relevant] = {}
    for kind in kinds:
        for vector in vectors:
            for each in _of_one(shelves, kind, vector, limit, where):
                place = (each.workspace_id, kind, each.id)
                if place not in found or found[place].score < each.score:
                    found[place] = each
    return sorted(found.values(), key=lambda each: (-each.score, each.workspace_id, each.kind, each.id))[:limit]


def _of_one(shelves: Shelves, kind: Kind, vector: Vector, limit: int, where: dict[str, Any] | None) -> list[Relevant]:
    """The records nearest to one vector. Several rows may be of one record: more are asked for until there are enough
    records, or no more rows."""
    count = limit * _FIRST
    while True:
        rows = shelves.of[kind].near(vector, count, where)
        best: dict[tuple[str, str], Near] = {}
        for row in _valid(shelves.of[kind], shelves.bare, kind, rows):
            best.setdefault((row.metadata["workspaceId"], row.metadata["recordId"]), row)
        if len(best) >= limit or len(rows) < count:
            return [_relevant(kind, row) for row in best.values()]
        count *= _MORE


def _valid(shelf: Shelf, bare: Shelf, kind: Kind, rows: Iterable[Near]) -> list[Near]:
    """Those that are of the state of their record that counts."""
    found = list(rows)
    names = [(row.metadata["workspaceId"], key_of(kind, row.metadata)) for row in found]
    firsts = shelf.get(row_id(workspace, key.id) for workspace, key in names)
    others = bare.get(bare_id(workspace, key) for workspace, key in names)
    valid = []
    for row, (workspace, key) in zip(found, names, strict=True):
        rev = row.metadata["rev"]
        first, other = firsts.get(row_id(workspace, key.id)), others.get(bare_id(workspace, key))
        if first is not None and first["rev"] == rev and (other is None or other["rev"] < rev):
            valid.append(row)
    return valid


def _relevant(kind: Kind, row: Near) -> Relevant:
    of = row.metadata
    session = of.get("sessionId")
    owner = None if session is None else unquoted(session)
    return Relevant(of["workspaceId"], kind, unquoted(of["recordId"]), owner, row.score, row.text, of["rev"])
