"""Ranks of several indexes, made comparable. Pure, but for the counting.

FTS5 ranks by bm25: a word counts the more the rarer it is, in that index alone. So the same message would count for
little in a workspace that is all about the word, and for much where it is the only one. The ranks of an index are
scaled by how rare the words are in all of them, beside how rare they are there: for a single word this is what one
index of everything would give, but for the average length of a text; of several words it is the mean. Scaling leaves
the order within a workspace as it is, so that pages add up. Verified by `tests/unit/test_search_ranks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import NamedTuple

from nomad_sessions.search.index import Index

__all__ = ["Commonness", "commonness", "scales"]

_LEAST = 1e-6  # As in FTS5: a word that most texts have still counts for something.


class Commonness(NamedTuple):
    """How many texts an index has, and how many of them have each of the words."""

    texts: int
    having: tuple[int, ...]


def commonness(index: Index, phrases: Sequence[str]) -> Commonness:
    """Of these phrases, each an FTS5 expression. Cost: a count for each."""
    execute = index.connection.execute
    texts = execute("SELECT count(*) FROM words_docsize").fetchone()[0]
    query = "SELECT count(*) FROM words WHERE words MATCH ?"
    return Commonness(texts, tuple(execute(query, (each,)).fetchone()[0] for each in phrases))


def scales(found: Sequence[Commonness]) -> list[float]:
    """What the ranks of each index are to be multiplied with."""
    texts = sum(each.texts for each in found)
    having = [sum(counts) for counts in zip(*(each.having for each in found), strict=True)]
    return [_scale(each, texts, having) for each in found]


def _scale(there: Commonness, texts: int, having: Sequence[int]) -> float:
    pairs = [(count, whole) for count, whole in zip(there.having, having, strict=True) if count]
    if not pairs:
        return 1.0
    return sum(_weight(texts, whole) for _, whole in pairs) / sum(_weight(there.texts, count) for count, _ in pairs)


def _weight(texts: int, having: int) -> float:
    return max(_LEAST, log((texts - having + 0.5) / (having + 0.5)))
