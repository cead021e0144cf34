"""docs/import.md names every importer, where it looks and what it leaves out; its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nomad_sessions.formats import FORMATS, IMPORTERS

PAGE = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
ROWS = {found[1]: found[0] for found in re.finditer(r"^\| `([\w-]+)` \|.*$", PAGE, re.MULTILINE)}


def test_every_importer_has_its_row_and_says_what_it_leaves_out() -> None:
    assert set(ROWS) == {each.name for each in IMPORTERS} | {each.name for each in FORMATS}
    for importer in IMPORTERS:
        assert importer.lacks in ROWS[importer.name], importer.name


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)

    exec(compile(block, "docs/import.md", "exec"), {})


def test_every_command_of_the_page_names_a_tool_that_there_is() -> None:
    commands = re.findall(r"nomad-sessions import (\S+)", PAGE)
    assert "auto" in commands
    names = {"-", *(each.name for each in IMPORTERS), *(each.name for each in FORMATS)}
    assert {each for each in commands if each != "auto" and "." not in each} <= names
