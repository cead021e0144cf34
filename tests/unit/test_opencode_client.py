"""The client of an OpenCode server, for what the real one does not do when asked; and its settings."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nomad_sessions import InvalidInputError
from nomad_sessions.errors import SourceUnavailableError
from nomad_sessions.sources import OpenCodeClient

ANSWERS: dict[str, tuple[int, str]] = {}
SEEN: list[dict[str, str]] = []
GATE = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self) -> None:
        port = str(self.client_address[1])
        SEEN.append({"path": self.path, "port": port, **{key.lower(): value for key, value in self.headers.items()}})
        status, text = ANSWERS.get(self.path.partition("?")[0], (404, "{}"))
        if text == "hang":
            GATE.wait(30)
        data = text.encode()
        self.send_response(status)
        if self.path.startswith("/event"):
            self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(1000 if text == "cut" else len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = text == "cut"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("URL", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"OPENCODE_SERVER_{name}", raising=False)
    for name in ("OPENCODE_AUTH_TOKEN", "OPENCODE_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    ANSWERS.clear()
    SEEN.clear()
    GATE.clear()
    ANSWERS["/global/health"] = (200, "{}")
    ANSWERS["/path"] = (200, '{"directory": "/p"}')
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    GATE.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, "<html>"), "gives no JSON"),
        ((200, "{}"), "gives no list"),
        ((200, "[3]"), "what is no object"),
        ((500, "{}"), "it answers 500"),
        ((302, "{}"), "it answers 302"),
        ((401, "{}"), "set OPENCODE_SERVER_PASSWORD"),
        ((404, "{}"), "is it an OpenCode server"),
    ],
)
def test_what_is_no_answer_is_an_error_that_names_the_server(url: str, answer: tuple[int, str], said: str) -> None:
    ANSWERS["/session"] = answer
    with OpenCodeClient(url) as client, pytest.raises(SourceUnavailableError, match=said) as caught:
        client.sessions()
    assert caught.value.source == url


def test_a_server_that_does_not_answer_in_time_is_away(url: str) -> None:
    ANSWERS["/session"] = (200, "hang")
    with OpenCodeClient(url, timeout=0.1) as client, pytest.raises(SourceUnavailableError, match="timed out"):
        client.sessions()


def test_a_server_that_says_no_folder_is_none(url: str) -> None:
    ANSWERS["/path"] = (200, "{}")
    with OpenCodeClient(url) as client, pytest.raises(SourceUnavailableError, match="which directory"):
        client.sessions()


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("", "it ended the stream"),
        ("data: {\n\n", "an event is no JSON"),
        ("data: {}\n\n", "an event has no type"),
        ("data: [3]\n\n", "an event has no type"),
        ('data: {"type": "x", "properties": 3}\n\n', "an event has no type"),
    ],
)
def test_a_stream_that_ends_or_is_none_is_an_error(url: str, stream: str, said: str) -> None:
    ANSWERS["/event"] = (200, stream)
    with OpenCodeClient(url) as client, pytest.raises(SourceUnavailableError, match=said), client.events() as events:
        list(events)


def test_settings_come_from_the_environment_and_secrets_are_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCODE_SERVER_URL", url + "/")
    monkeypatch.setenv("OPENCODE_TIMEOUT", "2500")
    monkeypatch.setenv("OPENCODE_SERVER_PASSWORD", "pass word")
    with OpenCodeClient() as client:
        client.ping()
        assert client.url == url
        assert "pass" not in repr(client)
    assert SEEN[-1]["authorization"].startswith("Basic ")
    monkeypatch.setenv("OPENCODE_AUTH_TOKEN", "a-token")
    with OpenCodeClient() as client:
        client.ping()
        assert "a-token" not in repr(client)
    assert SEEN[-1]["authorization"] == "Bearer a-token"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"url": "127.0.0.1:4096"}, "url"),
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://me:secret@host"}, "url"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_bad_settings_are_named_without_their_secrets(url: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{named}: ") as caught:
        OpenCodeClient(**options)
    assert "secret" not in str(caught.value)


def test_ids_are_one_piece_of_a_path_and_the_folder_is_asked_once(url: str) -> None:
    ANSWERS["/session"] = (200, json.dumps([]))
    with OpenCodeClient(url) as client:
        for other in ("", ".", ".."):
            assert (client.session(other), client.messages(other), client.todos(other)) == (None, None, [])
            assert client.message("ses_1", other) is None
        assert SEEN == []
        assert client.session("a/../b?c") is None
        assert SEEN[-1]["path"] == "/session/a%2F..%2Fb%3Fc"
        client.sessions()
        client.sessions(search="x y")
        assert "directory=%2Fp" in SEEN[-1]["path"]
        assert sum(each["path"] == "/path" for each in SEEN) == 1


def test_without_the_extra_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "from nomad_sessions.sources import OpenCodeClient\n"
        "try:\n    OpenCodeClient()\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert 'pip install "nomad-sessions[opencode]"' in line


def test_a_list_that_ends_too_soon_is_none(url: str) -> None:
    ANSWERS["/session"] = (200, "cut")
    with OpenCodeClient(url) as client, pytest.raises(SourceUnavailableError, match="without sending complete"):
        client.sessions()


FORKED = """
import os, sys
from nomad_sessions.sources import OpenCodeClient


def in_a_child(do):
    child = os.fork()
    if child == 0:
        do()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


client = OpenCodeClient(sys.argv[1])
client.ping()
in_a_child(lambda: (client.ping(), client.close()))
client.ping()
with client.events() as events:
    in_a_child(events.close)
    print(next(iter(events)).type)
client.close()
client.ping()
"""


def test_a_forked_child_has_connections_of_its_own_and_ends_none_of_its_parent_s(url: str) -> None:
    ANSWERS["/event"] = (200, 'data: {"type": "said"}\n\n')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED, url], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "said\n"
    pings = [each["port"] for each in SEEN if each["path"] == "/global/health"]
    parent, child, again, before_events, reopened = pings
    assert parent == again == before_events
    assert len({parent, child, reopened}) == 3
