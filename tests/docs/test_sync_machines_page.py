"""docs/sync-machines.md: its code runs and prints what it should, its commands are there, its names are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from nomad_sessions.cli.app import app
from nomad_sessions.sync.settings import _SOURCES
from nomad_sessions.sync.two_way.exchange import TWO_WAY
from nomad_sessions.sync.two_way.joining import _TOGETHER

PAGE = (Path(__file__).parents[2] / "docs" / "sync-machines.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/sync-machines.md", "exec"), {})
    assert capsys.readouterr().out == "['from the desktop, offline', 'from the laptop']\nRenamed [] []\n"


def test_its_commands_are_there() -> None:
    commands: Any = typer.main.get_group(app)
    group = commands.get_command(None, "sync")
    lines = re.findall(r"^\$ nomad-sessions (.*)$", PAGE, re.MULTILINE)
    assert {shlex.split(line, comments=True)[1] for line in lines} == {"pull", "watch", "conflicts"}
    for name in re.findall(r"`sync (\w+)", PAGE):
        assert name in group.commands
    assert any(parameter.name == "forget" for parameter in group.commands["conflicts"].params)


def test_its_names_are_those_of_the_code() -> None:
    assert f"cursors/{TWO_WAY}mongo.json" in PAGE
    assert "sync/mongo-two-way.sqlite" in PAGE
    assert "sync/mongo-conflicts.json" in PAGE
    assert ("MONGODB_TWO_WAY", "two_way") in {(variable, place[-1]) for place, (_, variable) in _SOURCES.items()}
    assert all(f"`{name}`" in PAGE for name in _TOGETHER["message"]["content"][:3])
