"""Drives `node_writer.mjs`: a real foreign writer."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node here")


class NodeWriter:
    """A node process with its own, stale view of a `sessions.json`."""

    def __init__(self, path: Path) -> None:
        script = Path(__file__).with_name("node_writer.mjs")
        self.process = subprocess.Popen(
            [str(NODE), str(script), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, op: str, **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"node ended with {self.process.wait()}"
        return json.loads(line)["answer"]

    def __call__(self, op: str, **fields: Any) -> Any:
        self.send(op, **fields)
        return self.answer()

    def __enter__(self) -> NodeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()


def sound(data_dir: Path) -> NativeSessionManager:
    """The store, opened afresh; fails when anything in it is not as it should be."""
    manager = NativeSessionManager(data_dir)
    report = manager.check("ws")
    assert report.ok, report.problems
    return manager


def contents(manager: NativeSessionManager, session_id: str) -> list[str]:
    """The texts of a session, in order."""
    return [message.content for message in manager.get_session_messages("ws", session_id)]
