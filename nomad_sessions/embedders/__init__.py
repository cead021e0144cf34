"""Vectors of texts, so that what is near in meaning is found: one protocol, five ways, and a cache.

`choose_embedder(os.environ)` makes the one that the settings name, `CachedEmbedder` keeps what it has made.
"""

from __future__ import annotations

from nomad_sessions.embedders.cache import CachedEmbedder, VectorCache
from nomad_sessions.embedders.choosing import DRIVERS, choose_embedder
from nomad_sessions.embedders.embedder import BatchedEmbedder, Embedder, Vector, embed_each
from nomad_sessions.embedders.hashing import HashingEmbedder
from nomad_sessions.embedders.local import ChromaDefaultEmbedder, SentenceTransformersEmbedder
from nomad_sessions.embedders.servers import OllamaEmbedder, OpenAIEmbedder

__all__ = [
    "DRIVERS",
    "BatchedEmbedder",
    "CachedEmbedder",
    "ChromaDefaultEmbedder",
    "Embedder",
    "HashingEmbedder",
    "OllamaEmbedder",
    "OpenAIEmbedder",
    "SentenceTransformersEmbedder",
    "Vector",
    "VectorCache",
    "choose_embedder",
    "embed_each",
]
