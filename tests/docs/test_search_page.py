"""docs/search.md: its code runs, its queries are queries, its options are the command's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nomad_sessions.cli.app import app
from nomad_sessions.search.query import expression

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/search.md", "exec"), {})
    assert capsys.readouterr().out == "Slugs The slugify test fails. ((4, 11),)\n"


def test_every_query_of_the_table_is_one() -> None:
    queries = re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)
    assert len(queries) == 6
    assert all(expression(query) for query in queries)


def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    lines = re.findall(r"^\$ nomad-sessions (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        arguments = [*shlex.split(line, comments=True), "--data-dir", str(tmp_path)]
        assert CliRunner().invoke(app, arguments).exit_code == 0, line


def test_every_option_that_the_page_names_is_the_command_s() -> None:
    help_text = CliRunner().invoke(app, ["search", "--help"], env={"COLUMNS": "200"}).stdout
    for option in set(re.findall(r"`(--[a-z-]+)`", PAGE)):
        assert option in help_text, option
