"""`nomad-sessions doctor`, as a person and as a script use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .conftest import Cli


def test_nothing_found_is_exit_code_0_and_something_1(cli: Cli) -> None:
    session = cli("new").id
    cli("add", session, "hello")
    found = cli("doctor").json
    assert (found["ok"], found["workspaces"], found["findings"]) == (True, 1, [])
    (cli.data_dir / "ws" / "sessions (1).json").write_text("{}")
    done = cli("doctor", code=1)
    (finding,) = done.json["findings"]
    assert finding["kind"] == "conflict-copy"
    assert finding["hint"]


def test_it_looks_at_all_workspaces_of_a_folder_that_is_given(tmp_path: Path) -> None:
    data_dir = tmp_path / "Dropbox" / "data"
    base = [sys.executable, "-m", "nomad_sessions.cli"]
    env = os.environ | {"NOMAD_SESSIONS_DIR": str(data_dir)}
    for name in ("one", "two"):
        subprocess.run([*base, "new", "-w", name], env=env, check=True, capture_output=True)
    done = subprocess.run([*base, "doctor", "--data-dir", str(data_dir)], capture_output=True, check=False)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["workspaces"] == 2
    assert [finding["kind"] for finding in report["findings"]] == ["cloud-sync"]
