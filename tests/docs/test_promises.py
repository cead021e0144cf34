"""docs/promises.md names tests, guards and mutants that exist, and every mutant there is."""

from __future__ import annotations

import re
from pathlib import Path

from tests.crash.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NAMES = set(re.findall(r"`([^`\s]+)`", PAGE))


def _tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found.update(re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")))
    return found


def test_every_test_that_the_page_names_is_there() -> None:
    named = {name for name in NAMES if name.startswith("test_")}
    assert len(named) > 40
    assert named <= _tests()


def test_the_page_names_every_mutant_and_no_other() -> None:
    column = {name for row in PAGE.splitlines() if row.startswith("|") for name in _mutants_of(row)}
    assert column == set(MUTANTS)


def _mutants_of(row: str) -> list[str]:
    cells = row.split("|")
    return re.findall(r"`(\w+)`", cells[4]) if len(cells) > 5 and re.fullmatch(r" (\d+|[a-z]) ", cells[1]) else []


def test_every_file_that_the_page_names_is_there() -> None:
    files = {name for name in NAMES if name.endswith((".py", "/")) and not name.startswith("tests/")}
    missing = [name for name in files if not (ROOT / "nomad_sessions" / name).exists() and not (ROOT / name).exists()]
    assert not missing


def test_each_of_the_promises_that_are_kept_has_its_row_and_a_test() -> None:
    rows = {int(row.split("|")[1]): row for row in PAGE.splitlines() if re.match(r"\| \d+ \|", row)}
    assert sorted(rows) == [*range(1, 32), 33]
    assert [number for number, row in rows.items() if "`test_" not in row] == []
