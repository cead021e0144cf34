"""A language model on loopback that says what it is told to, in pieces, in the shape of OpenAI's chat completions."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["ScriptedModel", "scripted_model"]


class ScriptedModel:
    """Says the first half of `words`, then waits until `go_on` is set, then says the rest."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.words = [f"word{n} " for n in range(20)]
        self.go_on = threading.Event()

    def configure(self, project: Path) -> None:
        """Makes it the model of OpenCode in this folder."""
        options = {"baseURL": f"{self.url}/v1", "apiKey": "none"}
        provider = {"npm": "@ai-sdk/openai-compatible", "name": "local", "options": options, "models": {"m": {}}}
        config = {"provider": {"local": provider}, "model": "local/m", "small_model": "local/m"}
        (project / "opencode.json").write_text(json.dumps(config), encoding="utf-8")


@contextlib.contextmanager
def scripted_model() -> Iterator[ScriptedModel]:
    """It, until the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # Who asked may have been killed.
                for number, word in enumerate(model.words):
                    if number == len(model.words) // 2:
                        model.go_on.wait(30)
                    self._say({"delta": {"role": "assistant", "content": word}, "finish_reason": None})
                self._say({"delta": {}, "finish_reason": "stop"})
                self.wfile.write(b"data: [DONE]\n\n")

        def _say(self, choice: dict[str, Any]) -> None:
            said = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            line = json.dumps({**said, "choices": [{"index": 0, **choice}]})
            self.wfile.write(f"data: {line}\n\n".encode())
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model = ScriptedModel(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield model
    finally:
        model.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
