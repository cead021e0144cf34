"""docs/dualstore.md: its code runs, and each thing that its table names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nomad_sessions
from nomad_sessions import dualstore, search, sources, sync
from nomad_sessions.cli.app import app
from nomad_sessions.dualstore import filters
from nomad_sessions.events import Subscription

PAGE = (Path(__file__).parents[2] / "docs" / "dualstore.md").read_text(encoding="utf-8")
TESTS = Path(__file__).parents[1]


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "docs/dualstore.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "The slugify test fails. msg_1",
        "lexical msg_1",
        "chroma False ['msg_1', 'msg_2']",
        "{'chroma': 'same'} 0",
    ]


def test_every_section_has_a_table_and_every_row_says_what_became_of_it() -> None:
    sections = re.findall(
        r"^### (1\.\d) .*?\n\n(?:[^|#\n][^\n]*\n\n)?\| original \| ours \|\n\|---\|---\|\n(.*?)\n\n",
        PAGE + "\n",
        re.M | re.S,
    )
    assert [number for number, _ in sections] == [f"1.{number}" for number in range(1, 10)]
    for _, table in sections:
        for row in table.splitlines():
            original, ours = row.strip("| ").split(" | ")
            assert original
            assert len(ours) > 7 or ours == "the same", row


def test_every_call_that_the_table_names_is_there() -> None:
    places = {"Subscription": Subscription}
    for module in (nomad_sessions, dualstore, search, sources, sync):
        places |= {name: getattr(module, name) for name in module.__all__}
    named = re.findall(r"`(\w+)\.(\w+)`", PAGE.partition("## What became")[2])
    ours = [(owner, name) for owner, name in named if owner in places and name != "create"]
    assert len(ours) > 35
    for owner, name in ours:
        assert hasattr(places[owner], name), f"{owner}.{name}"


def test_every_command_that_the_table_names_is_there() -> None:
    for command in sorted(set(re.findall(r"`nomad-sessions ([a-z]+)", PAGE))):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


def test_the_operators_of_the_page_are_those_of_the_code() -> None:
    (line,) = re.findall(r"`(\$eq .*?)`", PAGE)
    assert set(line.split()) == {*filters._OPERATORS, "$and", "$or"}


def test_every_failure_that_the_page_numbers_has_a_test() -> None:
    texts = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    tested = {
        int(number)
        for text in texts
        for names in re.findall(r"def test_dualstore_((?:\d+_)+)", text)
        for number in names.strip("_").split("_")
    }
    for numbers in re.findall(r"\((\d+(?:, \d+)*)\)", PAGE.partition("### 1.1")[2]):
        for number in numbers.split(", "):
            assert int(number) in tested, number
