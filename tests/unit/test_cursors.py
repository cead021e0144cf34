"""Durable cursors: what was not acknowledged comes again, and nothing is skipped."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import (
    CorruptionError,
    EventsPrunedError,
    InvalidInputError,
    LockTimeoutError,
    SubscriptionClosedError,
)
from tests.support.subscribers import WS, add, everything, take
from tests.support.there import there


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    manager = NativeSessionManager(tmp_path / "data", durability="os")
    manager.create_session(WS, id="s")
    return manager


def file(m: NativeSessionManager, name: str) -> Path:
    return Path(m.data_dir) / WS / "cursors" / f"{name}.json"


def test_what_was_not_acknowledged_comes_again(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="indexer") as subscription:
        seqs = add(m, 5)
        events = take(subscription, 4)
        subscription.ack(events[1])
        subscription.ack(events[0])
        assert json.loads(file(m, "indexer").read_text())["seq"] == seqs[1], "it never goes back"
    with NativeSessionManager(m.data_dir) as other, other.subscribe(WS, cursor="indexer", since=0) as subscription:
        assert [there(subscription.next(5)).seq for _ in range(3)] == seqs[2:]
        subscription.ack()
    with m.subscribe(WS, cursor="indexer") as subscription:
        assert subscription.next(0.01) is None


def test_a_new_cursor_begins_where_it_is_told_and_stays_there(m: NativeSessionManager) -> None:
    seqs = add(m, 3)
    for since, expected in ((0, [1, *seqs]), (seqs[0], seqs[1:])):
        for _ in range(2):
            with m.subscribe(WS, cursor=f"from-{since}", since=since) as subscription:
                assert [there(subscription.next(5)).seq for _ in expected] == expected
    m.subscribe(WS, cursor="now").close()
    seqs = add(m, 2)
    with m.subscribe(WS, cursor="now") as subscription:
        assert [there(subscription.next(5)).seq for _ in seqs] == seqs


def test_one_holder_at_a_time(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c"):
        with pytest.raises(LockTimeoutError, match="cursors"), NativeSessionManager(m.data_dir) as other:
            other.subscribe(WS, cursor="c")
        with pytest.raises(LockTimeoutError):
            m.subscribe(WS, cursor="c")
        m.subscribe(WS, cursor="another").close()
    m.subscribe(WS, cursor="c").close()


def test_one_that_the_retention_has_overtaken_is_told_once_and_goes_on(m: NativeSessionManager) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    m.subscribe(WS, cursor="c").close()
    noted = m.record_event(WS, "note")
    for _ in range(4):
        last = add(m, 200)[-1]
        m.checkpoint(WS)
    for _ in range(2):  # Until it acknowledges something.
        with m.subscribe(WS, cursor="c") as subscription:
            with pytest.raises(EventsPrunedError) as told:
                subscription.next(5)
            first = told.value.first
            assert everything(subscription, last) == [noted, *range(first, last + 1)], "what was recorded is kept"
    with m.subscribe(WS, cursor="c") as subscription:
        assert everything(subscription, last)[0] == 0
        subscription.ack()
    with m.subscribe(WS, cursor="c") as subscription:
        assert subscription.next(0.01) is None


def test_a_cursor_of_another_past_is_told_and_begins_anew(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c") as subscription:
        last = add(m, 3)[-1]
        everything(subscription, last)
        subscription.ack()
    kept = file(m, "c").read_bytes()
    m.delete_workspace(WS)
    m.create_session(WS, id="s")
    file(m, "c").parent.mkdir()
    file(m, "c").write_bytes(kept)
    with m.subscribe(WS, cursor="c") as subscription, pytest.raises(EventsPrunedError):
        subscription.next(5)
    last = add(m, 9)[-1]
    with m.subscribe(WS, cursor="c") as subscription:
        assert everything(subscription, last) == [0, *range(1, last + 1)]
        subscription.ack()
    with m.subscribe(WS, cursor="c") as subscription:
        assert subscription.next(0.01) is None


def test_what_is_acknowledged_after_the_end_is_refused(m: NativeSessionManager) -> None:
    subscription = m.subscribe(WS, cursor="c")
    add(m, 3)
    first, second = take(subscription, 2)
    subscription.ack(first)
    subscription.close()
    with m.subscribe(WS, cursor="c") as other:
        other.ack(take(other, 2)[1])
        with pytest.raises(SubscriptionClosedError, match="c of ws"):
            subscription.ack(second)
    assert json.loads(file(m, "c").read_text())["seq"] == second.seq + 1


def test_of_several_threads_that_acknowledge_the_furthest_counts(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c") as subscription, ThreadPoolExecutor(4) as threads:
        add(m, 200)
        events = take(subscription, 200)
        for each in [threads.submit(subscription.ack, event) for event in events]:
            each.result()
    assert json.loads(file(m, "c").read_text())["seq"] == events[-1].seq


def test_with_its_workspace_a_cursor_is_gone(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c") as subscription:
        add(m, 1)
        take(subscription, 1)
        m.delete_workspace(WS)
        with pytest.raises(SubscriptionClosedError):
            subscription.ack()
        assert not file(m, "c").parent.exists()


def test_they_are_listed_and_deleted(m: NativeSessionManager) -> None:
    assert m.list_cursors(WS) == m.list_cursors("nobody") == []
    with m.subscribe(WS, cursor="b"), m.subscribe(WS, cursor="a", since=0):
        assert m.list_cursors(WS) == [("a", 0, True), ("b", 1, True)]
        with pytest.raises(LockTimeoutError):
            m.delete_cursor(WS, "a")
    assert [each.held for each in m.list_cursors(WS)] == [False, False]
    assert m.delete_cursor(WS, "a")
    assert not m.delete_cursor(WS, "a")
    assert not m.delete_cursor("nobody", "a")
    assert [each.name for each in m.list_cursors(WS)] == ["b"]
    with pytest.raises(InvalidInputError, match="cursor"):
        m.delete_cursor(WS, "../x")
    assert m.list_workspaces() == [WS]


def test_a_damaged_cursor_and_a_bad_name_are_named(m: NativeSessionManager) -> None:
    m.subscribe(WS, cursor="c").close()
    for damage in (b"", b"{", b"[]", b'{"seq": "x", "id": ""}'):
        file(m, "c").write_bytes(damage)
        with pytest.raises(CorruptionError, match=r"c\.json"):
            m.subscribe(WS, cursor="c")
    file(m, "c").unlink()
    m.subscribe(WS, cursor="c").close()
    for name in ("", "../x", "a/b", ".hidden", "x" * 65):
        with pytest.raises(InvalidInputError, match="cursor"):
            m.subscribe(WS, cursor=name)


def test_only_what_was_given_can_be_acknowledged(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c") as subscription:
        with pytest.raises(InvalidInputError, match="not given"):
            subscription.ack()
        add(m, 2)
        event = there(subscription.next(5))
        with pytest.raises(InvalidInputError, match="not given"):
            subscription.ack(event.model_copy(update={"seq": event.seq + 1}))
        subscription.ack(event)
