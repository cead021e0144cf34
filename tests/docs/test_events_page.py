"""docs/events.md: its code runs and prints what it should, its commands run, its types are those that come."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nomad_sessions.cli.app import app
from nomad_sessions.events import translation
from nomad_sessions.workspace.state import _HANDLERS

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINTED = [
    "1 session.created None\n3 session.updated Events of all kinds\n",
    "1 2\n",
    "1 {'tool': 'bash', 'ms': 41}\n",
]


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == len(PRINTED)
    for block, printed in zip(BLOCKS, PRINTED, strict=True):
        exec(compile(block, "docs/events.md", "exec"), {})
        assert capsys.readouterr().out == printed


def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    lines = re.findall(r"^\$ nomad-sessions (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 4
    for line in lines[::-1]:  # The last makes what the others list.
        arguments = [*shlex.split(line, comments=True), "--data-dir", str(tmp_path), "-w", "ws"]
        assert CliRunner().invoke(app, arguments).exit_code == 0, line


def test_every_type_that_a_change_has_is_in_the_table() -> None:
    types = {translation._NAMES.get(kind, kind) for kind in _HANDLERS}
    rows = "\n".join(re.findall(r"^\| `.*$", PAGE, re.MULTILINE))
    listed = {each for each in types if f"`{each}`" in rows}
    others = types - listed
    assert others == {each for each in types if each.startswith("mail.")} | {"task.merged"}
