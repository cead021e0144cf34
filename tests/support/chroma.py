"""A real Chroma server for a test: `chroma run` on a free port of this computer, killed at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ChromaServer", "chroma_server"]

_WITHIN = 30.0


class ChromaServer:
    """One on this folder; it can be killed, stopped and started again, on the same port."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = str(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns when it takes connections."""
        command = Path(sys.executable).with_name("chroma")
        place = ["--path", self._folder, "--host", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen(
            [command, "run", *place], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        until = time.monotonic() + _WITHIN
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            assert self._process.poll() is None, "chroma run has ended"
            assert time.monotonic() < until, "chroma run does not listen"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal. One that stops it has done so on return."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def kill(self) -> None:
        """With -9, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def chroma_server(folder: str | Path) -> Iterator[ChromaServer]:
    """One that runs as long as the block does."""
    server = ChromaServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
