"""Commands that write to many workspaces, where those are more than a process may have files open."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from tests.cli.conftest import COMMAND

if sys.platform == "win32":
    pytest.skip("Windows has no such limit", allow_module_level=True)

import resource

MANY = 40
FILES = 64


def few_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


def line(number: int) -> dict[str, Any]:
    place = {"cwd": f"/home/dev/p{number}", "sessionId": f"{number:032x}", "version": "2.1.39"}
    said = {"role": "user", "content": f"hello {number}"}
    record = {"parentUuid": None, "isSidechain": False, "userType": "external", "type": "user", "message": said}
    return {**record, **place, "uuid": f"u{number}", "timestamp": "2026-01-01T00:00:00.000Z"}


def test_a_history_of_many_projects(tmp_path: Path) -> None:
    for number in range(MANY):
        project = tmp_path / "projects" / f"-home-dev-p{number}"
        project.mkdir(parents=True)
        (project / f"{number:032x}.jsonl").write_text(json.dumps(line(number)) + "\n")
    arguments = ["import", "claude-code", str(tmp_path / "projects"), "--data-dir", str(tmp_path / "data"), "--json"]
    done = subprocess.run([*COMMAND, *arguments], preexec_fn=few_files, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    with NativeSessionManager(tmp_path / "data") as manager:
        assert len(manager.list_workspaces()) == MANY
