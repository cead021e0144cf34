"""How records lie in a real Chroma: replaced whole, in pieces, in batches; embedded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.embedders import CachedEmbedder, VectorCache
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.sync import Applied, Synchronizer
from nomad_sessions.sync.chroma import ChromaTarget
from tests.support.chroma_cases import Known, collections, contents, message, opened, session


@pytest.fixture
def target(tmp_path: Path) -> Iterator[ChromaTarget]:
    with opened(tmp_path / "chroma", Known()) as target:
        yield target


def rows(folder: Path, kind: str) -> dict[str, dict[str, object]]:
    with collections(folder) as there:
        (one,) = [each for name, each in there.items() if name.startswith(f"duck_{kind}")]
        found = one.get(include=["metadatas", "documents"])
        texts, metadatas = found["documents"] or [], found["metadatas"] or []
        return {
            name: {**metadata, "text": text}
            for name, text, metadata in zip(found["ids"], texts, metadatas, strict=True)
        }


def test_what_a_record_has_no_more_is_in_no_row_of_it(target: ChromaTarget, tmp_path: Path) -> None:
    long = "some words " * 600
    target.apply([message("m", 1, long, metadata={"old": 1, "same": 2}, agent="a")])
    before = rows(tmp_path / "chroma", "session_messages")
    assert len(before) == 4
    assert {each["metadata.old"] for each in before.values()} == {1}
    target.apply([message("m", 2, long[:3000], metadata={"same": 3, "new": "n"})])
    after = rows(tmp_path / "chroma", "session_messages")
    assert sorted(after) == ["ws:m:0", "ws:m:1"]
    for each in after.values():
        assert each["rev"] == 2
        assert "metadata.old" not in each
        assert "agent" not in each
        assert (each["metadata.same"], each["metadata.new"]) == (3, "n")
    target.apply([message("m", 3, "short")])
    (only,) = rows(tmp_path / "chroma", "session_messages").values()
    assert only["text"] == "short"


def test_a_record_that_loses_its_text_and_gets_it_back_is_there_all_the_time(
    target: ChromaTarget, tmp_path: Path
) -> None:
    for rev, text in enumerate(("long " * 900, "", "again", "", "   "), 1):
        change = message("m", rev, text)
        target.apply([change])
        assert contents(target) == {"m": (rev, change.body)}
        assert len(rows(tmp_path / "chroma", "session_messages")) == (3 if rev == 1 else bool(text.strip()))
    target.apply([message("m", 9)._replace(body=None)])
    assert contents(target) == {}


def test_a_text_that_is_refused_is_named_and_the_others_are_taken(target: ChromaTarget) -> None:
    changes = [message(f"m{n}", n, "REFUSED" if n in (2, 5) else f"text {n}") for n in range(1, 8)]
    applied = target.apply(changes)
    assert applied.confirmed == 5
    assert [(each.key.id, each.rev) for each in applied.rejected] == [("m2", 2), ("m5", 5)]
    assert all("as asked" in each.reason for each in applied.rejected)
    assert sorted(contents(target)) == ["m1", "m3", "m4", "m6", "m7"]
    assert target.apply([message("m2", 8, "now it is fine")]) == Applied(1)
    long = message("m5", 9, "words " * 1000 + "REFUSED")
    assert [each.key.id for each in target.apply([long]).rejected] == ["m5"]
    assert "m5" not in contents(target)


def test_more_rows_than_a_request_may_have_are_written_in_several(target: ChromaTarget) -> None:
    changes = [message(f"m{n:04}", n + 1, f"abc {n}") for n in range(2100)]
    assert target.apply(changes) == Applied(2100)
    assert len(contents(target)) == 2100
    ends = [change._replace(rev=9000, body=None) for change in changes[::2]]
    target.apply(ends)
    assert len(contents(target)) == 1050


def test_a_fork_and_what_is_sent_again_are_not_embedded_again(tmp_path: Path) -> None:
    known = Known()
    embedder = CachedEmbedder(known, VectorCache(str(tmp_path / "vectors.sqlite")))
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        one = manager.create_session("ws", title="A title")
        for number in range(20):
            manager.add_message("ws", one.id, role="user", content=f"message {number}")
        with Synchronizer(manager, [ChromaTarget(embedder, path=tmp_path / "chroma")]) as sync:
            sync.push("ws")
            assert len(known.asked) == 21
            manager.fork_session("ws", one.id)
            sync.push("ws")
            assert known.asked[21:] == ["A title (fork)"]
            assert sync.verify("ws", target="chroma") == []
            manager.update_session("ws", one.id, metadata={"seen": 1})
            sync.reset("ws", target="chroma")
            sync.push("ws")
            assert len(known.asked) == 22
        with Synchronizer(manager, [ChromaTarget(embedder, path=tmp_path / "another", name="another")]) as sync:
            sync.push("ws")
            assert sync.verify("ws", target="another") == []
            assert len(known.asked) == 22


def test_agents_in_one_chroma_are_apart(tmp_path: Path) -> None:
    with opened(tmp_path, Known(), agent="one") as one, opened(tmp_path, Known(), agent="two") as two:
        one.apply([session("s", 1, "abc")])
        assert two.workspaces() == []
        assert one.workspaces() == ["ws"]


@pytest.mark.parametrize("agent", ["", "-a", "a b", "a" * 65, "ä"])
def test_an_agent_that_no_collection_can_be_called_after_is_refused(tmp_path: Path, agent: str) -> None:
    with pytest.raises(InvalidInputError, match="agent"):
        ChromaTarget(Known(), path=tmp_path, agent=agent)


def test_a_record_that_no_request_could_carry_is_refused_by_name(target: ChromaTarget) -> None:
    large = message("large", 1, "short", metadata={"blob": "x" * (17 << 20)})
    applied = target.apply([message("m", 2, "fine"), large])
    assert applied.confirmed == 1
    ((key, _, reason),) = applied.rejected
    assert (key.id, "16 MB" in reason) == ("large", True)
    assert list(contents(target)) == ["m"]
