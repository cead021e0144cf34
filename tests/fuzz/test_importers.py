"""Whatever a source holds, an import of it ends, gives a report, and leaves a store that is whole and the source alone.

NOMAD_SESSIONS_FUZZ_CASES says how many cases of each format (200 by default), NOMAD_SESSIONS_FUZZ_FIRST which is the
first of them (0). A case that failed prints both, to be repeated.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nomad_sessions.formats import FORMATS, IMPORTERS
from tests.fuzz.cases import BLOCK, run_block
from tests.fuzz.seeds import TARGETS, sources_of

FIRST, CASES = (
    int(os.environ.get(f"NOMAD_SESSIONS_FUZZ_{name}", default)) for name, default in (("FIRST", 0), ("CASES", 200))
)
BLOCKS = [(start, min(BLOCK, FIRST + CASES - start)) for start in range(FIRST, FIRST + CASES, BLOCK)]
EVERY = [pytest.param(target, first, count, id=f"{target}-{first}") for target in TARGETS for first, count in BLOCKS]


@pytest.mark.parametrize(("target", "first", "count"), EVERY)
def test_whatever_a_source_holds_it_is_a_report_and_never_an_error(
    target: str, first: int, count: int, tmp_path: Path
) -> None:
    kept = run_block(target, first, count, tmp_path)
    assert count < BLOCK or kept, "something came in"


@pytest.mark.parametrize("target", TARGETS)
def test_each_format_has_sources(target: str) -> None:
    assert len(TARGETS) == len(IMPORTERS) + len(FORMATS)
    assert sources_of(target)
