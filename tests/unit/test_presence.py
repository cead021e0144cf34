"""Who is connected to a session, alone or with others, and heartbeats that are late."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import (
    ConnectionClosedError,
    InvalidInputError,
    ManualClock,
    NativeSessionManager,
    SessionInUseError,
)
from nomad_sessions.storage.codec import encode
from tests.support.clocks import MovedFileSystem

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
