"""What a source says is in the store or in the report: nothing vanishes, in whatever shape it is said.

NOMAD_SESSIONS_FUZZ_CASES and NOMAD_SESSIONS_FUZZ_FIRST say which cases, as in `test_importers.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from tests.fuzz.accounting import Accounting
from tests.fuzz.seeds import TARGETS
from tests.fuzz.test_importers import CASES, FIRST

_AT_ONCE = 500
"""Each case has a workspace, and a manager keeps those open that it has used."""
_TEXT_ALONE = ("aider", "llm")
"""Formats that say everything in plain text or columns: there is no JSON whose shape could be another."""


@pytest.mark.parametrize("target", [each for each in TARGETS if each not in _TEXT_ALONE])
def test_what_is_said_in_any_shape_is_stored_or_accounted_for(target: str, tmp_path: Path) -> None:
    numbers, looked = range(FIRST, FIRST + CASES), 0
    for begin in range(0, CASES, _AT_ONCE):
        folder = tmp_path / str(begin)
        with NativeSessionManager(folder / "data", durability="os") as m:
            accounting = Accounting(m, target, folder)
            looked += sum(accounting.run(number) for number in numbers[begin : begin + _AT_ONCE])
    assert looked > CASES // 4, "the word found its place"
