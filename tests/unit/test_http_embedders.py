"""Ollama and OpenAI-compatible endpoints, asked through a server of our own that answers in their shapes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from nomad_sessions.embedders import Embedder, OllamaEmbedder, OpenAIEmbedder, embed_each
from nomad_sessions.embedders.servers import ollama_url
from nomad_sessions.errors import EmbedderError, EmbeddingRefusedError, InvalidInputError
from tests.support.embedding_server import EmbeddingServer, embedding_server, known_vector

KEY = "sk-very-secret"


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture(params=["ollama", "openai"])
def embedder(request: pytest.FixtureRequest, server: EmbeddingServer) -> Iterator[Embedder]:
    made = made_for(request.param, server)
    yield made
    made.close()


def made_for(driver: str, server: EmbeddingServer, **options: Any) -> OllamaEmbedder | OpenAIEmbedder:
    if driver == "ollama":
        return OllamaEmbedder("nomic-embed-text", url=server.url, batch=3, **options)
    return OpenAIEmbedder("m", url=f"{server.url}/v1", key=KEY, batch=3, **options)


def test_texts_become_vectors_in_order_and_in_batches(embedder: Embedder, server: EmbeddingServer) -> None:
    texts = [f"{letter} text" for letter in "abcdefgh"]
    assert embedder.embed(texts) == [known_vector(text) for text in texts]
    assert embedder.dimension == 8
    assert embedder.is_semantic
    assert [len(body["input"]) for _, body, _ in server.requests] == [3, 3, 2]
    assert embedder.embed([]) == []
    assert len(server.requests) == 3


def test_each_asks_as_its_server_wants_to_be_asked(server: EmbeddingServer) -> None:
    for driver in ("ollama", "openai"):
        made = made_for(driver, server)
        made.embed(["x"])
        made.close()
        made.close()
    (first, ollama, _), (second, openai, headers) = server.requests
    assert (first, ollama) == ("/api/embed", {"model": "nomic-embed-text", "input": ["x"]})
    assert (second, openai) == ("/v1/embeddings", {"model": "m", "input": ["x"], "encoding_format": "float"})
    assert headers["Authorization"] == f"Bearer {KEY}"


def test_one_that_says_later_is_asked_again_when_it_says(embedder: Embedder, server: EmbeddingServer) -> None:
    answers = [(429, {"Retry-After": "0"}, {"error": "slow down"}), (503, {"Retry-After": "0.01"}, {})]
    server.misbehave = lambda texts: answers.pop() if answers else None
    assert embedder.embed(["a"]) == [known_vector("a")]
    assert len(server.requests) == 3


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}])
def test_one_that_says_much_later_is_not_waited_for(
    embedder: Embedder, server: EmbeddingServer, headers: dict[str, str]
) -> None:
    server.misbehave = lambda texts: (429, headers, {"error": "slow down"})
    with pytest.raises(EmbedderError, match="429"):
        embedder.embed(["a"])
    assert len(server.requests) == 1


def test_one_that_always_says_later_is_not_asked_for_ever(embedder: Embedder, server: EmbeddingServer) -> None:
    server.misbehave = lambda texts: (429, {"Retry-After": "0"}, {})
    with pytest.raises(EmbedderError, match="429"):
        embedder.embed(["a"])
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, {"error": 'model "x" not found, try pulling it first'}, "try pulling it first"),
        (401, {"error": {"message": "Incorrect API key provided."}}, "Incorrect API key"),
        (500, b"<html>broken</html>", "500"),
        (200, b"<html>a login page</html>", "not JSON"),
        (200, {"embeddings": None, "data": None}, "its answer has no"),
        (200, ["nothing"], "its answer has no"),
    ],
)
def test_what_is_wrong_is_said_and_the_key_is_not(
    embedder: Embedder, server: EmbeddingServer, status: int, body: Any, says: str
) -> None:
    server.misbehave = lambda texts: (status, {}, body)
    with pytest.raises(EmbedderError, match=says) as raised:
        embedder.embed(["a"])
    assert not isinstance(raised.value, EmbeddingRefusedError)
    assert raised.value.model == embedder.model


@pytest.mark.parametrize("status", [400, 401, 500])
def test_the_key_is_in_no_message(server: EmbeddingServer, status: int) -> None:
    server.misbehave = lambda texts: (status, {}, {"error": server.requests[-1][2]["Authorization"]})
    made = made_for("openai", server)
    with pytest.raises(EmbedderError) as raised:
        made.embed(["a"])
    made.close()
    assert "Bearer ***" in str(raised.value)
    assert KEY not in f"{raised.value!r} {raised.value} {made!r} {vars(raised.value)}"


def rows(vectors: list[list[Any]]) -> dict[str, Any]:
    return {"embeddings": vectors, "data": [{"index": n, "embedding": each} for n, each in enumerate(vectors)]}


@pytest.mark.parametrize(
    "vectors",
    [
        [[1.0, 2.0]],
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]],
        [[1.0, 2.0], [1.0, float("nan")]],
        [[1.0, 2.0], [1.0, float("inf")]],
        [[1.0, 2.0], [1.0, None]],
        [[1.0, 2.0], [1.0, 1e39]],
        [[1.0, 2.0], [1.0, 10**400]],
        [[1.0, 2.0], [1.0]],
        [[], []],
    ],
)
def test_vectors_that_are_none_are_not_taken(
    embedder: Embedder, server: EmbeddingServer, vectors: list[list[Any]]
) -> None:
    server.misbehave = lambda texts: (200, {}, json.dumps(rows(vectors)).encode())
    with pytest.raises(EmbedderError):
        embedder.embed(["a", "b"])


def test_another_dimension_than_before_is_not_taken(embedder: Embedder, server: EmbeddingServer) -> None:
    embedder.embed(["a"])
    server.vector = lambda text: [1.0, 2.0, 3.0]
    with pytest.raises(EmbedderError, match="3 numbers, and others of 8"):
        embedder.embed(["a"])


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_text_that_is_refused_keeps_no_other_from_its_vector(
    embedder: Embedder, server: EmbeddingServer, status: int
) -> None:
    server.misbehave = lambda texts: (status, {}, {"error": "too long"}) if "bad" in texts else None
    with pytest.raises(EmbeddingRefusedError, match="too long"):
        embedder.embed(["a", "bad"])
    texts = ["a", "bad", "b", "c", "bad", "bad", "d"]
    found = embed_each(embedder, texts)
    assert [each if isinstance(each, list) else str(type(each)) for each in found] == [
        "<class 'nomad_sessions.errors.calls.EmbeddingRefusedError'>" if text == "bad" else known_vector(text)
        for text in texts
    ]


def test_a_server_that_does_not_answer_in_time_is_away(server: EmbeddingServer) -> None:
    server.hanging.clear()
    for driver in ("ollama", "openai"):
        made = made_for(driver, server, timeout=0.05)
        with pytest.raises(EmbedderError, match=r"did not answer within 0\.05 s"):
            made.embed(["a"])
        made.close()


def test_a_server_that_is_not_there_is_away() -> None:
    with socket.socket() as taken:  # Bound, and nobody listens.
        taken.bind(("127.0.0.1", 0))
        made = OllamaEmbedder("m", url=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(EmbedderError, match="127"):
            made.embed(["a"])
        made.close()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:99", "http://127.0.0.1:99"),
        ("box", "http://box:11434"),
        ("box:99", "http://box:99"),
        (":99", "http://127.0.0.1:99"),
        ("::1", "http://[::1]:11434"),
        ("[::]:99", "http://127.0.0.1:99"),
        ("0.0.0.0.box", "http://0.0.0.0.box:11434"),
        ("https://box/ollama/", "https://box/ollama"),
        ("http://box:99", "http://box:99"),
    ],
)
def test_the_address_of_ollama_is_what_its_variable_means(given: str | None, meant: str) -> None:
    assert ollama_url(given) == meant


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://box", "http://", "http://user:pw-secret@box/v1", "http://box/v1?key=pw-secret", "http://[box"),
        *("http://box:99999", "http://b ox", "http://box\n"),
    ],
)
def test_an_address_that_is_none_or_has_a_password_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        OpenAIEmbedder("m", url=url)
    assert "pw-secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["sk-very\nsecret", "sk-very-sécret"])
def test_a_key_that_no_header_can_have_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidInputError, match="ASCII") as raised:
        OpenAIEmbedder("m", key=key)
    assert "very" not in f"{raised.value!r} {raised.value}"


def test_a_key_may_come_with_the_end_of_its_line(server: EmbeddingServer) -> None:
    made = OpenAIEmbedder("m", url=f"{server.url}/v1", key=f"{KEY}\n")
    made.embed(["x"])
    made.close()
    assert server.requests[0][2]["Authorization"] == f"Bearer {KEY}"


def test_no_proxy_is_asked_for_an_address_of_this_computer(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # Where nobody listens.
    monkeypatch.setenv("NO_PROXY", "")
    assert embedder.embed(["a"]) == [known_vector("a")]


def test_half_of_a_pair_is_no_reason_to_fail(embedder: Embedder) -> None:
    assert embedder.embed(["a\ud83d"]) == [known_vector("a")]
