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
