"""The states of a session, and the ways between them that a client may ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nomad_sessions import Connection, NativeSessionManager, SessionNotFoundError, SessionStateError
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


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
