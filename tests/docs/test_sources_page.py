"""docs/sources.md: its code runs and prints what it should, its commands and options are the command's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nomad_sessions import sources
from nomad_sessions.cli.app import app
from nomad_sessions.sources import ReadThrough

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/sources.md", "exec"), {})
    text = "['The slugify test fails.']"
    assert capsys.readouterr().out.splitlines() == [f"memory {text}", f"local {text}", "1 1.0"]


def test_every_command_of_the_page_is_one_that_names_a_server_that_is_away(tmp_path: Path) -> None:
    lines = re.findall(r"^\$ nomad-sessions (.*?)(?:  +#.*)?$", PAGE, re.MULTILINE)
    assert len(lines) == 3
    env = {"OPENCODE_SERVER_URL": "http://127.0.0.1:9"}
    for line in lines:
        given = [each.replace("http://127.0.0.1:4096", "http://127.0.0.1:9") for each in line.split()]
        done = CliRunner().invoke(app, [*given, "--once", "--data-dir", str(tmp_path)], env=env)
        assert done.exit_code == 5, line
        assert "http://127.0.0.1:9 is not available" in done.stderr


def test_what_the_page_names_is_there() -> None:
    help_text = CliRunner().invoke(app, ["capture", "opencode", "--help"], env={"COLUMNS": "200"}).stdout
    for option in set(re.findall(r"`(--[a-z-]+)`", PAGE)):
        assert option in help_text, option
    for name in (
        "get_session",
        "list_sessions",
        "search_sessions",
        "messages",
        "events",
        "tasks",
        "invalidate",
        "warm",
    ):
        assert f"`{name}" in PAGE
        assert hasattr(ReadThrough, name)
    for name in re.findall(r"`(\w+(?:Source|Through|Client))`", PAGE):
        assert hasattr(sources, name)
