"""What makes vectors of texts, and what is asked of every one: as many vectors as texts, of one length, finite.

Invariant: a vector that leaves an embedder of this package is of the length of all its others, and has no NaN or
infinity: what a server gives is looked at first. Verified by `tests/unit/test_http_embedders.py` and, of a class of
anybody's, `tests/contract/test_chroma_models.py`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from nomad_sessions.errors import EmbedderError, EmbeddingRefusedError

__all__ = [
    "PROBE",
    "BatchedEmbedder",
    "CheckedEmbedder",
    "Embedder",
    "Vector",
    "checked",
    "dimension_of",
    "embed_checked",
    "embed_each",
]

Vector = Sequence[float]
"""As long as the embedder's `dimension`; its direction is what counts."""
PROBE = "How long is a vector?"
_LARGEST = 3.4e38  # Of 32 bits.


class Embedder(Protocol):
    """Makes vectors of texts, so that texts of one meaning (or of the same words) lie in one direction."""

    @property
    def model(self) -> str:
        """What makes them, `driver/model`: vectors of two that are called differently are never compared."""
        ...

    @property
    def dimension(self) -> int | None:
        """How many numbers a vector has; None until the first was made, where nobody has said it."""
        ...

    @property
    def is_semantic(self) -> bool:
        """Whether texts are near each other by what they mean; False where only their words count."""
        ...

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """The vectors of these, in order.

        Raises `EmbeddingRefusedError` where one of them, whichever, will never be taken, and `EmbedderError` for all
        else that keeps it from an answer. Cost: the model's, or a request for each batch.
        """
        ...

    def close(self) -> None:
        """Gives connections back. May be called twice."""
        ...


class CheckedEmbedder:
    """Marks one that has looked at what it gives, so that nobody need look again: that costs as much as a tenth of
    writing it."""


class BatchedEmbedder(CheckedEmbedder, ABC):
    """What the embedders of this package share: texts in batches, and a look at what comes back."""

    is_semantic = True

    def __init__(self, model: str, *, dimension: int | None = None, batch: int = 64) -> None:
        self.model = model
        self.dimension = dimension
        self._batch = batch

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder`."""
        vectors: list[Vector] = []
        rest = iter(texts)
        while batch := list(islice(rest, self._batch)):
            made = checked(self.model, self._vectors(batch), len(batch), self.dimension)
            self.dimension = len(made[0])
            vectors += made
        return vectors

    def close(self) -> None:
        """Nothing to give back, unless a subclass says so."""
        return

    @abstractmethod
    def _vectors(self, texts: list[str]) -> list[Vector]:
        """The vectors of one batch, as the model gave them."""

    def _failed(self, reason: str) -> EmbedderError:
        return EmbedderError(model=self.model, reason=reason)


def checked(model: str, vectors: Sequence[Vector], count: int, dimension: int | None) -> list[Vector]:
    """`vectors`, if there is one for each of `count` texts, all of one length (`dimension`, where it is known), of
    numbers that 32 bits can hold. Raises `EmbedderError`. Cost: some microseconds each."""
    if len(vectors) != count:
        raise EmbedderError(model=model, reason=f"it gave {len(vectors)} vectors for {count} texts")
    for vector in vectors:
        if not len(vector) or not _is_finite(vector):
            reason = "it gave a vector that is empty, or that has something else than numbers in it"
            raise EmbedderError(model=model, reason=reason)
        dimension = len(vector) if dimension is None else dimension
        if len(vector) != dimension:
            reason = f"it gave a vector of {len(vector)} numbers, and others of {dimension}"
            raise EmbedderError(model=model, reason=reason)
    return list(vectors)


def _is_finite(vector: Vector) -> bool:
    try:  # NaN, wherever it is, is what the sum is; an infinity is beyond the largest.
        return not math.isnan(sum(vector)) and min(vector) >= -_LARGEST and max(vector) <= _LARGEST
    except (TypeError, OverflowError):  # No numbers; one of hundreds of digits.
        return False


def dimension_of(embedder: Embedder) -> int:
    """How long its vectors are. Where it does not know yet, it is asked for one. Raises what `embed` does."""
    known = embedder.dimension
    return len(embed_checked(embedder, [PROBE])[0]) if known is None else known


def embed_checked(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    """`embedder.embed(texts)`, looked at: it may be a class of anybody's. Raises what that does."""
    vectors = embedder.embed(texts)
    if isinstance(embedder, CheckedEmbedder):
        return vectors
    return checked(embedder.model, vectors, len(texts), embedder.dimension)


def embed_each(embedder: Embedder, texts: Sequence[str]) -> list[Vector | EmbeddingRefusedError]:
    """The vector of each text, or why there is none: one that is refused does not keep the others from theirs.

    Raises `EmbedderError`. Cost: that of `embed`; for each text that is refused as many calls more as the texts can be
    halved.
    """
    try:
        return list(embed_checked(embedder, texts))
    except EmbeddingRefusedError as error:
        if len(texts) == 1:
            return [error]
    half = len(texts) // 2
    return embed_each(embedder, texts[:half]) + embed_each(embedder, texts[half:])
