"""docs/search-semantic.md and docs/sync-chroma.md: their code runs, and what they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nomad_sessions import embedders
from nomad_sessions.cli.app import app
from nomad_sessions.embedders import DRIVERS
from nomad_sessions.sync.chunks import OVERLAP, SIZE

DOCS = Path(__file__).parents[2] / "docs"
SEMANTIC, SYNC = ((DOCS / name).read_text(encoding="utf-8") for name in ("search-semantic.md", "sync-chroma.md"))


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        (SEMANTIC, "semantic The total of a cart is one cent off.\nhashing/384 compares words, not meaning\n"),
        (SYNC, "2\n[]\nmessage True The slugify test fails.\n"),
    ],
    ids=["semantic", "sync"],
)
def test_the_code_of_the_page_runs(
    page: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs", "exec"), {})
    assert capsys.readouterr().out == printed


def test_every_command_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMA_URL", raising=False)
    lines = re.findall(r"^\$ nomad-sessions (.*)$", SEMANTIC, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        arguments = [*shlex.split(line, comments=True), "--data-dir", str(tmp_path)]
        assert CliRunner().invoke(app, arguments).exit_code == 0, line


def test_every_option_that_the_page_names_is_the_command_s() -> None:
    help_text = CliRunner().invoke(app, ["search", "--help"], env={"COLUMNS": "200"}).stdout
    options = set(re.findall(r"`(--[a-z-]+)`", SEMANTIC + SYNC))
    assert {"--semantic", "--hybrid"} <= options
    for option in options:
        assert option in help_text, option


def test_the_drivers_and_sizes_of_the_page_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \|", SYNC, re.MULTILINE)
    assert tuple(driver for driver, _ in rows) == DRIVERS
    assert all(hasattr(embedders, name) for _, name in rows)
    assert f"each {SIZE:,} characters" in SYNC
    assert f"with {OVERLAP} in common" in SYNC
