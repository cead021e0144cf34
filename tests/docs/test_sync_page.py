"""docs/sync.md: its code runs and prints what it should, and it names what a target is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nomad_sessions import NativeSessionManager
from nomad_sessions.cli.app import app
from nomad_sessions.sync import SyncTarget
from nomad_sessions.sync.settings import _SOURCES
from nomad_sessions.sync.target import KINDS, Change

PAGE = (Path(__file__).parents[2] / "docs" / "sync.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/sync.md", "exec"), {})
    assert capsys.readouterr().out == "1 0\n[]\n"


def test_its_commands_and_its_settings_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r"^\$ nomad-sessions (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 4
    monkeypatch.setenv("EMBEDDING_DRIVER", "hashing")
    monkeypatch.setenv("EMBEDDING_FUNCTION", "16")
    monkeypatch.setenv("CHROMA_PATH", str(tmp_path / "chroma"))
    monkeypatch.delenv("MONGODB_URI", raising=False)
    with NativeSessionManager(tmp_path / "data") as manager:
        manager.create_session("ws", title="copied")
    for line in lines:
        arguments = [*shlex.split(line, comments=True), "--data-dir", str(tmp_path / "data")]
        assert CliRunner().invoke(app, arguments).exit_code == 0, line
    for place, (_, variable) in _SOURCES.items():
        assert f"`{variable}`" in PAGE
        assert place[-1] in PAGE


def test_it_says_what_a_target_is() -> None:
    methods = [name for name, value in vars(SyncTarget).items() if callable(value) and name[0] != "_"]
    assert len(methods) == 7
    assert "a class with seven methods" in PAGE
    assert f"Change({', '.join(Change._fields)})" in PAGE
    assert all(f"`{kind}`" in PAGE for kind in KINDS)
