"""Which collections an agent has in a Chroma, and the change from one model to another.

    <agent>_sessions-<model>, <agent>_session_messages-<model>    rows with vectors
    <agent>_bare                                                  rows without: no text in them, or gone

`<model>` is a digest of the model's name and dimension, both of which stand in the collection's metadata.

Invariant: a collection has vectors of one model only, and one that is not `complete` is not asked. Another model gets a
collection of its own, into which the records of the other are copied, embedded anew; when all are there it is marked
complete, and only then the other one goes. Whatever dies in between, the next to come goes on with it. Verified by
`tests/contract/test_chroma_models.py`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.sync.chroma_rows import Metadata
from nomad_sessions.sync.chroma_shelf import Shelf
from nomad_sessions.sync.target import Kind

if TYPE_CHECKING:
    import chromadb
    from chromadb.api import ClientAPI

__all__ = ["COLLECTIONS", "Model", "Shelves", "check_agent", "found_shelves", "open_shelves"]

_LOG = logging.getLogger("nomad_sessions")
COLLECTIONS: Mapping[Kind, str] = {"session": "sessions", "message": "session_messages"}
_BARE = "bare"
_MARK = "nomadSessions"
_AGENT = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PAGE = 100
_NEIGHBOURS = 200
"""How many Chroma's index looks at for a query (`ef_search`): of its default, 100, the tenth may be missing."""


class Model(NamedTuple):
    """What makes vectors."""

    name: str
    dimension: int

    def tag(self) -> str:
        """What a collection of it is called by."""
        whole = f"{self.name}\0{self.dimension}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(whole, digest_size=6).hexdigest()


class Shelves(NamedTuple):
    """The collections of an agent: those with vectors, by kind, and the one without."""

    of: Mapping[Kind, Shelf]
    bare: Shelf


Refill = Callable[[Kind, Iterator[Metadata], int, Shelves], None]
"""Puts the records of these first rows, so many, into shelves, embedded anew."""


def check_agent(agent: str) -> str:
    """`agent` itself. Raises `InvalidInputError` where no collection could be called so."""
    if not _AGENT.fullmatch(agent):
        reason = "must have 1 to 64 ASCII letters, digits, _ and -, the first a letter or a digit"
        raise InvalidInputError(field="agent", value=agent, reason=reason)
    return agent


def open_shelves(client: ClientAPI, agent: str, model: Model, refill: Refill) -> Shelves:
    """Those of this model, made where they are missing; where there are such of another, with their records."""
    most = client.get_max_batch_size()
    bare = client.get_or_create_collection(f"{agent}_{_BARE}", embedding_function=None)
    made: dict[Kind, chromadb.Collection] = {}
    others: dict[Kind, list[str]] = {}
    for kind in COLLECTIONS:
        there = _there(client, agent, kind)
        name = f"{agent}_{COLLECTIONS[kind]}-{model.tag()}"
        others[kind] = [each for each in there if each != name]
        complete = not any(there[each] for each in others[kind])
        made[kind] = client.get_or_create_collection(
            name,
            embedding_function=None,
            metadata=_marks(agent, kind, model, complete=complete),
            configuration={"hnsw": {"space": "cosine", "ef_search": _NEIGHBOURS}},
        )
    shelves = Shelves({kind: Shelf(each, most) for kind, each in made.items()}, Shelf(bare, most))
    for kind, each in made.items():
        if not (each.metadata or {}).get("complete"):
            _refilled(client, kind, others[kind], shelves, refill)
            each.modify(metadata=_marks(agent, kind, model, complete=True))
        for other in others[kind]:
            client.delete_collection(other)
    return shelves


def _refilled(client: ClientAPI, kind: Kind, others: list[str], shelves: Shelves, refill: Refill) -> None:
    for other in others:
        old = Shelf(client.get_collection(other, embedding_function=None), client.get_max_batch_size())
        _LOG.warning("%s: the vectors of another model are made anew", other)
        names = old.names({"chunk": 0})  # At once: somebody may still write to it, and pages would move.
        refill(kind, old.each(names), len(names), shelves)


def found_shelves(client: ClientAPI, agent: str, model: Model) -> tuple[Shelves | None, str]:
    """Those of this model, if there are any that are complete; nothing is made. Else why not."""
    there = {kind: _there(client, agent, kind) for kind in COLLECTIONS}
    names: dict[Kind, str] = {kind: f"{agent}_{COLLECTIONS[kind]}-{model.tag()}" for kind in COLLECTIONS}
    if not all(there[kind].get(name) for kind, name in names.items()):
        if any(there.values()):
            return None, f"its vectors are of another model than {model.name}: a push makes them anew"
        return None, "nothing was pushed to it yet (`sync push` does)"
    most = client.get_max_batch_size()
    found: dict[Kind, Shelf] = {
        kind: Shelf(client.get_collection(name, embedding_function=None), most) for kind, name in names.items()
    }
    return Shelves(found, Shelf(client.get_collection(f"{agent}_{_BARE}", embedding_function=None), most)), ""


def _marks(agent: str, kind: Kind, model: Model, *, complete: bool) -> dict[str, Any]:
    return {
        _MARK: 1,
        "agent": agent,
        "kind": kind,
        "model": model.name,
        "dimension": model.dimension,
        "complete": complete,
    }


def _there(client: ClientAPI, agent: str, kind: Kind) -> dict[str, bool]:
    """The collections with vectors of a kind that this agent has, and whether they are complete."""
    found: dict[str, bool] = {}
    offset = 0
    while page := client.list_collections(limit=_PAGE, offset=offset):
        for each in page:
            marks = each.metadata or {}
            if (marks.get(_MARK), marks.get("agent"), marks.get("kind")) == (1, agent, kind):
                found[each.name] = bool(marks.get("complete"))
        offset += len(page)
    return found
