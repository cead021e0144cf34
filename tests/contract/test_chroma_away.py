"""A Chroma, or an embedder, that is away, slow or wrong: said so, nothing lost, and no secret told."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.embedders import HashingEmbedder, OllamaEmbedder
from nomad_sessions.errors import InvalidInputError, TargetUnavailableError
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.chroma import ChromaTarget
from tests.support.chroma import ChromaServer, chroma_server
from tests.support.chroma_cases import contents, message, opened
from tests.support.embedding_server import embedding_server


@contextlib.contextmanager
def proxy_that_says(url: str, status: int, body: str) -> Iterator[None]:
    """One in the server's place that gives everybody the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", urlsplit(url).port or 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_is_killed_and_started_again_has_what_was_confirmed(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "chroma") as server:
        target = ChromaTarget(HashingEmbedder(16), url=server.url, timeout=5)
        target.apply([message(f"m{n}", n, f"text {n}") for n in range(1, 50)])
        server.kill()
        for call in (target.ping, target.workspaces, lambda: target.apply([message("new", 60, "x")])):
            with pytest.raises(TargetUnavailableError, match="chroma"):
                call()
        server.start()
        target.ping()
        assert len(target.most_relevant(["text 7"], 5)) == 5
        server.kill()
        for _ in range(2):
            with pytest.raises(TargetUnavailableError):
                target.most_relevant(["text"])
        server.start()
        assert len(contents(target)) == 49
        assert len(target.most_relevant(["text 7"], 5)) == 5
        target.close()
        target.close()


def test_a_server_that_does_not_answer_is_away_after_its_time(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "chroma") as server:
        target = ChromaTarget(HashingEmbedder(16), url=server.url, timeout=0.3)
        target.ping()
        server.send(signal.SIGSTOP)
        for _ in range(2):  # A connection that there is, and a new one.
            with pytest.raises(TargetUnavailableError):
                target.ping()
        server.send(signal.SIGCONT)
        target.close()


def test_everything_comes_when_the_server_does(tmp_path: Path) -> None:
    server = ChromaServer(tmp_path / "chroma")
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        one = manager.create_session("ws")
        with Synchronizer(manager, [ChromaTarget(HashingEmbedder(16), url=server.url)]) as sync:
            with pytest.raises(TargetUnavailableError):
                sync.push("ws")
            manager.add_messages("ws", one.id, [{"role": "user", "content": f"m {n}"} for n in range(30)])
            try:
                server.start()
                sync.push("ws")
                assert sync.verify("ws", target="chroma") == []
            finally:
                server.kill()


def test_an_embedder_that_is_away_loses_nothing(tmp_path: Path) -> None:
    with embedding_server() as server, NativeSessionManager(tmp_path / "data", durability="os") as manager:
        one = manager.create_session("ws", title="t")
        target = ChromaTarget(OllamaEmbedder("m", url=server.url), path=tmp_path / "chroma")
        with Synchronizer(manager, [target]) as sync:
            sync.push("ws")
            server.misbehave = lambda texts: (500, {}, {"error": "out of memory"})
            manager.add_message("ws", one.id, role="user", content="abc")
            with pytest.raises(TargetUnavailableError, match="out of memory"):
                sync.push("ws")
            server.misbehave = lambda texts: (400, {}, {"error": "too long"}) if "abc" in texts else None
            manager.add_message("ws", one.id, role="user", content="def")
            pushed = sync.push("ws")["chroma", "ws"]
            assert pushed.rejected == 1
            ((_, _, letter),) = sync.dead("ws")
            assert "too long" in letter.reason
            server.misbehave = lambda texts: None
            assert sync.retry("ws").confirmed == 1
            assert sync.verify("ws", target="chroma") == []
            assert sync.dead("ws") == []


def test_no_header_is_told(tmp_path: Path) -> None:
    with embedding_server() as server:
        server.misbehave = lambda texts: (500, {}, {})
        headers = {"X-Chroma-Token": "very-secret"}
        target = ChromaTarget(HashingEmbedder(16), url=server.url, headers=headers)
        with pytest.raises(TargetUnavailableError) as raised:
            target.ping()
        assert "very-secret" not in f"{raised.value} {target.describe()} {target!r}"
        assert target.describe().details == {"agent": "duck", "model": "hashing/16", "isSemantic": False}
    for url in ("http://user:very-secret@host", "ftp://host", ""):
        with pytest.raises(InvalidInputError) as refused:
            ChromaTarget(HashingEmbedder(16), url=url)
        assert "very-secret" not in str(refused.value)


def test_what_somebody_between_says_is_said(tmp_path: Path) -> None:
    with chroma_server(tmp_path / "chroma") as server:
        target = ChromaTarget(HashingEmbedder(16), url=server.url)
        target.apply([message("m", 1, "abc")])
        server.kill()
        with proxy_that_says(server.url, 502, "<html>Bad Gateway</html>"):
            for _ in range(2):
                with pytest.raises(TargetUnavailableError, match="502: <html>Bad Gateway"):
                    target.most_relevant(["abc"])
        target.close()


def test_a_local_server_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    target = ChromaTarget(HashingEmbedder(16), url="http://127.0.0.1:1")
    with pytest.raises(TargetUnavailableError, match=r"NO_PROXY must have 127\.0\.0\.1"):
        target.ping()


@pytest.mark.parametrize("token", ["very\nsecret", "very-sécret"])
def test_a_token_that_no_header_can_have_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidInputError, match="X-Chroma-Token") as raised:
        ChromaTarget(HashingEmbedder(16), url="http://box", headers={"X-Chroma-Token": token})
    assert "very" not in str(raised.value)


def test_a_place_is_one_of_the_two(tmp_path: Path) -> None:
    for where in ({}, {"path": tmp_path, "url": "http://127.0.0.1:8000"}):
        with pytest.raises(InvalidInputError, match="url"):
            ChromaTarget(HashingEmbedder(16), **where)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with opened(tmp_path / "file" / "chroma", HashingEmbedder(16)) as target, pytest.raises(TargetUnavailableError):
        target.ping()


def test_a_collection_that_somebody_deleted_is_made_anew_and_verify_finds_what_it_lacks(tmp_path: Path) -> None:
    from tests.support.chroma_cases import collections

    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session("ws", title="t")
        with Synchronizer(manager, [ChromaTarget(HashingEmbedder(16), path=tmp_path / "chroma")]) as sync:
            sync.push("ws")
            with collections(tmp_path / "chroma") as there:
                for each in there.values():
                    each._client.delete_collection(each.name)
            manager.create_session("ws", title="u")
            with pytest.raises(TargetUnavailableError, match="does not exist"):
                sync.push("ws")
            sync.push("ws")
            assert len(sync.verify("ws", target="chroma", repair=True)) == 1
            assert sync.verify("ws", target="chroma") == []


def test_without_chromadb_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chromadb", None)  # As Python marks what cannot be imported.
    with pytest.raises(InvalidInputError) as raised:
        ChromaTarget(HashingEmbedder(16), path=tmp_path)
    assert "pip install 'nomad-sessions[chroma]'" in str(raised.value)
