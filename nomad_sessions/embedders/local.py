"""Embedders whose model runs in this process: Chroma's own, and those of sentence-transformers.

Verified by `tests/unit/test_local_embedders.py`.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from nomad_sessions.embedders.embedder import BatchedEmbedder, Vector
from nomad_sessions.errors import EmbedderError, InvalidInputError

__all__ = ["ChromaDefaultEmbedder", "SentenceTransformersEmbedder"]

_LOG = logging.getLogger("nomad_sessions")


class ChromaDefaultEmbedder(BatchedEmbedder):
    """Chroma's default, all-MiniLM-L6-v2 in ONNX, 384 numbers. The first use downloads it (about 80 MB, from
    Chroma's servers, into `~/.cache/chroma`), and says so in the log; later ones need no network."""

    def __init__(self) -> None:
        """Raises `InvalidInputError` where chromadb is missing. Downloads nothing yet."""
        _need("chromadb", "chroma", "nomad-sessions[chroma]")
        super().__init__("chroma/all-MiniLM-L6-v2", dimension=384)
        self._function: Any = None

    def _vectors(self, texts: list[str]) -> list[Vector]:
        import httpx
        from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

        if self._function is None:
            _LOG.info("%s: the first use downloads about 80 MB into ~/.cache/chroma", self.model)
            self._function = ONNXMiniLM_L6_V2()
        try:
            return [each.tolist() for each in self._function(texts)]
        except (httpx.HTTPError, OSError) as error:
            raise self._failed(f"its model could not be downloaded: {error}") from error


class SentenceTransformersEmbedder(BatchedEmbedder):
    """A model of the sentence-transformers package, by its name on Hugging Face or its folder; the former is
    downloaded by the first use."""

    def __init__(self, model: str) -> None:
        """Raises `InvalidInputError` where the package is missing. Loads nothing yet."""
        _need("sentence_transformers", "sentence-transformers", "sentence-transformers")
        super().__init__(f"sentence-transformers/{model}")
        self._name = model
        self._loaded: Any = None

    def _vectors(self, texts: list[str]) -> list[Vector]:
        if self._loaded is None:
            self._loaded = self._load()
        found: list[Vector] = self._loaded.encode(texts, show_progress_bar=False, convert_to_numpy=True).tolist()
        return found

    def _load(self) -> Any:
        module: Any = importlib.import_module("sentence_transformers")
        try:
            return module.SentenceTransformer(self._name)
        except (OSError, ValueError) as error:
            raise EmbedderError(model=self.model, reason=f"the model could not be loaded: {error}") from error


def _need(module: str, driver: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise InvalidInputError(field="embedder", value=driver, reason=f"needs {module}: pip install '{package}'")
