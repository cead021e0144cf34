"""From ids of messages and sessions to what a search shows of them, as far as the filters let it through.

Verified by `tests/unit/test_semantic_search.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from nomad_sessions.search.finding import OWNERS, Filters
from nomad_sessions.search.index import Index

__all__ = ["Entry", "located"]

_AT_ONCE = 400


class Entry(NamedTuple):
    """A message, or, without a `message_id`, a session itself."""

    session_id: str
    message_id: str | None


def located(index: Index, entries: Collection[Entry], filters: Filters) -> dict[Entry, int]:
    """The docs of those that are there, and that the filters let through. What a revert hides is not there."""
    terms, values = filters.terms()
    terms = [*terms, "1"]
    found: dict[Entry, int] = {}
    ids = [[each.message_id for each in entries if each.message_id is not None]]
    ids.append([each.session_id for each in entries if each.message_id is None])
    for column, names in zip(("e.id", "e.id IS NULL AND s.id"), ids, strict=True):
        for begin in range(0, len(names), _AT_ONCE):
            some = names[begin : begin + _AT_ONCE]
            query = (
                f"SELECT s.id, e.id, e.doc FROM {OWNERS} "
                f"WHERE {column} IN ({', '.join('?' * len(some))}) AND {' AND '.join(terms)}"
            )
            rows = index.connection.execute(query, (*some, *values))
            found.update((Entry(session, message), doc) for session, message, doc in rows)
    return found
