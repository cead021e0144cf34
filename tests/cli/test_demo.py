"""The demo, as a newcomer runs it."""

from __future__ import annotations

import re
import subprocess

import pytest

from nomad_sessions.cli.demo_measure import Survival

from .conftest import COMMAND


@pytest.mark.slow
def test_the_demo_runs_to_its_end_and_loses_nothing() -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--writes", "20"], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the original is gone, the fork has 10" in done.stdout
    assert "Nothing that was acknowledged is missing." in done.stdout
    killed = re.findall(r"^ +(\d+) +(\d+) +(\d+)  ok", done.stdout, re.MULTILINE)
    assert len(killed) == 3
    assert all(int(acked) <= int(found) <= int(acked) + 1 and lost == "0" for acked, found, lost in killed)
    assert re.search(r"raw os.write of \d+ bytes \+ os.fdatasync +\d", done.stdout)
    assert "sessions.json" in done.stdout


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (Survival(acked=5, found=5, intact=True, problems=0), True),
        (Survival(acked=5, found=6, intact=True, problems=0), True),
        (Survival(acked=5, found=4, intact=True, problems=0), False),
        (Survival(acked=5, found=7, intact=True, problems=0), False),
        (Survival(acked=5, found=5, intact=False, problems=0), False),
        (Survival(acked=5, found=5, intact=True, problems=1), False),
    ],
)
def test_the_demo_would_notice_a_loss(result: Survival, kept: bool) -> None:
    assert result.kept is kept
