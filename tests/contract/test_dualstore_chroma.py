"""The dual store on real Chroma, with vectors from an endpoint that speaks OpenAI's: what it finds is what comparing
with every vector finds."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.dualstore import DualStoreManager
from nomad_sessions.embedders import OpenAIEmbedder
from nomad_sessions.sync.chroma import ChromaTarget
from tests.support.embedding_server import EmbeddingServer, embedding_server, known_vector

WS = "ws"
CHANCE = random.Random(7)
TEXTS = {f"m{n:03}": "".join(CHANCE.choices("abcdefgh", k=CHANCE.randint(3, 40))) for n in range(300)}
HIDDEN = "m299"


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def brute(queries: list[str], limit: int, names: list[str]) -> list[tuple[str, float]]:
    scores = {name: max(cosine(known_vector(query), known_vector(TEXTS[name])) for query in queries) for name in names}
    return sorted(scores.items(), key=lambda each: -each[1])[:limit]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture(scope="module")
def store(endpoint: EmbeddingServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DualStoreManager]:
    folder = tmp_path_factory.mktemp("dualstore")
    target = ChromaTarget(OpenAIEmbedder("m", url=f"{endpoint.url}/v1", key="secret"), path=folder / "chroma")
    with (
        NativeSessionManager(folder / "data", durability="os") as m,
        DualStoreManager(m, WS, [target], consistency="strict") as store,
    ):
        m.create_session(WS, id="s", title="abc")
        rows = [
            {"id": name, "role": "user" if n % 2 else "assistant", "content": text}
            for n, (name, text) in enumerate(TEXTS.items())
        ]
        m.add_messages(WS, "s", rows)
        m.revert(WS, "s", "m298")
        store.insert({"id": "session:s", "text": '{"title": "abc def"}'})
        yield store


@pytest.mark.parametrize("queries", [["aaab"], ["hhg"], ["bad cafe"], ["aaa", "hhh", ""]])
@pytest.mark.parametrize("role", [None, "user"])
def test_the_ten_nearest_are_those_of_brute_force(
    store: DualStoreManager, queries: list[str], role: str | None
) -> None:
    found = store.get_most_relevant(queries, 10, None if role is None else {"metadata.role": role})
    assert (found.by, found.failed, found.is_semantic) == ("chroma", {}, True)
    names = [name for n, name in enumerate(TEXTS) if name != HIDDEN and (role is None or n % 2)]
    asked = [each for each in queries if each]
    assert [each.score for each in found.hits] == pytest.approx(
        [score for _, score in brute(asked, 10, names)], abs=1e-5
    )
    by_name = dict(brute(asked, len(names), names))
    for each in found.hits:
        assert each.score == pytest.approx(by_name[each.entry.id], abs=1e-5)
        assert each.entry.text == TEXTS[each.entry.id]


def test_an_endpoint_that_is_away_is_named_and_what_is_found_is_by_words(
    store: DualStoreManager, endpoint: EmbeddingServer
) -> None:
    endpoint.misbehave = lambda texts: (503, {}, {"error": "overloaded"})
    try:
        found = store.get_most_relevant([TEXTS["m005"]], 3)
    finally:
        endpoint.misbehave = lambda texts: None
    assert (found.by, list(found.failed), found.is_semantic) == ("lexical", ["chroma"], False)
    assert "503" in found.failed["chroma"]
    assert "secret" not in found.failed["chroma"]
    assert [each.entry.id for each in found.hits] == ["m005"]


def test_a_record_is_checked_against_real_chroma_and_what_it_does_not_take_is_not_its(store: DualStoreManager) -> None:
    assert store.check_consistency("m001") == ("m001", True, {"chroma": "same"})
    assert store.retry_vector_write("session:s") == {}
    store.insert({"id": "event:e", "text": '{"type": "noted"}'})
    assert store.check_consistency("event:e") == ("event:e", True, {})
    report = store.get_consistency_report()["chroma"]
    assert report == (len(TEXTS) + 1, len(TEXTS) + 1, [], [], [], {}, None)
