"""Finding sessions and messages by what they say, in milliseconds, through an index that is made from the store.

with Searcher(manager) as searcher:
    for hit in searcher.find('slugify "trailing dashes"', role="assistant").hits:
        print(hit.title, hit.snippet)
"""

from __future__ import annotations

from nomad_sessions.search.finding import Filters
from nomad_sessions.search.hits import Hit, Results
from nomad_sessions.search.searcher import Searcher
from nomad_sessions.search.semantic import RankedResults, SemanticSearcher, VectorStore

__all__ = ["Filters", "Hit", "RankedResults", "Results", "Searcher", "SemanticSearcher", "VectorStore"]
