"""`capture opencode` as a command, on the genuine program: what it says, what it takes, how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import httpx

from nomad_sessions import NativeSessionManager
from tests.support.opencode import OpenCode, free_port, needs_opencode

from .conftest import COMMAND


def test_it_captures_says_so_and_ends_at_ctrl_c_with_everything_in_place(tmp_path: Path) -> None:
    needs_opencode()
    program = OpenCode(tmp_path)
    data = tmp_path / "data"
    with program.serve(free_port()) as server, httpx.Client(base_url=server.url, timeout=30) as api:
        name = api.post("/session", json={"title": "From outside"}).raise_for_status().json()["id"]
        command = [*COMMAND, "capture", "opencode", server.url, "--data-dir", str(data)]
        once = subprocess.run([*command, "--once"], capture_output=True, text=True, check=True, timeout=60)
        told = json.loads(once.stdout)
        ws = told.pop("workspaceId")
        assert told == {"sessions": 1, "new": 1, "changedMessages": 0, "deleted": 0, "kept": 0}
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert running.stdout is not None
            assert json.loads(running.stdout.readline())["new"] == 0
            second = subprocess.run([*command, "--once"], capture_output=True, text=True, check=False, timeout=60)
            assert second.returncode == 6
            body = {"noReply": True, "parts": [{"type": "text", "text": "hello"}]}
            api.post(f"/session/{name}/message", json=body).raise_for_status()
            with NativeSessionManager(data) as m, m.subscribe(ws, since=0) as subscription:
                said_so = next(each for each in subscription if "hello" in json.dumps(each.properties))
                assert said_so.type.startswith("message.")
                m.record_event(ws, "seen")  # Under the lock: what was seen is committed, and no Ctrl-C takes it back.
        finally:
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=30)
        assert (running.returncode, said.strip()) == (130, "nomad-sessions: interrupted")
    with NativeSessionManager(data) as m:
        assert m.check(ws).ok
        assert [each.content for each in m.get_session_messages(ws, name)] == ["hello"]
        assert m.workspace_folders()[ws] == str(program.project)
