"""How a test decides what the model leaves open: which of the possible outcomes happens.

A `Draw` picks one of a sequence. Every sequence is ordered from harmless to harmful, so that Hypothesis, whose
`sampled_from` shrinks towards the first, ends at the least damage that still fails.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Draw(Protocol):
    """Picks one of the choices. With Hypothesis: `lambda choices: data.draw(st.sampled_from(choices))`."""

    def __call__(self, choices: Sequence[T], /) -> T: ...


def mildest(choices: Sequence[T], /) -> T:
    """Always the least harmful outcome: the power fails and yet everything reached the disk."""
    return choices[0]


def at_random(seed: int) -> Draw:
    """A draw that repeats itself for the same seed."""
    return random.Random(seed).choice


class _Path:
    """A draw that follows given indices, then takes the first choice, and remembers how many there were."""

    def __init__(self, indices: list[int], thin: int) -> None:
        self._indices = indices
        self._thin = thin
        self.taken: list[tuple[int, int]] = []

    def __call__(self, choices: Sequence[T], /) -> T:
        count = min(len(choices), self._thin)
        step = len(self.taken)
        index = self._indices[step] if step < len(self._indices) else 0
        self.taken.append((index, count))
        return choices[index if count == len(choices) else index * (len(choices) - 1) // (count - 1)]

    def following(self) -> list[int] | None:
        """The indices of the next combination; None after the last."""
        left = list(self.taken)
        while left and left[-1][0] + 1 == left[-1][1]:
            left.pop()
        return [index for index, _ in left[:-1]] + [left[-1][0] + 1] if left else None


def every(run: Callable[[Draw], T], *, thin: int = 5) -> Iterator[T]:
    """The results of `run` for every combination of outcomes; of more than `thin` choices, that many evenly spread."""
    indices: list[int] | None = []
    while indices is not None:
        path = _Path(indices, thin)
        yield run(path)
        indices = path.following()
