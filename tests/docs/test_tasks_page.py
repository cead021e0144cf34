"""docs/tasks.md: its code runs and prints what it says, its commands work, its table of steps is the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nomad_sessions.cli.app import app
from nomad_sessions.models import TASK_TRANSITIONS

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/tasks.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert re.findall(r"It prints `(.*?)` and `(.*?)`", PAGE) == [tuple(printed)]


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    lines = re.findall(r"^\$ nomad-sessions (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 12
    for line in lines:
        done = CliRunner().invoke(app, [*shlex.split(line), "--data-dir", str(tmp_path)])
        assert done.exit_code == 0, (line, done.stderr)


def test_the_table_of_steps_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `", PAGE, re.MULTILINE)
    steps = {(before, after) for before, after in rows if before in TASK_TRANSITIONS and before != after}
    assert steps == {(before, after) for before, afters in TASK_TRANSITIONS.items() for after in afters}


def test_the_page_names_every_command_of_the_group() -> None:
    helped = CliRunner().invoke(app, ["tasks", "--help"]).stdout
    commands = re.findall(r"^  ([a-z]+)  ", helped.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) == 12
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| `tasks` .*$", readme, re.MULTILINE)
    for command in commands:
        assert f"`{command}`" in row
        assert f"tasks {command}" in PAGE or command == "rm" or command == "fail", command
