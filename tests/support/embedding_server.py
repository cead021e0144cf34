"""A small HTTP server that answers as Ollama and OpenAI do: known vectors, or what they say when something is wrong."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["EmbeddingServer", "embedding_server", "known_vector"]

DIMENSION = 8


def known_vector(text: str) -> list[float]:
    """What the server says to a text: counts of the letters a to h, so that a test can work it out."""
    return [float(text.lower().count(letter)) + 0.01 for letter in "abcdefgh"]


class EmbeddingServer:
    """What it was asked, and how it answers; a test sets `misbehave` to a function of the request's texts that gives
    (status, headers, body), or None for the right answer."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.misbehave: Callable[[list[str]], tuple[int, dict[str, str], Any] | None] = lambda texts: None
        self.vector: Callable[[str], list[float]] = known_vector
        self.hanging = threading.Event()
        self.hanging.set()

    @property
    def texts(self) -> list[str]:
        """All texts that it was asked for, in order."""
        return [text for _, body, _ in self.requests for text in body["input"]]

    def answer(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        self.requests.append((path, body, headers))
        self.hanging.wait(10)
        wrong = self.misbehave(body["input"])
        if wrong is not None:
            return wrong
        vectors = [self.vector(text) for text in body["input"]]
        if path == "/api/embed":
            counts = {"total_duration": 14143917, "load_duration": 1019500, "prompt_eval_count": 8}
            return 200, {}, {"model": body["model"], "embeddings": vectors, **counts}
        if path == "/v1/embeddings":
            rows = [{"object": "embedding", "index": n, "embedding": each} for n, each in enumerate(vectors)]
            usage = {"prompt_tokens": 8, "total_tokens": 8}
            return 200, {}, {"object": "list", "data": rows[::-1], "model": body["model"], "usage": usage}
        return 404, {}, {"error": "no such path"}


@contextlib.contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """One on a free port of this computer, for as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # An answer in one piece: in two, each waits for a delayed acknowledgement.

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, answer = told.answer(self.path, body, dict(self.headers))
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            with contextlib.suppress(ConnectionError):  # Who asked may have stopped waiting.
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told = EmbeddingServer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        told.hanging.set()
        server.shutdown()
        server.server_close()
        thread.join()
