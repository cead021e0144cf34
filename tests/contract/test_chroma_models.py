"""Another model gets collections of its own, filled from those of the other, and vectors are never mixed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.embedders import CachedEmbedder, Vector, VectorCache
from nomad_sessions.errors import EmbedderError, TargetUnavailableError
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.chroma import ChromaTarget
from tests.support.chroma import chroma_server
from tests.support.chroma_cases import Known, collections, contents, message, opened, session

CHANGES = [
    session("s", 1, "abc"),
    *(message(f"m{n}", n, "abc " * n, metadata={"n": n}) for n in range(2, 9)),
    message("long", 10, "abcdefgh " * 500),
    message("bare", 11),
    message("gone", 12)._replace(body=None),
    message("elsewhere", 13, "hh", ws="other"),
]


class Breaking(Known):
    """Goes away after so many texts."""

    def __init__(self, most: int, model: str = "other/1") -> None:
        super().__init__(model, extra=3)
        self.most = most

    def _vectors(self, texts: list[str]) -> list[Vector]:
        if len(self.asked) + len(texts) > self.most:
            raise EmbedderError(model=self.model, reason="gone away")
        return super()._vectors(texts)


def fill(target: ChromaTarget) -> None:
    for ws in ("ws", "other"):
        target.apply([each for each in CHANGES if each.workspace_id == ws])


def vectors(folder: Path) -> dict[str, tuple[dict[str, object], set[int]]]:
    """What each collection with vectors says of itself, and the lengths of its vectors."""
    with collections(folder) as there:
        return {
            name: (dict(each.metadata or {}), {len(one) for one in each.get(include=["embeddings"])["embeddings"]})  # type: ignore[union-attr]
            for name, each in there.items()
            if name != "duck_bare"
        }


def test_model_and_dimension_are_stored_with_the_vectors(tmp_path: Path) -> None:
    with opened(tmp_path, Known()) as target:
        fill(target)
    found = vectors(tmp_path)
    assert len(found) == 2
    for marks, lengths in found.values():
        assert (marks["model"], marks["dimension"], marks["complete"]) == ("known/1", 8, True)
        assert lengths == {8}


@pytest.mark.parametrize("other", [Known("other/1"), Known("known/1", extra=2)], ids=["name", "dimension"])
def test_another_model_has_everything_and_the_old_one_is_gone(
    tmp_path: Path, other: Known, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, Known()) as target:
        fill(target)
        before = contents(target), contents(target, "other")
    with opened(tmp_path, other) as target:
        with pytest.raises(TargetUnavailableError, match="another model"):
            target.most_relevant(["abc"])
        assert (contents(target), contents(target, "other")) == before
        assert target.apply([message("gone", 12, "an old state")]).confirmed == 1
        assert "gone" not in contents(target)
        assert {each.id for each in target.most_relevant(["hh"], 2)} == {"elsewhere", "long"}
    assert "made anew" in caplog.text
    found = vectors(tmp_path)
    assert len(found) == 2
    for marks, lengths in found.values():
        assert marks["model"] == other.model
        assert lengths == {other.dimension}


@pytest.mark.parametrize("most", [0, 2, 5])
def test_a_change_of_the_model_that_was_interrupted_goes_on(tmp_path: Path, most: int) -> None:
    with opened(tmp_path, Known()) as target:
        fill(target)
        before = contents(target)
    with opened(tmp_path, Breaking(most)) as target:
        with pytest.raises(TargetUnavailableError, match="gone away"):
            target.scan("ws", "message")
        with pytest.raises(TargetUnavailableError):
            target.most_relevant(["abc"])
    with opened(tmp_path, Known()) as target:  # Who has the old model goes on with the old vectors.
        assert contents(target) == before
    with opened(tmp_path, Breaking(1000)) as target:
        assert contents(target) == before
    assert {lengths.pop() for _, lengths in vectors(tmp_path).values()} == {11}


def test_a_change_of_the_model_tells_how_far_it_is(tmp_path: Path) -> None:
    with opened(tmp_path, Known()) as target:
        fill(target)
    told: list[tuple[int, int]] = []
    with opened(tmp_path, Known("other/1"), progress=lambda done, total: told.append((done, total))) as target:
        target.scan("ws", "message")
        assert told == [(1, 1), *((n, 9) for n in range(1, 10))]
        target.scan("ws", "session")
        assert len(told) == 10


def test_a_push_of_nothing_new_changes_the_model(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session("ws", title="abc")
        for model in ("known/1", "other/1"):
            with Synchronizer(manager, [ChromaTarget(Known(model), path=tmp_path / "chroma")]) as sync:
                sync.push()
            assert {marks["model"] for marks, _ in vectors(tmp_path / "chroma").values()} == {model}


def test_a_server_that_is_killed_while_it_changes_the_model_goes_on_with_it(tmp_path: Path) -> None:
    class Killing(Known):
        def _vectors(self, texts: list[str]) -> list[Vector]:
            if texts != ["abc"] and len(self.asked) > 3:
                server.kill()
            return super()._vectors(texts)

    with chroma_server(tmp_path / "chroma") as server:
        for model in (Known(), Killing("other/1"), Known("other/1")):
            target = ChromaTarget(model, url=server.url, timeout=5)
            if isinstance(model, Killing):
                with pytest.raises(TargetUnavailableError):
                    target.renew()
                server.start()
                with pytest.raises(TargetUnavailableError, match="another model"):
                    target.most_relevant(["abc"])
            else:
                fill(target)
                if model.model == "known/1":
                    before = contents(target)
                assert contents(target) == before
            target.close()


def test_what_the_new_model_refuses_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path, Known()) as target:
        target.apply([message("a", 1, "fine"), message("b", 2, "refused")])
    refusing = Known("other/1")
    refusing._vectors = lambda texts: Known._vectors(refusing, [each.upper() for each in texts])  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING), opened(tmp_path, refusing) as target:
        assert list(contents(target)) == ["a"]
    assert "b is left out" in caplog.text


def test_an_embedder_that_does_not_know_its_dimension_is_asked_once(tmp_path: Path) -> None:
    known = Known()
    known.dimension = None
    with opened(tmp_path, known) as target:
        target.scan("ws", "message")
        target.scan("ws", "session")
    assert len(known.asked) == 1


class Anybodys:
    """An embedder that is nobody's subclass, and gives what it likes."""

    model, dimension, is_semantic = "anybody/1", 2, True

    def __init__(self) -> None:
        self.give: Callable[[list[str]], Any] = lambda texts: [[1.0, 2.0] for _ in texts]

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return list(self.give(list(texts)))

    def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("is_cached", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [[], [[1.0, 2.0]], [[1.0, 2.0]] * 3, [[1.0, 2.0], [1.0]], [[1.0, 2.0], [1.0, math.nan]], [["a", "b"]] * 2],
    ids=["none", "few", "many", "short", "nan", "words"],
)
def test_wrong_vectors_of_anybody_s_embedder_are_neither_written_nor_kept(
    tmp_path: Path, wrong: list[Any], is_cached: bool
) -> None:
    anybody = Anybodys()
    embedder = CachedEmbedder(anybody, VectorCache(str(tmp_path / "v.sqlite"))) if is_cached else anybody
    with opened(tmp_path / "chroma", embedder) as target:
        right, anybody.give = anybody.give, lambda texts: wrong
        with pytest.raises(TargetUnavailableError, match="it gave"):
            target.apply([message("a", 1, "one"), message("b", 2, "two")])
        assert contents(target) == {}
        anybody.give = right
        assert target.apply([message("a", 1, "one"), message("b", 2, "two")]).confirmed == 2
        assert [each.score for each in target.most_relevant(["x"])] == pytest.approx([1, 1])


def test_a_model_that_was_replaced_by_a_longer_one_of_its_name_is_not_mixed_with_it(tmp_path: Path) -> None:
    cache = str(tmp_path / "v.sqlite")
    for length, lengths in ((8, {8}), (11, {11})):
        known = Known(extra=length - 8)
        known.dimension = None  # As where only the server knows.
        with opened(tmp_path / "chroma", CachedEmbedder(known, VectorCache(cache))) as target:
            target.apply([message("old", 1, "abc"), message(f"m{length}", length, "abc again")])
            assert len(target.most_relevant(["abc"])) == (1 if length == 8 else 2) + 1
        assert [found for _, found in vectors(tmp_path / "chroma").values() if found] == [lengths]
