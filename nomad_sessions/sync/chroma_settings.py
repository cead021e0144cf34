"""The Chroma that the settings name, with the embedder that they name, and a cache in front of it.

Verified by `tests/unit/test_chroma_settings.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from nomad_sessions.embedders import CachedEmbedder, VectorCache, choose_embedder
from nomad_sessions.sync.chroma import ChromaTarget

__all__ = ["CACHE", "FOLDER", "chroma_target"]

# No workspace's name begins with a dot.
FOLDER = ".chroma"
"""The folder in the data folder where Chroma's files are, where no server is named."""
CACHE = ".vectors.sqlite"
"""The file in the data folder with the vectors that were made once."""


def chroma_target(
    settings: Mapping[str, str],
    data_dir: str,
    *,
    name: str = "chroma",
    progress: Callable[[int, int], None] | None = None,
) -> ChromaTarget:
    """The target that these settings (an environment, say) ask for: `CHROMA_URL` is a server, `CHROMA_PATH` a folder,
    without either one in the data folder; `AGENT_NAME` is what its collections are called after; further what
    `choose_embedder` takes. `progress` is the target's.

    Raises `InvalidInputError` for what is no such setting, and where a package is missing. Asks nobody yet.
    """
    embedder = CachedEmbedder(choose_embedder(settings), VectorCache(f"{data_dir}/{CACHE}"))
    agent = settings.get("AGENT_NAME") or "duck"
    url = settings.get("CHROMA_URL")
    if url:
        return ChromaTarget(embedder, url=url, agent=agent, name=name, progress=progress)
    chosen = settings.get("CHROMA_PATH")
    path = os.path.expanduser(chosen) if chosen else f"{data_dir}/{FOLDER}"
    return ChromaTarget(embedder, path=path, agent=agent, name=name, progress=progress)
