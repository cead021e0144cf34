"""The sync targets that the contract is asked of, each made for a test and given back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nomad_sessions.sync import MemoryTarget, SyncTarget

__all__ = ["TARGETS", "made_target"]

TARGETS = ("memory",)


@contextlib.contextmanager
def made_target(name: str) -> Iterator[SyncTarget]:
    """A target of this name, empty."""
    yield MemoryTarget(name)
