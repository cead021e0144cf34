"""Search by meaning, and by both: with real Chroma and known vectors, against comparing with everything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.embedders import HashingEmbedder
from nomad_sessions.errors import InvalidInputError, SnapshotUnreadableError
from nomad_sessions.search import Filters, RankedResults, Searcher, SemanticSearcher
from nomad_sessions.search.semantic import fused
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.chroma import ChromaTarget
from tests.support.chroma_cases import Known
from tests.support.damage import long_damaged
from tests.support.embedding_server import known_vector

TEXTS = {f"m{n:02}": f"{'abcdefgh'[n % 8] * (n % 5 + 1)} {'hgfedcba'[n % 7] * (n // 7 + 1)} word{n}" for n in range(60)}


class World:
    """A store, its texts in Chroma, and what asks both."""

    def __init__(self, folder: Path) -> None:
        self.manager = NativeSessionManager(folder / "data", durability="os")
        self.target = ChromaTarget(Known(), path=folder / "chroma")
        self.sync = Synchronizer(self.manager, [self.target])
        self.searcher = Searcher(self.manager)
        self.near = SemanticSearcher(self.searcher, self.target)

    def fill(self) -> None:
        for ws, part in (("one", 0), ("two", 1)):
            self.manager.create_session(ws, id=f"s-{ws}", title="")
            for name, text in list(TEXTS.items())[part::2]:
                role = "user" if int(name[1:]) % 3 else "assistant"
                self.manager.add_message(ws, f"s-{ws}", id=name, role=role, content=text)
        self.sync.push()

    def close(self) -> None:
        self.searcher.close()
        self.sync.close()
        self.manager.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    world.fill()
    yield world
    world.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def names(found: RankedResults) -> list[str | None]:
    return [hit.message_id for hit in found.hits]


def brute(query: str) -> dict[str, float]:
    """All texts by cosine, the nearest first."""

    def cosine(text: str) -> float:
        one, other = known_vector(query), known_vector(text)
        return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)

    return dict(sorted(((name, cosine(text)) for name, text in TEXTS.items()), key=lambda each: -each[1]))


@pytest.mark.parametrize("query", ["aab", "hh gg", "bad cafe"])
def test_the_first_ten_of_all_workspaces_are_those_of_brute_force(filled: World, query: str) -> None:
    found = filled.near.find(query, limit=10)
    wanted = brute(query)
    assert (found.mode, found.note) == ("semantic", "")
    assert list(found.scores) == pytest.approx(list(wanted.values())[:10], abs=1e-5)
    for hit, score in zip(found.hits, found.scores, strict=True):
        assert score == pytest.approx(wanted[str(hit.message_id)], abs=1e-5)
        assert hit.snippet == TEXTS[str(hit.message_id)]


def test_filters_and_pages_leave_the_order_as_it_is(filled: World) -> None:
    everything = filled.near.find("aab", limit=100)
    assert len(everything.hits) == 60
    assert everything.next_offset is None
    first, second = (filled.near.find("aab", limit=7, offset=offset) for offset in (0, 7))
    assert first.hits + second.hits == everything.hits[:14]
    assert (first.next_offset, second.next_offset) == (7, 14)
    one = filled.near.find("aab", workspace_id="one", limit=100)
    assert one.hits == tuple(hit for hit in everything.hits if hit.workspace_id == "one")
    of_role = filled.near.find("aab", filters=Filters(role="assistant"), limit=100)
    assert of_role.hits == tuple(hit for hit in everything.hits if hit.role == "assistant")
    of_session = filled.near.find("aab", filters=Filters(session_id="s-two"), limit=100)
    assert of_session.hits == tuple(hit for hit in everything.hits if hit.session_id == "s-two")


def test_hybrid_is_the_fusion_of_both_ranks(filled: World) -> None:
    words = [hit.message_id for hit in filled.searcher.find("word7 OR word12", limit=100).hits]
    assert set(words) == {"m07", "m12"}
    semantic = names(filled.near.find("word7 OR word12", limit=100))
    found = filled.near.find("word7 OR word12", mode="hybrid", limit=5)
    wanted = fused([[(str(name),) for name in rank] for rank in (semantic, words)])
    assert found.mode == "hybrid"
    assert names(found) == [name for (name,), _ in wanted[:5]]
    assert list(found.scores) == pytest.approx([score for _, score in wanted[:5]])
    assert set(names(found)[:2]) == {"m07", "m12"}
    marked = next(hit for hit in found.hits if hit.message_id == "m07")
    assert [marked.snippet[start:end] for start, end in marked.marks] == ["word7"]


def test_ranks_are_fused_as_the_paper_says() -> None:
    scores = dict(fused([[("a",), ("b",)], [("b",), ("c",)]]))
    assert scores == {("b",): 1 / 62 + 1 / 61, ("a",): 1 / 61, ("c",): 1 / 62}
    assert list(scores) == [("b",), ("a",), ("c",)]


def test_what_is_gone_or_hidden_here_is_not_shown_whatever_chroma_has(empty: World) -> None:
    one = empty.manager.create_session("ws", title="")
    for name in ("kept", "hidden", "deleted"):
        empty.manager.add_message("ws", one.id, id=name, role="user", content="abc")
    away = empty.manager.create_session("ws", title="abc")
    empty.sync.push()
    assert len(empty.near.find("abc").hits) == 4
    empty.manager.delete_message("ws", "deleted")
    empty.manager.revert("ws", one.id, "kept")
    empty.manager.delete_session("ws", away.id)
    assert names(empty.near.find("abc", limit=1)) == ["kept"]


def test_a_message_that_forks_have_copied_is_one_hit(empty: World) -> None:
    one = empty.manager.create_session("ws", title="")
    empty.manager.add_message("ws", one.id, id="m", role="user", content="abc")
    for _ in range(3):
        empty.manager.fork_session("ws", one.id, title="")
    empty.sync.push()
    (hit,) = empty.near.find("abc").hits
    assert (hit.message_id, hit.copies) == ("m", 3)


def test_without_vectors_the_words_decide_and_it_says_so(empty: World) -> None:
    one = empty.manager.create_session("ws", title="")
    empty.manager.add_message("ws", one.id, id="m", role="user", content="some words")
    for mode in ("semantic", "hybrid"):
        found = empty.near.find("words", mode=mode)
        assert (names(found), found.mode, found.scores) == (["m"], "lexical", (0.0,))
        assert "nothing was pushed" in found.note
    empty.manager.create_session("pushed", title="x")
    empty.sync.push("pushed")
    found = empty.near.find("words", workspace_id="ws")
    assert (names(found), found.mode) == (["m"], "lexical")
    assert "there are no vectors" in found.note


def test_an_embedder_of_words_is_labelled(empty: World, tmp_path: Path) -> None:
    with Synchronizer(empty.manager, [ChromaTarget(HashingEmbedder(16), path=tmp_path / "c", name="words")]) as sync:
        empty.manager.create_session("ws", title="abc")
        sync.push()
        (target,) = sync.targets
        assert isinstance(target, ChromaTarget)
        found = SemanticSearcher(empty.searcher, target).find("abc")
    assert (found.mode, found.note) == ("semantic", "hashing/16 compares words, not meaning")


def test_a_workspace_that_cannot_be_read_is_named_and_the_others_are_searched(empty: World) -> None:
    empty.fill()
    empty.manager.clear_workspace("two")
    broken = Path(empty.manager.data_dir) / "two"
    for each in broken.glob("journal/*"):
        each.unlink()
    long_damaged(broken / "sessions.json")
    found = empty.near.find("aab", limit=100)
    assert {hit.workspace_id for hit in found.hits} == {"one"}
    assert [name for name, _ in found.unreadable] == ["two"]
    assert found.as_dict()["unreadable"][0]["workspaceId"] == "two"
    with pytest.raises(SnapshotUnreadableError):
        empty.near.find("aab", workspace_id="two")


@pytest.mark.parametrize(
    ("query", "how", "field"),
    [
        ("", {}, "query"),
        ("a", {"mode": "magic"}, "mode"),
        ("a", {"limit": 0}, "limit"),
        ("a", {"offset": -1}, "offset"),
    ],
)
def test_a_question_that_is_none_is_refused(empty: World, query: str, how: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError, match=field):
        empty.near.find(query, **how)  # type: ignore[arg-type]
