"""Starts the child processes of these tests and listens to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import nomad_sessions

ROOT = Path(nomad_sessions.__file__).parent.parent


class Child:
    """A worker process, from its first fact on."""

    def __init__(self, job: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.processes.worker", job, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.first = self.hear()

    def hear(self) -> Any:
        """The next fact."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate()
            raise AssertionError(f"{self.process.args!r} ended with {self.process.returncode}:\n{errors}")
        return json.loads(line)

    def go(self) -> None:
        """Lets it start (or stop): what it waits for is a line."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> str:
        """kill -9; what it had said and nobody had heard."""
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()
