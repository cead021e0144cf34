"""Which embedder: by the two words that the original has in its environment, `EMBEDDING_DRIVER` and
`EMBEDDING_FUNCTION`.

Verified by `tests/unit/test_choosing_embedders.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from nomad_sessions.embedders.embedder import Embedder
from nomad_sessions.embedders.hashing import HashingEmbedder
from nomad_sessions.embedders.local import ChromaDefaultEmbedder, SentenceTransformersEmbedder
from nomad_sessions.embedders.servers import OllamaEmbedder, OpenAIEmbedder
from nomad_sessions.errors import InvalidInputError

__all__ = ["DRIVERS", "choose_embedder"]

_MODELS = {
    "ollama": "nomic-embed-text",
    "openai": "text-embedding-3-small",
    "chroma": "",
    "sentence-transformers": "all-MiniLM-L6-v2",
    "hashing": "384",
}
DRIVERS = tuple(_MODELS)
"""What `EMBEDDING_DRIVER` may be; the first is the default."""


def choose_embedder(settings: Mapping[str, str]) -> Embedder:
    """The embedder that these settings (an environment, say) ask for. Asks nobody yet.

    `EMBEDDING_DRIVER` is one of `DRIVERS`, `EMBEDDING_FUNCTION` its model (for `hashing` the dimension; `chroma` has
    but one); without, the driver's default, which for `ollama`, as in the original, is `nomic-embed-text`. Further
    `OLLAMA_HOST`; `OPENAI_BASE_URL` and `OPENAI_API_KEY`. What is empty counts as not set.

    Raises `InvalidInputError` for a driver or a dimension that is none, an address that is none, and where a package
    that it needs is missing.
    """
    driver = settings.get("EMBEDDING_DRIVER") or DRIVERS[0]
    model = settings.get("EMBEDDING_FUNCTION") or _MODELS.get(driver, "")
    if driver == "ollama":
        return OllamaEmbedder(model, url=settings.get("OLLAMA_HOST"))
    if driver == "openai":
        url, key = (settings.get(name) or None for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"))
        return OpenAIEmbedder(model, url=url, key=key)
    if driver == "chroma":
        return ChromaDefaultEmbedder()
    if driver == "sentence-transformers":
        return SentenceTransformersEmbedder(model)
    if driver == "hashing":
        return HashingEmbedder(_dimension(model))
    raise InvalidInputError(field="EMBEDDING_DRIVER", value=driver, reason=f"must be one of {', '.join(DRIVERS)}")


def _dimension(text: str) -> int:
    if not text.isdecimal():
        raise InvalidInputError(
            field="EMBEDDING_FUNCTION", value=text, reason="is the dimension, for hashing: a number"
        )
    return int(text)
