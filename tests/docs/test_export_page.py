"""docs/export.md names every form that there is; its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nomad_sessions.formats.exporting import EXPORTS

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def test_every_form_has_its_row() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows == {name: export.label for name, export in EXPORTS.items()}


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/export.md", "exec"), {})
    assert capsys.readouterr().out == "[{'role': 'user', 'content': 'hi'}]\n"


def test_the_folder_that_the_page_names_is_the_one_where_claude_code_looks() -> None:
    assert "every character that is no letter or digit of ASCII as `-`" in PAGE
    (path, folder) = re.findall(r"`(/home/\S+)` is `(\S+)`", PAGE)[0]
    assert folder == re.sub("[^a-zA-Z0-9]", "-", path)
    assert "_" in path, "an underscore is what one would forget"
