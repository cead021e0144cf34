"""Vectors of words, without a model: what needs nothing, finds the same words again, and knows no meaning.

Feature hashing with signs (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009): each word
adds to one place of the vector, which its CRC-32 names, and so does, for half, the beginning of a longer word, so that
`test` and `testing` are not strangers. The same text gives the same vector in every process and on every machine.
Verified by `tests/unit/test_hashing_embedder.py`.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from nomad_sessions.embedders.embedder import BatchedEmbedder, Vector
from nomad_sessions.errors import InvalidInputError

__all__ = ["HashingEmbedder"]

_WORD = re.compile(r"\w+")
_STEM = 5
_LEAST, _MOST = 8, 4096


class HashingEmbedder(BatchedEmbedder):
    """Needs no model, no network, and is not semantic: texts are near each other when they have words in common."""

    is_semantic = False

    def __init__(self, dimension: int = 384) -> None:
        """Raises `InvalidInputError` for a dimension that is none (8 to 4,096)."""
        if not _LEAST <= dimension <= _MOST:
            reason = f"must be a whole number, {_LEAST} to {_MOST}"
            raise InvalidInputError(field="dimension", value=dimension, reason=reason)
        super().__init__(f"hashing/{dimension}", dimension=dimension, batch=1024)
        self._size = dimension

    def _vectors(self, texts: list[str]) -> list[Vector]:
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        vector = [0.0] * self._size
        for word, count in Counter(_WORD.findall(_folded(text))).items():
            weight = math.sqrt(count)
            for digest, part in _features(word):
                vector[digest % self._size] += part * weight
        length = math.sqrt(sum(each * each for each in vector))
        if not length:  # No word in it; the direction of nothing else.
            vector[0] = length = 1.0
        return [each / length for each in vector]


@lru_cache(maxsize=50_000)
def _features(word: str) -> Sequence[tuple[int, float]]:
    """Where a word adds, and how much; half of the digests count as negative, so that chance meetings cancel."""
    pieces = [(word, 1.0)]
    if len(word) > _STEM:
        pieces.append((f"{word[:_STEM]}*", 0.5))
    digests = ((zlib.crc32(piece.encode("utf-8", "surrogatepass")), weight) for piece, weight in pieces)
    return tuple((digest >> 1, -weight if digest & 1 else weight) for digest, weight in digests)


def _folded(text: str) -> str:
    """Without case and accents."""
    text = text.casefold()
    if text.isascii():
        return text
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
