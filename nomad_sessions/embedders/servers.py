"""Embedders behind HTTP: Ollama, and whatever speaks OpenAI's.

Shapes: Ollama's `POST /api/embed` (its docs/api.md), OpenAI's `POST /embeddings` (its API reference, "Create
embeddings"). Verified by `tests/unit/test_http_embedders.py`, against a server that answers in those.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nomad_sessions.embedders.embedder import BatchedEmbedder, Vector
from nomad_sessions.embedders.endpoint import Endpoint, checked_url

__all__ = ["OllamaEmbedder", "OpenAIEmbedder", "ollama_url"]

_OLLAMA = "127.0.0.1:11434"
_EVERYWHERE = re.compile(r"//(?:0\.0\.0\.0|\[::\])(?=[:/]|$)")
_OPENAI = "https://api.openai.com/v1"


class _ServedEmbedder(BatchedEmbedder):
    """One that asks an endpoint."""

    def __init__(self, model: str, endpoint: Endpoint, *, batch: int) -> None:
        super().__init__(model, batch=batch)
        self._endpoint = endpoint

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See `Embedder`. Halves of surrogate pairs, which no request can have, are sent as `?`."""
        return super().embed([text.encode("utf-8", "replace").decode("utf-8") for text in texts])

    @property
    def url(self) -> str:
        """Where it asks."""
        return self._endpoint.url

    def close(self) -> None:
        """See `Embedder`."""
        self._endpoint.close()


class OllamaEmbedder(_ServedEmbedder):
    """A model of Ollama's on this or another computer; texts stay there. `ollama pull nomic-embed-text` fetches it."""

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        batch: int = 32,
        timeout: float = 120.0,
        patience: float = 10.0,
    ) -> None:
        """`url` is as `OLLAMA_HOST` has it: an address, a host, or host:port; None: Ollama's own on this computer.

        Raises `InvalidInputError` for another, and where httpx is missing. Asks nobody yet.
        """
        name = f"ollama/{model}"
        endpoint = Endpoint(name, ollama_url(url), timeout=timeout, patience=patience)
        super().__init__(name, endpoint, batch=batch)
        self._name = model

    def _vectors(self, texts: list[str]) -> list[Vector]:
        answer = self._endpoint.post("/api/embed", {"model": self._name, "input": texts})
        match answer:
            case {"embeddings": list(vectors)} if all(isinstance(each, list) for each in vectors):
                return vectors
        raise self._failed("its answer has no list of embeddings")


def ollama_url(host: str | None) -> str:
    """The address that a value of `OLLAMA_HOST` means to a client: without a port 11434, where none was named with a
    scheme the scheme's; 0.0.0.0 and [::], where a server listens, are this computer. Raises `InvalidInputError`."""
    given = (host or "").strip() or _OLLAMA
    if "://" not in given:
        if given.count(":") > 1 and "[" not in given:
            given = f"[{given}]"
        name, colon, port = given.rpartition(":")
        host, port = (name, port) if colon and port.isdigit() else (given.rstrip(":"), "11434")
        given = f"http://{host or '127.0.0.1'}:{port}"
    return checked_url("OLLAMA_HOST", _EVERYWHERE.sub("//127.0.0.1", given, count=1))


class OpenAIEmbedder(_ServedEmbedder):
    """OpenAI's models, or any server that speaks their API (LM Studio, vLLM, llama.cpp): `url` says which. Texts leave
    this computer unless that is one of yours."""

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        key: str | None = None,
        batch: int = 128,
        timeout: float = 60.0,
        patience: float = 30.0,
    ) -> None:
        """`url` is what comes before `/embeddings`, None for OpenAI's own; `key` is never shown.

        Raises `InvalidInputError` for an address that is none, and where httpx is missing. Asks nobody yet.
        """
        name = f"openai/{model}"
        address = checked_url("OPENAI_BASE_URL", url or _OPENAI)
        endpoint = Endpoint(name, address, key=key, timeout=timeout, patience=patience)
        super().__init__(name, endpoint, batch=batch)
        self._name = model

    def _vectors(self, texts: list[str]) -> list[Vector]:
        answer = self._endpoint.post("/embeddings", {"model": self._name, "input": texts, "encoding_format": "float"})
        rows: Any = answer.get("data") if isinstance(answer, dict) else None
        found: dict[int, Vector] = {}
        for row in rows if isinstance(rows, list) else ():
            match row:  # In the order of the texts, says the reference; `index` is what says so in the answer.
                case {"index": int(index), "embedding": list(vector)}:
                    found[index] = vector
        if sorted(found) != list(range(len(texts))):
            raise self._failed(f"its answer has no vector for each of {len(texts)} texts")
        return [found[index] for index in range(len(texts))]
