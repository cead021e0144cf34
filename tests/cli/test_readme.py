"""The README's code runs, and its transcript says what the command prints."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import COMMAND, EXAMPLES, in_terminal

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# Ids, times, and the workspace of a folder.
CHANGING = re.compile(r"\b01[0-9A-Z]{24}\b|\d{4}-\d\d-\d\d \d\d:\d\d|\bdemo-[0-9a-f]{12}\b")


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_python_of_the_readme_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="the transcript is of a POSIX shell")
def test_the_transcript_of_the_readme_is_what_happens(tmp_path: Path) -> None:
    (transcript,) = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "examples").symlink_to(EXAMPLES)
    for step in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        line, _, expected = step.partition("\n")
        command = f"cd {shlex.quote(str(folder))} && {line.replace('nomad-sessions', shlex.join(COMMAND))}"
        code, printed = in_terminal(["sh", "-c", command], NOMAD_SESSIONS_DIR=str(tmp_path / "data"))
        assert code == 0, printed
        assert comparable(printed) == comparable(expected), line


def comparable(text: str) -> list[str]:
    return sorted(CHANGING.sub("…", line).rstrip() for line in text.splitlines())
