"""Clients of a session: states, who is connected, heartbeats that are late, an orderly end."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nomad_sessions import (
    Connection,
    ConnectionClosedError,
    InvalidInputError,
    ManualClock,
    NativeSessionManager,
    SessionInUseError,
    SessionNotFoundError,
    SessionStateError,
    StoreClosedError,
)
from nomad_sessions.storage.codec import encode
from tests.support.clocks import MovedFileSystem
from tests.support.there import there

WS = "ws"


@pytest.fixture
def moved() -> MovedFileSystem:
    return MovedFileSystem()


@pytest.fixture
def m(tmp_path: Path, clock: ManualClock, moved: MovedFileSystem) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os", clock=clock, filesystem=moved.fs) as manager:
        manager.create_session(WS, id="s")
        yield manager


def files(m: NativeSessionManager) -> list[str]:
    return sorted(os.listdir(Path(m.data_dir) / WS / "connections"))


# States


def test_a_session_goes_from_open_to_closed_to_archived_and_back_and_every_other_way_raises(
    m: NativeSessionManager,
) -> None:
    ways: dict[str, Callable[[], Connection]] = {
        "open": lambda: m.open_session(WS, "s"),
        "resume": lambda: m.resume_session(WS, "s"),
    }

    def refused(way: str, state: str) -> None:
        before = there(m.get_session(WS, "s"))
        with pytest.raises(SessionStateError) as told:
            ways[way]()
        assert (told.value.session_id, told.value.state) == ("s", state)
        assert m.get_session(WS, "s") == before, "what is refused changes nothing"
        assert m.connections(WS) == []

    refused("resume", "open")
    ways["open"]().close()
    m.close_session(WS, "s")
    refused("open", "closed")
    ways["resume"]().close()
    refused("resume", "open")
    m.archive_session(WS, "s")
    refused("open", "archived")
    m.close_session(WS, "s")
    refused("open", "archived")
    with ways["resume"]() as connection:
        session = there(m.get_session(WS, "s"))
        assert (session.closed_at, session.archived_at) == (None, None)
        assert [each.id for each in m.connections(WS, "s")] == [connection.info.id]
    refused("resume", "open")


def test_resuming_is_one_change(m: NativeSessionManager) -> None:
    m.close_session(WS, "s")
    m.archive_session(WS, "s")
    before = m.status(WS).seq
    m.resume_session(WS, "s").close()
    (event,) = m.events(WS, since=before)
    assert event.properties == {"unset": ["archivedAt", "closedAt"]}


def test_of_what_is_not_there_both_say_so(m: NativeSessionManager) -> None:
    for call in (m.open_session, m.resume_session):
        for workspace in (WS, "never"):
            with pytest.raises(SessionNotFoundError):
                call(workspace, "nobody")
    assert m.list_workspaces() == [WS], "asking makes no workspace"


def test_a_session_that_is_closed_while_one_connects_is_not_open_to_it(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = m._connect

    def slowly(*args: object) -> Connection:
        m.close_session(WS, "s")
        return connect(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(m, "_connect", slowly)
    with pytest.raises(SessionStateError):
        m.open_session(WS, "s")
    assert m.connections(WS) == []


def test_who_loses_the_race_to_resume_connects_to_nothing(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = m._connect

    def slowly(*args: object) -> Connection:
        m.reopen_session(WS, "s")
        return connect(*args)  # type: ignore[arg-type]

    m.close_session(WS, "s")
    monkeypatch.setattr(m, "_connect", slowly)
    with pytest.raises(SessionStateError):
        m.resume_session(WS, "s")
    assert m.connections(WS) == []


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("client", {"client": ""}),
        ("client", {"client": " "}),
        ("client", {"client": 3}),
        ("exclusive", {"exclusive": 1}),
        ("expiresAfter", {"expires_after": 0}),
        ("expiresAfter", {"expires_after": -1.0}),
        ("expiresAfter", {"expires_after": float("nan")}),
        ("expiresAfter", {"expires_after": float("inf")}),
        ("expiresAfter", {"expires_after": True}),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(
    m: NativeSessionManager, field: str, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidInputError) as told:
        m.open_session(WS, "s", **options)  # type: ignore[arg-type]
    assert told.value.field == field
    assert m.connections(WS) == []


# Who is connected


def test_who_is_connected_is_told_with_all_that_is_known_and_costs_the_journal_nothing(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    m.create_session(WS, id="t")
    before = m.status(WS)
    clock.advance(-3_600_000)
    two = m.open_session(WS, "t", client="b \ud83d\n", exclusive=True, expires_after=30)
    one = m.open_session(WS, "s", client="a")
    found = m.connections(WS)
    assert [each._replace(heartbeat_age=0.0) for each in found] == [one.info, two.info]
    assert (found[1].pid, found[1].client, found[1].exclusive) == (os.getpid(), "b \ud83d\n", True)
    assert (found[1].session_id, found[1].workspace_id, found[1].since) == ("t", WS, clock.now())
    assert found[1].machine
    assert [each.client for each in m.connections(WS, "s")] == ["a"]
    assert m.connections(WS, "nobody") == []
    one.close()
    two.close()
    assert m.connections(WS) == []
    assert files(m) == ["lock"]
    assert m.status(WS) == before


def test_the_default_name_of_a_client_is_the_programs(m: NativeSessionManager) -> None:
    with m.open_session(WS, "s") as connection:
        assert connection.info.client


def test_any_number_may_share_and_one_alone_shuts_out_the_others(m: NativeSessionManager) -> None:
    shared = [m.open_session(WS, "s", client=f"window {number}") for number in range(3)]
    with pytest.raises(SessionInUseError, match="'window 0'") as told:
        m.open_session(WS, "s", exclusive=True)
    assert [each.client for each in told.value.holders] == ["window 0", "window 1", "window 2"]
    assert told.value.session_id == "s"
    for each in shared:
        each.close()
    with m.open_session(WS, "s", client="alone", exclusive=True):
        for exclusive in (False, True):
            with pytest.raises(SessionInUseError, match=f"'alone' \\(pid {os.getpid()} on "):
                m.open_session(WS, "s", exclusive=exclusive)
        m.create_session(WS, id="another")
        m.open_session(WS, "another", exclusive=True).close()
    m.open_session(WS, "s", exclusive=True).close()


def test_ids_of_other_tools_are_no_paths(m: NativeSessionManager) -> None:
    for session_id in ("../../etc/passwd", "a/b", "x" * 512, "zwölf\0"):
        m.create_session(WS, id=session_id)
        with m.open_session(WS, session_id, exclusive=True):
            assert [each.session_id for each in m.connections(WS)] == [session_id]
            with pytest.raises(SessionInUseError):
                m.open_session(WS, session_id)


def test_what_the_dead_left_is_removed_and_what_nobody_understands_is_in_nobodys_way(m: NativeSessionManager) -> None:
    connection = m.open_session(WS, "s", exclusive=True)
    folder = Path(m.data_dir) / WS / "connections"
    entry = (folder / f"{connection.info.id}.json").read_bytes()
    connection.close()
    (folder / "1-dead.json").write_bytes(entry)
    (folder / "1-dead.lock").touch()
    (folder / "2-dead.json").write_bytes(entry)
    (folder / "3-dead.tmp").write_bytes(b"half of it")
    (folder / "4-dead.json").write_bytes(bytes(20))
    assert m.connections(WS) == []
    with m.open_session(WS, "s", exclusive=True) as again:
        assert files(m) == [f"{again.info.id}.json", f"{again.info.id}.lock", "lock"]
        (folder / f"{again.info.id}.json").write_bytes(encode({"what": "is this"}))
        assert m.connections(WS) == [], "it lives, but nobody knows who that is"


def test_reading_who_is_there_changes_no_file_and_makes_none(m: NativeSessionManager) -> None:
    assert m.connections(WS) == []
    assert not (Path(m.data_dir) / WS / "connections").exists()


def test_deleting_the_workspace_ends_connections(m: NativeSessionManager) -> None:
    connection = m.open_session(WS, "s", exclusive=True)
    m.delete_workspace(WS)
    assert not (Path(m.data_dir) / WS).exists()
    with pytest.raises(ConnectionClosedError, match="lost"):
        connection.heartbeat()
    connection.close()
    assert connection.state == "closed"


def test_without_a_descriptor_to_ask_with_nobody_is_taken_for_dead(
    m: NativeSessionManager, moved: MovedFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(path: str, flags: int, mode: int = 0o600) -> int:
        raise OSError(errno.EMFILE, "too many open files", path)

    with m.open_session(WS, "s", exclusive=True):
        with monkeypatch.context() as patched:
            patched.setattr(moved, "open", no_more, raising=False)
            with pytest.raises(OSError, match="too many"):
                m.connections(WS)
        with pytest.raises(SessionInUseError):
            m.open_session(WS, "s")


# Heartbeats


def test_a_client_that_promised_no_heartbeat_is_never_late(m: NativeSessionManager, moved: MovedFileSystem) -> None:
    with m.open_session(WS, "s", exclusive=True):
        moved.ahead += 1e9
        assert not m.connections(WS)[0].expired
        with pytest.raises(SessionInUseError):
            m.open_session(WS, "s")


def test_a_client_that_is_late_loses_its_place_to_the_next_and_is_told(
    m: NativeSessionManager, moved: MovedFileSystem
) -> None:
    late = m.open_session(WS, "s", client="late", exclusive=True, expires_after=30)
    moved.ahead += 29
    with pytest.raises(SessionInUseError):
        m.open_session(WS, "s")
    late.heartbeat()
    moved.ahead += 29
    with pytest.raises(SessionInUseError):
        m.open_session(WS, "s", exclusive=True)
    moved.ahead += 2
    assert m.connections(WS)[0].expired
    with m.open_session(WS, "s", client="next", exclusive=True):
        assert [each.client for each in m.connections(WS)] == ["next"]
        with pytest.raises(ConnectionClosedError, match="lost"), late.busy():
            raise AssertionError("it may not begin")
        assert late.state == "lost"
        for call in (late.heartbeat, late.follow):
            with pytest.raises(ConnectionClosedError, match="lost"):
                call()
        late.close()
        assert [each.client for each in m.connections(WS)] == ["next"], "its end is not the other's"


def test_a_client_that_is_late_and_in_nobodys_way_is_there_again_with_its_next_heartbeat(
    m: NativeSessionManager, moved: MovedFileSystem
) -> None:
    late = m.open_session(WS, "s", client="late", expires_after=1)
    moved.ahead += 10
    m.open_session(WS, "s", client="other")
    assert [(each.client, each.expired) for each in m.connections(WS)] == [("late", True), ("other", False)]
    late.heartbeat()
    assert [each.expired for each in m.connections(WS)] == [False, False]
    moved.ahead += 10
    with pytest.raises(SessionInUseError) as told:
        m.open_session(WS, "s", exclusive=True)
    assert [each.client for each in told.value.holders] == ["other"]
    late.heartbeat()
    assert late.state == "open", "who was refused took nobody's place"


def test_clock_jumps_expire_nobody(m: NativeSessionManager, clock: ManualClock) -> None:
    connection = m.open_session(WS, "s", exclusive=True, expires_after=60)
    for jump in (3_600_000, -7_200_000, 10**12, -(10**12)):
        clock.advance(jump)
        connection.heartbeat()
        assert not m.connections(WS)[0].expired
        with pytest.raises(SessionInUseError):
            m.open_session(WS, "s")
    assert connection.info.since == m.connections(WS)[0].since


def test_a_monotonic_clock_that_is_behind_expires_nobody_either(
    m: NativeSessionManager, moved: MovedFileSystem
) -> None:
    with m.open_session(WS, "s", exclusive=True, expires_after=1):
        moved.ahead -= 1e6
        (found,) = m.connections(WS)
        assert (found.heartbeat_age, found.expired) == (0.0, False)


# The end


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
