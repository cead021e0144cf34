"""Which embedder the settings name."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from nomad_sessions.embedders import DRIVERS, HashingEmbedder, OllamaEmbedder, OpenAIEmbedder, choose_embedder
from nomad_sessions.errors import InvalidInputError


def test_without_settings_it_is_the_one_of_the_original() -> None:
    for settings in ({}, {"EMBEDDING_DRIVER": "", "EMBEDDING_FUNCTION": "", "OLLAMA_HOST": ""}):
        made = choose_embedder(settings)
        assert isinstance(made, OllamaEmbedder)
        assert (made.model, made.url) == ("ollama/nomic-embed-text", "http://127.0.0.1:11434")


def test_the_settings_choose_driver_model_and_address() -> None:
    made = choose_embedder({"EMBEDDING_FUNCTION": "mxbai-embed-large", "OLLAMA_HOST": "box:99"})
    assert isinstance(made, OllamaEmbedder)
    assert (made.model, made.url) == ("ollama/mxbai-embed-large", "http://box:99")
    settings = {"EMBEDDING_DRIVER": "openai", "OPENAI_BASE_URL": "http://box/v1/", "OPENAI_API_KEY": "secret"}
    made = choose_embedder(settings)
    assert isinstance(made, OpenAIEmbedder)
    assert (made.model, made.url) == ("openai/text-embedding-3-small", "http://box/v1")
    assert "secret" not in repr(made)
    made = choose_embedder({"EMBEDDING_DRIVER": "hashing", "EMBEDDING_FUNCTION": "64"})
    assert isinstance(made, HashingEmbedder)
    assert made.dimension == 64
    assert choose_embedder({"EMBEDDING_DRIVER": "hashing"}).model == "hashing/384"
    assert choose_embedder({"EMBEDDING_DRIVER": "chroma"}).model == "chroma/all-MiniLM-L6-v2"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"EMBEDDING_DRIVER": "magic"}, "EMBEDDING_DRIVER.*" + ", ".join(DRIVERS)),
        ({"EMBEDDING_DRIVER": "hashing", "EMBEDDING_FUNCTION": "nomic-embed-text"}, "EMBEDDING_FUNCTION"),
        ({"OLLAMA_HOST": "ftp://box"}, "OLLAMA_HOST"),
    ],
)
def test_what_is_no_setting_is_named(settings: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        choose_embedder(settings)


@pytest.mark.parametrize(
    ("driver", "module", "extra"),
    [
        ("ollama", "httpx", "nomad-sessions[chroma]"),
        ("openai", "httpx", "nomad-sessions[chroma]"),
        ("chroma", "chromadb", "nomad-sessions[chroma]"),
        ("sentence-transformers", "sentence_transformers", "sentence-transformers"),
    ],
)
def test_without_its_package_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, driver: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # As Python marks what cannot be imported.
    assert importlib.util.find_spec(module) is None
    with pytest.raises(InvalidInputError) as raised:
        choose_embedder({"EMBEDDING_DRIVER": driver})
    assert f"pip install '{extra}'" in str(raised.value)
