"""The dual store's copies: told of what was put in, waited for, compared, and sent again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.dualstore import DualStoreManager
from nomad_sessions.embedders import HashingEmbedder
from nomad_sessions.errors import NotConfirmedError, NotFoundError, TargetUnavailableError
from nomad_sessions.sync import Applied, Change, Key, MemoryTarget, Rejected, Synchronizer

WS = "ws"


class Moody(MemoryTarget):
    """One that may be away, and refuses what says "poison"."""

    away = False

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        self._check()
        bad = [each for each in changes if "poison" in str(each.body)]
        done = super().apply([each for each in changes if each not in bad], force=force)
        return done._replace(rejected=[Rejected(each.key, each.rev, "poison") for each in bad])

    def fetch(self, *args: Any) -> dict[str, Change]:
        self._check()
        return super().fetch(*args)

    def scan(self, *args: Any, **options: Any) -> Any:
        self._check()
        return super().scan(*args, **options)

    def _check(self) -> None:
        if self.away:
            raise TargetUnavailableError(target=self.name, reason="it is away")


class Near(NamedTuple):
    workspace_id: str
    kind: str
    id: str
    session_id: str | None
    score: float
    text: str


class Vectors(Moody):
    """One that finds by meaning: by the length of a text. Notes how much it is asked for."""

    embedder = HashingEmbedder(8)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.counts: list[int] = []

    def most_relevant(
        self, queries: Sequence[str], limit: int = 10, *, workspace_id: str | None = None, session_id: str | None = None
    ) -> list[Near]:
        self._check()
        self.counts.append(limit)
        best: dict[Key, Near] = {}
        for (ws, key), each in self.records.items():
            if ws == workspace_id and each.body is not None and key.kind in ("message", "session"):
                text = str(each.body.get("content", each.body.get("title")))
                score = max(1 / (1 + abs(len(text) - len(query))) for query in queries)
                best[key] = Near(ws, key.kind, key.id, each.session_id, score, text)
        return sorted(best.values(), key=lambda each: -each.score)[:limit]


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


def message(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "text": text, "metadata": {"sessionId": "s"}}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.01)


def test_eventual_returns_at_once_and_the_copy_follows(m: NativeSessionManager) -> None:
    target = MemoryTarget()
    with DualStoreManager(m, WS, [target]) as store:
        store.insert(message("a", "x"))
        until(lambda: (WS, Key("message", "a")) in target.records)
        until(lambda: store.queue_stats()[0].behind == 0)
        assert store.check_consistency("a").is_consistent
        assert store.check_consistency("session:s").targets == {"memory": "same"}
        assert store.check_consistency("session:s:messages").targets == {"memory": "same"}


def test_strict_waits_for_each_copy_and_keeps_the_record_where_one_is_away(m: NativeSessionManager) -> None:
    near, far = MemoryTarget("near"), Moody("far")
    with DualStoreManager(m, WS, [near, far], consistency="strict") as store:
        store.insert(message("a", "x"))
        assert all((WS, Key("message", "a")) in each.records for each in (near, far))
        far.away = True
        with pytest.raises(NotConfirmedError) as caught:
            store.insert(message("b", "y"))
        assert caught.value.targets == {"far": "it is away"}
        assert store.get("b") is not None
        assert (WS, Key("message", "b")) in near.records
        found = store.check_consistency("b")
        assert (found.has_document, found.targets) == (True, {"near": "same", "far": "it is away"})
        far.away = False
        store.insert({"id": "event:e", "text": '{"type": "noted"}'})
        assert store.check_consistency("b").is_consistent
        far.away = True
        with pytest.raises(NotConfirmedError):
            store.insert({"id": "event:f", "text": '{"type": "noted"}'})
        with pytest.raises(NotConfirmedError):
            store.insert({"id": "session:t", "text": '{"title": "T"}'})


def test_what_a_target_refuses_is_named_and_sent_again(m: NativeSessionManager) -> None:
    target = Moody()
    with DualStoreManager(m, WS, [target], consistency="strict") as store:
        with pytest.raises(NotConfirmedError, match="it refused: poison"):
            store.insert(message("a", "poison"))
        assert store.retry_vector_write("a") == {"memory": "it refused: poison"}
        report = store.get_consistency_report()["memory"]
        assert report.rejected == {Key("message", "a"): "poison"}
        assert report.missing == [Key("message", "a")]
        store.insert(message("a", "good"))
        assert store.retry_vector_write("a") == {}
        target.records[WS, Key("message", "a")] = target.records[WS, Key("message", "a")]._replace(rev=10_000)
        assert store.check_consistency("a").targets == {"memory": "ahead"}
        assert store.retry_vector_write("a") == {}
        assert store.check_consistency("a").is_consistent
        with pytest.raises(NotFoundError):
            store.retry_vector_write("none")
        assert store.check_consistency("none") == ("none", False, {})


def test_the_report_is_of_everything_and_says_what_could_not_be_asked(m: NativeSessionManager) -> None:
    near, far = MemoryTarget("near"), Moody("far")
    with DualStoreManager(m, WS, [near, far], consistency="strict") as store:
        for n in range(150):
            m.add_message(WS, "s", id=f"m{n:03}", role="user", content="x")
        m.record_event(WS, "noted")
        store.insert(message("last", "x"))
        del near.records[WS, Key("message", "m000")]
        near.records[WS, Key("message", "m001")] = near.records[WS, Key("message", "m001")]._replace(rev=1)
        near.records[WS, Key("message", "zz")] = Change(WS, Key("message", "zz"), 1, {"id": "zz"}, "s")
        far.away = True
        found = store.get_consistency_report()
        assert found["near"][:5] == (
            153,
            151,
            [Key("message", "m000")],
            [Key("message", "m001")],
            [Key("message", "zz")],
        )
        assert found["far"].failed == "the sync target 'far' is not available: it is away"


def test_relevance_is_a_target_s_where_one_has_vectors_and_is_there(m: NativeSessionManager) -> None:
    target = Vectors("vectors")
    with DualStoreManager(m, WS, [MemoryTarget(), target], consistency="strict") as store:
        for name, text in (("a", "x"), ("b", "xxxx"), ("c", "xxxxxxxx")):
            store.insert(message(name, text))
        found = store.get_most_relevant(["yyyy", "y"], 2)
        assert (found.by, found.is_semantic) == ("vectors", False)
        assert sorted((each.entry.id, each.score) for each in found.hits) == [("a", 1.0), ("b", 1.0)]
        assert [each.entry.id for each in store.get_most_relevant(["y"], 3, {"id": {"$ne": "a"}}).hits] == ["b", "c"]
        m.revert(WS, "s", "b")
        assert [each.entry.id for each in store.get_most_relevant(["y"], 3).hits] == ["a", "b"]
        m.delete_message(WS, "a")
        assert [each.entry.id for each in store.get_most_relevant(["y"], 1).hits] == ["b"]
        target.away = True
        found = store.get_most_relevant(["xxxx"], 2)
        assert (found.by, found.failed) == ("lexical", {"vectors": "it is away"})
        assert [each.entry.id for each in found.hits] == ["b"]


def test_relevance_is_of_the_collection_and_asks_for_more_until_there_are_enough(m: NativeSessionManager) -> None:
    for n in range(30):
        m.create_session(WS, id=f"s{n}", title="y")
    m.add_messages(WS, "s1", [{"id": f"m{n}", "role": "user", "content": "y" * (n + 3)} for n in range(3)])
    m.record_event(WS, "noted", {"said": "yyy"})
    target = Vectors("vectors")
    with DualStoreManager(m, WS, [target], consistency="strict", collection="sessions") as store:
        store.insert({"id": "session:last", "text": '{"title": "zz"}'})
        assert len(store.get_most_relevant(["y"], 30).hits) == 30
        assert store.get_most_relevant(["zz"], 1).hits[0].entry.id == "session:last"
    target.counts.clear()
    with DualStoreManager(m, WS, [target]) as store:
        assert [each.entry.id for each in store.get_most_relevant(["y"], 2).hits] == ["m0", "m1"]
        assert len(target.counts) > 1
        assert store.get_most_relevant(["y"], 50, {"id": "m2"}).hits[0].entry.text == "yyyyy"
    with DualStoreManager(m, WS, [target], collection="opencode_events") as store:
        found = store.get_most_relevant(["-YYY OR"], 2)
        assert (found.by, found.hits) == ("lexical", [])
        assert [each.entry.metadata["eventType"] for each in store.get_most_relevant(["-YYY"], 2).hits] == ["noted"]


def test_another_process_that_pushes_keeps_nobody_from_asking(m: NativeSessionManager) -> None:
    target = Vectors("vectors")
    with DualStoreManager(m, WS, [target], consistency="strict", timeout=0.1) as store:
        store.insert(message("a", "x"))
        with (
            NativeSessionManager(m.data_dir, durability="os") as other,
            Synchronizer(other, [MemoryTarget("vectors")]) as synchronizer,
        ):
            synchronizer.with_carrier(WS, "vectors", lambda _: check_while_held(store))


def check_while_held(store: DualStoreManager) -> None:
    assert store.get_most_relevant(["y"]).by == "vectors"
    assert store.check_consistency("a").is_consistent
    with pytest.raises(NotConfirmedError, match="vectors"):
        store.insert(message("b", "y"))


def test_an_event_is_checked_and_sent_again_as_any_record(m: NativeSessionManager) -> None:
    target = Moody()
    with DualStoreManager(m, WS, [target], consistency="strict") as store:
        store.insert({"id": "event:e", "text": '{"type": "noted"}'})
        assert store.check_consistency("event:e").targets == {"memory": "same"}
        (place,) = [each for each in target.records if each[1].kind == "event"]
        del target.records[place]
        assert store.check_consistency("event:e") == ("event:e", True, {"memory": "missing"})
        assert store.retry_vector_write("event:e") == {}
        assert store.check_consistency("event:e").is_consistent
        with pytest.raises(NotConfirmedError, match="it refused: poison"):
            store.insert({"id": "event:f", "text": '{"type": "noted", "properties": {"a": "poison"}}'})
        assert store.get("event:f") is not None
        assert store.retry_vector_write("event:f") == {"memory": "it refused: poison"}
        with pytest.raises(NotFoundError):
            store.retry_vector_write("event:none")


def test_what_was_not_sent_at_close_is_sent_by_the_next_and_the_queue_says_so(m: NativeSessionManager) -> None:
    target = Moody()
    target.away = True
    with DualStoreManager(m, WS, [target]) as store:
        until(lambda: store.queue_stats()[0].error is not None)
        behind = store.queue_stats()[0].behind
        for n in range(3):
            store.insert(message(f"m{n}", "x"))
        assert store.queue_stats()[0].behind == (behind or 0) + 3
        assert "it is away" in str(store.queue_stats()[0].error)
    assert not target.records
    target.away = False
    with DualStoreManager(m, WS, [target]) as store:
        until(lambda: store.queue_stats()[0].behind == 0)
        assert store.queue_stats()[0].error is None
        assert all(store.check_consistency(f"m{n}").is_consistent for n in range(3))
