"""Vectors that were made once are not made again, whatever happens to the file that has them."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from nomad_sessions.embedders import BatchedEmbedder, CachedEmbedder, Vector, VectorCache
from nomad_sessions.errors import EmbedderError


class Counting(BatchedEmbedder):
    """Knows how often it was asked for each text."""

    def __init__(self, model: str = "counting/1", length: int = 2) -> None:
        super().__init__(model, batch=1000)
        self.asked: list[str] = []
        self.length = length

    def _vectors(self, texts: list[str]) -> list[Vector]:
        if "broken" in texts:
            raise EmbedderError(model=self.model, reason="as asked")
        self.asked += texts
        return [[len(text) / 3] + [1.0] * (self.length - 1) for text in texts]


def cached(path: Path, inner: Counting, **options: int) -> CachedEmbedder:
    return CachedEmbedder(inner, VectorCache(str(path), **options))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / ".vectors.sqlite"


def test_a_text_is_embedded_once_in_one_call_in_several_and_after_a_restart(path: Path) -> None:
    for turn in range(2):
        inner = Counting()
        embedder = cached(path, inner)
        found = [embedder.embed(["a", "bb", "a"]), embedder.embed(["bb", "lone \ud83d"])]
        embedder.close()
        assert [list(map(list, each)) for each in found] == [
            [list(array("f", [1 / 3, 1])), list(array("f", [2 / 3, 1])), list(array("f", [1 / 3, 1]))],
            [list(array("f", [2 / 3, 1])), list(array("f", [2, 1]))],
        ]
        assert inner.asked == ([] if turn else ["a", "bb", "lone \ud83d"])
    assert (embedder.model, embedder.is_semantic) == ("counting/1", True)


def test_another_model_has_vectors_of_its_own_and_so_has_another_of_the_same_name(path: Path) -> None:
    for inner in (Counting(), Counting("counting/2")):
        cached(path, inner).embed(["a"])
        assert inner.asked == ["a"]
    grown = Counting(length=5)
    embedder = cached(path, grown)
    embedder.embed(["new"])
    assert len(embedder.embed(["a"])[0]) == embedder.dimension == 5
    assert grown.asked == ["new", "a"]


def test_what_was_made_is_kept_when_a_later_one_fails(path: Path) -> None:
    inner = Counting()
    embedder = cached(path, inner)
    texts = [str(number) for number in range(300)]
    with pytest.raises(EmbedderError):
        embedder.embed([*texts, "broken"])
    assert len(inner.asked) == 256
    embedder.embed(texts)
    assert len(inner.asked) == 300


def test_it_keeps_at_most_so_many_and_the_oldest_go(path: Path) -> None:
    inner = Counting()
    embedder = cached(path, inner, most=3)
    for text in "abcde":
        embedder.embed([text])
    embedder.embed(list("cde"))
    assert inner.asked == list("abcde")
    embedder.embed(["a"])
    assert inner.asked == list("abcdea")
    assert connection_count(path) == 3


def connection_count(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(*) FROM vector").fetchone()
    connection.close()
    return int(count)


def test_nobody_else_may_read_it(path: Path) -> None:
    cached(path, Counting()).embed(["a"])
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
def test_a_damaged_file_is_made_again(path: Path, damage: bytes) -> None:
    first = cached(path, Counting())
    first.embed(["a"])
    first.close()
    path.write_bytes(damage)
    for asked in (["a"], []):
        inner = Counting()
        embedder = cached(path, inner)
        embedder.embed(["a"])
        embedder.close()
        assert inner.asked == asked


def test_a_place_that_cannot_be_used_costs_asking_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    inner = Counting()
    embedder = cached(tmp_path / "file" / "vectors", inner)
    for _ in range(2):
        assert list(embedder.embed(["aaa"])[0]) == [1.0, 1.0]
    assert inner.asked == ["aaa", "aaa"]
    assert "vectors are not kept" in caplog.text


def _asked_in_child(embedder: CachedEmbedder, inner: Counting, texts: Sequence[str]) -> None:
    embedder.embed(texts)
    os._exit(len(inner.asked))


def test_a_forked_child_has_a_connection_of_its_own(path: Path) -> None:
    inner = Counting()
    embedder = cached(path, inner)
    embedder.embed(["a"])
    child = multiprocessing.get_context("fork").Process(target=_asked_in_child, args=(embedder, inner, ["a", "new"]))
    child.start()
    child.join()
    assert child.exitcode == 2  # "a" of before the fork, and "new".
    embedder.embed(["new"])
    assert inner.asked == ["a"]
