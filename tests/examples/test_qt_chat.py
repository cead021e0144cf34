"""The desktop chat: two windows on one session show what the store has, and no window ever stands still for us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import nomad_sessions
from nomad_sessions import NativeSessionManager
from tests.support.tiers import needs_qt

ROOT = Path(nomad_sessions.__file__).parent.parent
FRAME = 16.0  # ms
pytestmark = [pytest.mark.qt, pytest.mark.processes]


@pytest.fixture(autouse=True)
def qt() -> None:
    needs_qt()


class Process:
    """One of the processes."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-X", "faulthandler", "-m", f"tests.examples.{module}", *map(str, arguments)]
        environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
        self.running = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=ROOT, env=environment)

    def hear(self) -> Any:
        """The next fact."""
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        if not line:
            _, errors = self.running.communicate()
            pytest.fail(f"it ended with {self.running.returncode}: {errors}")
        return json.loads(line)

    def tell(self, text: object = "") -> None:
        """A line."""
        assert self.running.stdin is not None
        self.running.stdin.write(f"{text}\n")
        self.running.stdin.flush()

    def end(self) -> None:
        """Waits for it; it has to end well."""
        _, errors = self.running.communicate(timeout=60)
        assert self.running.returncode == 0, errors


@contextmanager
def running(module: str, *arguments: object) -> Iterator[Process]:
    process = Process(module, *arguments)
    try:
        yield process
        process.end()
    finally:
        process.running.kill()
        process.running.communicate()


def test_while_50000_messages_are_checkpointed_two_windows_stream_and_never_stall_and_end_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running("jobs", "fill", tmp_path, 500, 100) as filling:
        assert filling.hear() > 20_000_000, "bytes of sessions.json"
    with running("qt_windows", tmp_path, "ses_0") as windows:
        assert windows.hear() == "ready"
        with running("jobs", "checkpoint", tmp_path) as checkpointing:
            assert checkpointing.hear() == "ready"
            with running("jobs", "stream", tmp_path, "ses_0", 3, 150) as streaming:
                assert streaming.hear() == "ready"
                last, tokens = streaming.hear()
            checkpointing.tell()
            checkpoints = checkpointing.hear()
        windows.tell(last)
        report = windows.hear()
    with capsys.disabled():
        print(f"\nqt_chat: {tokens} tokens, {checkpoints} checkpoints, {json.dumps(report)}")
    assert tokens >= 150
    assert checkpoints > 2
    assert report["equal"] == [True, True]
    assert report["connected"] == 2
    # What a turn of the windows' thread costs: all of it, ours and Qt's.
    assert report["turns_cpu"]["max"] < FRAME
    # What it waits for: no file, and so none of the locks that are held while files are read.
    assert report["files_asked"] == []
    # The wall is the machine's as well, which others use: it is told above, and must be right as a rule.
    assert report["turns_wall"]["median"] < FRAME
    assert report["gaps"]["median"] < FRAME


def test_what_is_said_in_one_window_is_answered_in_both(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="s")
        manager.close_session("ws", "s")
    with running("qt_windows", tmp_path, "s", "one two three") as windows:
        assert windows.hear() == "ready"
        windows.tell(1)
        report = windows.hear()
    assert report["equal"] == [True, True]
    with NativeSessionManager(tmp_path) as manager:
        said = [(each.role, each.status, each.content) for each in manager.get_session_messages("ws", "s")]
        assert said == [
            ("user", "completed", "one two three"),
            ("assistant", "completed", "You said 3 words. Backwards: eerht owt eno "),
        ]
        assert manager.connections("ws") == []


@pytest.mark.parametrize(("case", "errors"), [("connecting", []), ("making", []), ("failing", ["no following"])])
def test_a_window_that_is_closed_while_it_connects_is_connected_to_nothing(
    tmp_path: Path, case: str, errors: list[str]
) -> None:
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="s")
    with running("qt_closing", tmp_path, "s", case) as closing:
        found = closing.hear()
    assert found["connected"] == []
    assert found["errors"] == errors
    # What is Qt's is destroyed with its window, and by no thread but the windows': the program would end there.
    assert found["destroyed"] == (case != "failing")
    assert found["collected_by"] == ["MainThread"]
