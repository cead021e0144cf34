"""Changes and targets that the tests on real Chroma share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb
from chromadb.config import Settings

from nomad_sessions.embedders import BatchedEmbedder, Embedder, Vector
from nomad_sessions.errors import EmbeddingRefusedError
from nomad_sessions.sync import Change, Key, Stored
from nomad_sessions.sync.chroma import ChromaTarget

__all__ = ["Known", "collections", "contents", "message", "opened", "session"]


class Known(BatchedEmbedder):
    """Vectors that a test knows: counts of the letters a to h. Refuses texts with REFUSED, notes all others."""

    def __init__(self, model: str = "known/1", extra: int = 0) -> None:
        super().__init__(model, dimension=8 + extra, batch=1000)
        self.asked: list[str] = []
        self.extra = extra

    def _vectors(self, texts: list[str]) -> list[Vector]:
        if any("REFUSED" in text for text in texts):
            raise EmbeddingRefusedError(model=self.model, reason="as asked")
        self.asked += texts
        return [[*(text.lower().count(each) + 0.01 for each in "abcdefgh"), *[0.0] * self.extra] for text in texts]


@contextlib.contextmanager
def opened(folder: Path, embedder: Embedder, **options: Any) -> Iterator[ChromaTarget]:
    """A target on this folder, closed at the end."""
    with contextlib.closing(ChromaTarget(embedder, path=folder, **options)) as target:
        yield target


@contextlib.contextmanager
def collections(folder: Path) -> Iterator[dict[str, chromadb.Collection]]:
    """What Chroma itself has there, by name."""
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    yield {each.name: each for each in client.list_collections()}
    client.close()  # type: ignore[attr-defined]


def message(name: str, rev: int, content: str = "", owner: str = "s", ws: str = "ws", **fields: Any) -> Change:
    body = {"id": name, "sessionId": owner, "role": "user", "content": content, "createdAt": rev, "rev": rev, **fields}
    return Change(ws, Key("message", name), rev, body, owner)


def session(name: str, rev: int, title: str = "", ws: str = "ws") -> Change:
    body = {"id": name, "workspaceId": ws, "title": title, "createdAt": 1, "messageIds": [], "rev": rev}
    return Change(ws, Key("session", name), rev, body, name)


def contents(target: ChromaTarget, ws: str = "ws") -> dict[str, tuple[int, Any]]:
    """What it has of messages and sessions, by id."""
    found: dict[str, tuple[int, Any]] = {}
    for kind in ("session", "message"):
        stored: list[Stored] = []
        while page := target.scan(ws, kind, after=stored[-1].id if stored else ""):
            stored += page
        changes = target.fetch(ws, kind, [each.id for each in stored])
        found.update((each.id, (each.rev, changes[each.id].body)) for each in stored)
    return found
