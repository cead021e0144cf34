"""The sync targets that the contract is asked of, each made for a test and given back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nomad_sessions.sync import MemoryTarget, MongoTarget, SyncTarget

__all__ = ["TARGETS", "made_target"]

TARGETS = ("memory", "mongo")


@contextlib.contextmanager
def made_target(name: str) -> Iterator[SyncTarget]:
    """A target of this name, empty."""
    if name == "mongo":
        yield from _mongo()
    else:
        yield MemoryTarget(name)


def _mongo() -> Iterator[SyncTarget]:
    from tests.support.mongod import running_mongod

    with running_mongod() as mongod, contextlib.closing(MongoTarget(mongod.uri)) as target:
        yield target
