"""The sync targets that the contract is asked of, each made for a test and given back."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

from nomad_sessions.embedders import HashingEmbedder
from nomad_sessions.sync import MemoryTarget, MongoTarget, SyncTarget
from nomad_sessions.sync.chroma import ChromaTarget
from tests.support.chroma import chroma_server
from tests.support.mongod import running_mongod

__all__ = ["TARGETS", "made_target"]

TARGETS = ("memory", "mongo", "chroma", "chroma-http")


@contextlib.contextmanager
def made_target(name: str) -> Iterator[SyncTarget]:
    """A target of this name, empty."""
    with contextlib.ExitStack() as stack:
        if name == "memory":
            yield MemoryTarget(name)
            return
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        embedder = HashingEmbedder(16)
        if name == "mongo":
            target: MongoTarget | ChromaTarget = MongoTarget(stack.enter_context(running_mongod()).uri)
        elif name == "chroma":
            target = ChromaTarget(embedder, path=folder)
        else:
            target = ChromaTarget(embedder, url=stack.enter_context(chroma_server(folder)).url, name=name)
        stack.callback(target.close)
        yield target
