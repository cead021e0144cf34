"""What a real Chroma finds is what comparing with every vector finds."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.embedders import OpenAIEmbedder
from nomad_sessions.errors import InvalidInputError, TargetUnavailableError
from nomad_sessions.sync.chroma import ChromaTarget
from tests.support.chroma_cases import Known, message, opened, session
from tests.support.embedding_server import EmbeddingServer, embedding_server, known_vector

CHANCE = random.Random(5)
TEXTS = {
    f"m{n:03}": "".join(CHANCE.choices("abcdefgh", k=CHANCE.randint(3, 40), weights=CHANCE.choices(range(1, 9), k=8)))
    for n in range(400)
}


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def brute(queries: list[str], limit: int) -> list[tuple[str, float]]:
    scores = {
        name: max(cosine(known_vector(query), known_vector(text)) for query in queries) for name, text in TEXTS.items()
    }
    return sorted(scores.items(), key=lambda each: (-each[1], each[0]))[:limit]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture(scope="module")
def filled(server: EmbeddingServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaTarget]:
    """With an endpoint that speaks OpenAI's, and gives known vectors."""
    embedder = OpenAIEmbedder("m", url=f"{server.url}/v1", key="secret")
    with opened(tmp_path_factory.mktemp("chroma"), embedder) as target:
        target.apply([message(name, n, text) for n, (name, text) in enumerate(TEXTS.items(), 1)])
        yield target


@pytest.mark.parametrize("queries", [["aaab"], ["hhg"], ["bad cafe"], ["abcdefgh"], ["aaa", "hhh"]])
def test_the_ten_nearest_are_those_of_brute_force(filled: ChromaTarget, queries: list[str]) -> None:
    found = filled.most_relevant(queries, 10)
    wanted = brute(queries, 10)
    assert [each.score for each in found] == pytest.approx([score for _, score in wanted], abs=1e-5)
    by_score = dict(brute(queries, len(TEXTS)))
    for each in found:
        assert each.score == pytest.approx(by_score[each.id], abs=1e-5)
        assert each.text == TEXTS[each.id]
        assert (each.workspace_id, each.kind, each.session_id) == ("ws", "message", "s")
    assert len({each.id for each in found}) == 10


def test_a_limit_and_no_query_and_more_than_there_is(filled: ChromaTarget) -> None:
    assert filled.most_relevant([]) == []
    assert len(filled.most_relevant(["a"], 3)) == 3
    assert len(filled.most_relevant(["a"], 5000)) == 400
    with pytest.raises(InvalidInputError, match="limit"):
        filled.most_relevant(["a"], 0)


def test_filters_leave_what_they_say(tmp_path: Path) -> None:
    with opened(tmp_path, Known()) as target:
        roles = [message(f"m{n}", n, "ab", role="user" if n % 2 else "tool", metadata={"n": n}) for n in range(1, 9)]
        target.apply([session("s", 20, "ab"), *roles, message("other", 21, "ab", "t\ud83d")])
        target.apply([message("away", 1, "ab", ws="elsewhere")])

        def ids(**how: object) -> set[str]:
            return {each.id for each in target.most_relevant(["ab"], 50, **how)}  # type: ignore[arg-type]

        assert len(ids()) == 11
        assert ids(workspace_id="elsewhere") == {"away"}
        assert ids(session_id="t\ud83d") == {"other"}
        assert ids(kinds=["session"]) == {"s"}
        assert ids(where={"role": "tool"}) == {"m2", "m4", "m6", "m8"}
        assert ids(where={"role": "tool", "metadata.n": {"$gt": 6}}) == {"m8"}
        assert ids(where={"metadata.n": {"$gt": 6}}, workspace_id="ws") == {"m7", "m8"}


def test_a_long_message_is_one_hit_by_its_best_piece_and_takes_no_place_of_others(tmp_path: Path) -> None:
    filler, needle = "a long way " * 150, "hhhh hhhh"
    with opened(tmp_path, Known()) as target:
        target.apply([message("long", 1, f"{filler}\n\n{needle * 20}\n\n{filler}" * 3), message("short", 2, "ab")])
        for query, first in (("hhhh", "long"), ("ab", "short")):
            found = target.most_relevant([query], 2)
            assert {each.id for each in found} == {"long", "short"}
            assert found[0].id == first
        best = target.most_relevant(["hhhh"], 1)[0]
        assert "hhhh" in best.text
        assert len(best.text) <= 2000


def test_what_is_gone_or_has_another_text_now_is_not_found_by_the_old(tmp_path: Path) -> None:
    with opened(tmp_path, Known()) as target:
        target.apply([message(f"m{n}", n, "aaaa") for n in range(1, 40)])
        target.apply([message(f"m{n}", 100 + n)._replace(body=None) for n in range(1, 39)])
        assert [each.id for each in target.most_relevant(["aaaa"], 5)] == ["m39"]
        target.apply([message("m39", 200, "hhhh")])
        (only,) = target.most_relevant(["aaaa"], 5)
        assert (only.text, only.rev) == ("hhhh", 200)
        assert only.score < 0.1


@pytest.mark.parametrize(
    ("queries", "how", "field"),
    [
        ("a word", {}, "queries"),
        (["a", " "], {}, "queries"),
        (["a"], {"limit": -1}, "limit"),
        (["a"], {"kinds": ["task"]}, "kinds"),
        (["a"], {"where": {"role": None}}, "where"),
        (["a"], {"where": {"createdAt": {"$gte": 1, "$lt": 2}}}, "where"),
        (["a"], {"where": {"role": {"$like": "u"}}}, "where"),
    ],
)
def test_a_question_that_is_none_is_refused(
    filled: ChromaTarget, queries: list[str], how: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError, match=field):
        filled.most_relevant(queries, **how)
    assert len(filled.most_relevant(["a"], 3)) == 3


def test_where_nothing_was_pushed_nothing_is_made(tmp_path: Path) -> None:
    with opened(tmp_path / "chroma", Known()) as target:
        with pytest.raises(TargetUnavailableError, match="nothing was pushed"):
            target.most_relevant(["a"])
        assert list(tmp_path.iterdir()) == []
