"""docs/connections.md: its code runs as it stands, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "connections.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/connections.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == "[('agent', True)]\nnot now: agent\nPlan ['First.']\n"


def test_every_page_that_is_named_is_there() -> None:
    for name in re.findall(r"\]\((\w+\.md)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / name).exists()
