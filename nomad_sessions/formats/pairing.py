"""Calls of tools and their results, which come in any order, late or never.

A result is that of the next call of its id that has none: some providers give an id twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Waiting"]

T = TypeVar("T")


class Waiting(Generic[T]):
    """The calls that have no result yet. Both methods cost the same however many there are."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[T]] = {}

    def add(self, identifier: str, call: T) -> None:
        """One more."""
        self._calls.setdefault(identifier, deque()).append(call)

    def take(self, identifier: str) -> T | None:
        """The call that a result with this id belongs to, which is not waiting any more; None where there is none."""
        calls = self._calls.get(identifier)
        if calls is None:
            return None
        call = calls.popleft()
        if not calls:
            del self._calls[identifier]
        return call

    def __iter__(self) -> Iterator[T]:
        for calls in self._calls.values():
            yield from calls
