"""What a client of a session holds comes to an orderly end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions import ConnectionClosedError, NativeSessionManager, SessionInUseError, StoreClosedError
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


def test_the_end_waits_for_what_is_under_way_and_lets_nothing_more_begin(m: NativeSessionManager) -> None:
    connection = m.open_session(WS, "s", exclusive=True)
    begun, go_on, told = threading.Event(), threading.Event(), list[str]()

    def work() -> None:
        with connection.busy():
            begun.set()
            go_on.wait(10)
            m.add_message(WS, "s", role="user", content="the last")
            told.append("written")

    def end() -> None:
        connection.close()
        told.append("closed")

    threads = [threading.Thread(target=each) for each in (work, end)]
    threads[0].start()
    begun.wait(10)
    threads[1].start()
    while connection.state != "closing":
        time.sleep(0.001)
    with pytest.raises(ConnectionClosedError, match="closing"), connection.busy():
        raise AssertionError("it may not begin")
    with pytest.raises(SessionInUseError):
        m.open_session(WS, "s")
    assert told == []
    go_on.set()
    for each in threads:
        each.join(10)
    assert told == ["written", "closed"]
    m.open_session(WS, "s", exclusive=True).close()


def test_closing_twice_or_with_work_of_ones_own_is_harmless(m: NativeSessionManager) -> None:
    with m.open_session(WS, "s") as connection, connection.busy():
        connection.close()
        connection.close()
        assert connection.state == "closed"
    assert m.connections(WS) == []
    with pytest.raises(ConnectionClosedError, match="closed"):
        connection.heartbeat()


def test_the_end_waits_no_longer_than_it_is_told_to(m: NativeSessionManager) -> None:
    connection = m.open_session(WS, "s")
    go_on, begun = threading.Event(), threading.Event()

    def work() -> None:
        with connection.busy():
            begun.set()
            go_on.wait(10)

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(10)
    connection.close(timeout=0.01)
    assert connection.state == "closed"
    assert m.connections(WS) == []
    go_on.set()
    worker.join(10)


def test_ctrl_c_while_it_waits_lets_go_all_the_same(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = m.open_session(WS, "s", exclusive=True)

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(connection._condition, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connection.close()
    assert connection.state == "closed"
    m.open_session(WS, "s", exclusive=True).close()


def test_what_was_written_is_synced_before_another_has_the_place(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    workspace = m.workspace(WS)
    connection = m.open_session(WS, "s", exclusive=True)

    def noted(what: str, call: Callable[[], None]) -> Callable[[], None]:
        def noting() -> None:
            order.append(what)
            call()

        return noting

    monkeypatch.setattr(workspace, "flush", noted("synced", workspace.flush))
    monkeypatch.setattr(connection._presence, "leave", noted("left", connection._presence.leave))
    connection.close()
    assert order == ["synced", "left"]


def test_a_sync_that_fails_at_the_end_is_told_and_the_place_is_free(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = m.open_session(WS, "s", exclusive=True)

    def fail() -> None:
        raise OSError(5, "the disk")

    with monkeypatch.context() as patched:
        patched.setattr(m.workspace(WS), "flush", fail)
        with pytest.raises(OSError, match="the disk"):
            connection.close()
    assert connection.state == "closed"
    assert m.connections(WS) == []


def test_closing_the_manager_ends_connections_and_what_they_follow(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        connection = m.open_session(WS, "s")
        following = connection.follow()
    assert connection.state == "closed"
    assert following.closed
    with pytest.raises(StoreClosedError):
        m.open_session(WS, "s")
    with NativeSessionManager(tmp_path) as again:
        assert again.connections(WS) == []


def test_following_ends_with_the_connection(m: NativeSessionManager) -> None:
    with m.open_session(WS, "s") as connection:
        following = connection.follow()
        assert there(following.next(5)).type == "session.snapshot"
    assert following.closed
    assert repr(connection) == f"Connection('s', client={connection.info.client!r}, exclusive=False, closed)"


def test_threads_that_connect_at_once_agree_on_the_one_that_is_alone(m: NativeSessionManager) -> None:
    got: list[object] = []
    barrier = threading.Barrier(6)

    def connect() -> None:
        barrier.wait()
        try:
            got.append(m.open_session(WS, "s", exclusive=True))
        except SessionInUseError as error:
            got.append(error)

    threads = [threading.Thread(target=connect) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert sorted(type(each).__name__ for each in got) == ["Connection", *["SessionInUseError"] * 5]
