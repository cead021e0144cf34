"""The command line as a script sees it (in this process) and as a person does (a real terminal)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nomad_sessions.cli.app import app

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = [sys.executable, "-m", "nomad_sessions.cli"]


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)

    @property
    def id(self) -> str:
        """Its output as one id."""
        (line,) = self.out.splitlines()
        return line


class Cli:
    """Runs commands on a data folder of the test's own, in a workspace called `ws`."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"

    def __call__(self, *args: str | Path, stdin: str | bytes = "", code: int = 0) -> Outcome:
        """Runs a command in this process; its output is not a terminal. Expects the exit code `code`."""
        where = ["--data-dir", str(self.data_dir), "--workspace", "ws"]
        result = CliRunner().invoke(app, [*map(str, args), *where], input=stdin, prog_name="nomad-sessions")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr
        if code > 1:
            assert result.stdout == ""
            assert len(result.stderr.splitlines()) == 1 or result.stderr.startswith("Usage:")
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def start(self, *args: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a command as a process of its own."""
        return subprocess.Popen(self.command(*args), **options)

    def command(self, *args: str | Path) -> list[str]:
        """The whole command line."""
        return [*COMMAND, *map(str, args), "--data-dir", str(self.data_dir), "--workspace", "ws"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def in_terminal(command: Sequence[str], typed: bytes = b"", **settings: str) -> tuple[int, str]:
    """Runs a command in a real terminal of 120 columns; its exit code and what it printed. `settings` go to its
    environment; by default the terminal has no colours and cannot move its cursor."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "LINES": "50", "TERM": "dumb", "NO_COLOR": "1", **settings}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        if typed:
            os.write(ours, typed)
        printed = b""
        try:
            while chunk := os.read(ours, 65536):
                printed += chunk
        except OSError:  # Linux says EIO when the other side has gone
            pass
    os.close(ours)
    return process.returncode, printed.decode().replace("\r\n", "\n")


@pytest.fixture
def terminal(cli: Cli) -> Callable[..., str]:
    """Runs a command in a real terminal and gives what it printed."""

    def run(*args: str | Path, typed: bytes = b"", code: int = 0) -> str:
        ended, output = in_terminal(cli.command(*args), typed)
        assert ended == code, output
        return output

    return run
