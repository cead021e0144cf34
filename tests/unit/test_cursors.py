"""Durable cursors: what was not acknowledged comes again, and nothing is skipped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import CorruptionError, EventsPrunedError, InvalidInputError, LockTimeoutError
from nomad_sessions.models import Event
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    manager = NativeSessionManager(tmp_path / "data", durability="os")
    manager.create_session(WS, id="s")
    return manager


def add(m: NativeSessionManager, count: int) -> list[int]:
    return [there(m.add_message(WS, "s", role="user", content=str(n)).rev) for n in range(count)]


def file(m: NativeSessionManager, name: str) -> Path:
    return Path(m.data_dir) / WS / "cursors" / f"{name}.json"


def test_what_was_not_acknowledged_comes_again(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="indexer") as subscription:
        seqs = add(m, 5)
        events = [there(subscription.next(5)) for _ in range(4)]
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


def test_a_callback_s_return_acknowledges(m: NativeSessionManager) -> None:
    got: list[int] = []

    def callback(event: Event) -> None:
        if len(got) == 2:
            raise RuntimeError("not this one")
        got.append(event.seq)

    subscription = m.subscribe(WS, cursor="c", callback=callback)
    seqs = add(m, 4)
    until = time.monotonic() + 10
    while not subscription.closed:
        assert time.monotonic() < until
        time.sleep(0.005)
    assert got == seqs[:2], "it ends, so that nothing is skipped"
    with m.subscribe(WS, cursor="c") as again:
        assert [there(again.next(5)).seq for _ in range(2)] == seqs[2:]


def test_one_holder_at_a_time(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c"):
        with pytest.raises(LockTimeoutError, match="cursors"), NativeSessionManager(m.data_dir) as other:
            other.subscribe(WS, cursor="c")
        with pytest.raises(LockTimeoutError):
            m.subscribe(WS, cursor="c")
        m.subscribe(WS, cursor="another").close()
    m.subscribe(WS, cursor="c").close()


def test_what_the_log_no_longer_has_is_said_at_once(m: NativeSessionManager) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    m.subscribe(WS, cursor="c").close()
    for _ in range(4):
        add(m, 200)
        m.checkpoint(WS)
    with pytest.raises(EventsPrunedError) as told:
        m.subscribe(WS, cursor="c")
    with m.subscribe(WS, since=told.value.first - 1) as subscription:
        assert there(subscription.next(5)).seq == told.value.first


def test_a_cursor_of_another_past_is_told(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c") as subscription:
        add(m, 3)
        for _ in range(3):
            subscription.next(5)
        subscription.ack()
    kept = file(m, "c").read_bytes()
    m.delete_workspace(WS)
    m.create_session(WS, id="s")
    file(m, "c").parent.mkdir()
    file(m, "c").write_bytes(kept)
    with pytest.raises(EventsPrunedError):
        m.subscribe(WS, cursor="c")
    add(m, 9)
    with pytest.raises(EventsPrunedError):
        m.subscribe(WS, cursor="c")
    file(m, "c").unlink()
    m.subscribe(WS, cursor="c").close()


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
