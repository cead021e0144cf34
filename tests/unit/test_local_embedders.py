"""Embedders whose model runs in this process, as far as that goes without downloading one."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from nomad_sessions.embedders import ChromaDefaultEmbedder, SentenceTransformersEmbedder
from nomad_sessions.errors import EmbedderError

# The package's interface, without its 2 GB: the class, its constructor, `encode` with the options that are used.
SIMULATED = """
import numpy

class SentenceTransformer:
    def __init__(self, name):
        if name == "missing":
            raise OSError("missing is not a local folder and is not a valid model identifier")

    def encode(self, sentences, *, show_progress_bar=None, convert_to_numpy=True):
        assert show_progress_bar is False and convert_to_numpy is True
        return numpy.asarray([[len(each), 1.0] for each in sentences], dtype=numpy.float32)
"""


def test_chroma_s_default_says_that_it_downloads_and_fails_by_name_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

    monkeypatch.setattr(ONNXMiniLM_L6_V2, "DOWNLOAD_PATH", tmp_path / "model")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # Nobody listens there: no byte is downloaded.
    embedder = ChromaDefaultEmbedder()
    assert (embedder.dimension, embedder.is_semantic) == (384, True)
    with caplog.at_level(logging.INFO), pytest.raises(EmbedderError, match="could not be downloaded"):
        embedder.embed(["a"])
    assert "downloads about 80 MB" in caplog.text


def test_sentence_transformers_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sentence_transformers.py").write_text(SIMULATED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sentence_transformers", raising=False)
    embedder = SentenceTransformersEmbedder("some-model")
    assert embedder.dimension is None
    assert embedder.embed(["abc", ""]) == [[3.0, 1.0], [0.0, 1.0]]
    assert (embedder.model, embedder.dimension) == ("sentence-transformers/some-model", 2)
    with pytest.raises(EmbedderError, match="could not be loaded: missing"):
        SentenceTransformersEmbedder("missing").embed(["a"])
    monkeypatch.delitem(sys.modules, "sentence_transformers")
