"""docs/library.md: its code runs as it stands, one block after the other, and prints what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINTED = [
    "user It fails on an empty file.\nassistant It returns None.\n",
    "somebody was faster: The plan\n",
    "Hello.\n",
]


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == len(PRINTED)
    for block, printed in zip(BLOCKS, PRINTED, strict=True):
        exec(compile(block, "docs/library.md", "exec"), {"__name__": "page"})
        assert capsys.readouterr().out == printed


def test_every_page_that_is_named_is_there() -> None:
    for name in re.findall(r"\]\((\w+\.md)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / name).exists()
