"""The client against the genuine OpenCode server: what it asks is answered, and what it gets is whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from nomad_sessions.errors import SourceUnavailableError
from nomad_sessions.sources import OpenCodeClient, OpenCodeEvent
from tests.support.opencode import OpenCode, Server, free_port, needs_opencode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    needs_opencode()
    program = OpenCode(tmp_path_factory.mktemp("opencode"))
    with program.serve(free_port()) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[OpenCodeClient]:
    with OpenCodeClient(server.url) as client:
        yield client


def post(server: Server, path: str, body: dict[str, Any]) -> Any:
    return httpx.post(server.url + path, json=body, timeout=30).raise_for_status().json()


def test_it_gives_sessions_messages_and_parts_as_they_were_made(server: Server, client: OpenCodeClient) -> None:
    made = post(server, "/session", {"title": "Ünïcode one", "metadata": {"n": [1, {"x": None}]}})
    parts = [{"type": "text", "text": "hi\u2028there"}, {"type": "text", "text": "again"}]
    told = post(server, f"/session/{made['id']}/message", {"noReply": True, "parts": parts})
    client.ping()
    assert client.where() == made["directory"]
    found = client.session(made["id"])
    assert found is not None
    assert found["metadata"] == {"n": [1, {"x": None}]}
    assert found in client.sessions()
    assert [each["id"] for each in client.sessions(search="ünïCODE ONE")] in ([made["id"]], [])
    assert [each["id"] for each in client.sessions(search="one")] == [made["id"]]
    messages = client.messages(made["id"])
    assert messages is not None
    assert [part["text"] for part in messages[0]["parts"]] == ["hi\u2028there", "again"]
    assert client.message(made["id"], told["info"]["id"]) == messages[0]
    assert client.todos(made["id"]) == []


def test_what_is_not_there_is_none(client: OpenCodeClient) -> None:
    assert client.session("ses_none") is None
    assert client.messages("ses_none") is None
    assert client.message("ses_none", "msg_none") is None
    assert client.todos("ses_none") == []


def test_it_tells_what_happens_and_stops_when_it_is_closed(server: Server, client: OpenCodeClient) -> None:
    seen: list[OpenCodeEvent] = []
    with client.events() as events:
        stream = iter(events)
        assert next(stream).type == "server.connected"
        made = post(server, "/session", {"title": "line\u2028break"})
        event = next(each for each in stream if each.type == "session.created")
        assert event.id.startswith("evt_")
        assert event.properties["info"]["id"] == made["id"]
        assert event.properties["info"]["title"] == "line\u2028break"
        closer = threading.Timer(0.1, events.close)
        closer.start()
        with pytest.raises(SourceUnavailableError):
            seen.extend(stream)
        closer.join()


def test_a_password_is_sent_and_never_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    needs_opencode()
    program = OpenCode(tmp_path_factory.mktemp("locked"))
    with program.serve(free_port(), OPENCODE_SERVER_PASSWORD="very secret") as server:
        with OpenCodeClient(server.url, password="very secret") as client:
            client.ping()
            assert client.sessions() == []
            with client.events() as events:
                assert next(iter(events)).type == "server.connected"
            assert "secret" not in repr(client)
        with OpenCodeClient(server.url, password="wrong secret") as client:
            with pytest.raises(SourceUnavailableError, match="set OPENCODE_SERVER_PASSWORD") as caught:
                client.sessions()
            assert "secret" not in str(caught.value)
        server.kill()
        with OpenCodeClient(server.url, password="very secret") as client:
            with pytest.raises(SourceUnavailableError, match="refused") as caught:
                client.sessions()
            assert "secret" not in str(caught.value)
