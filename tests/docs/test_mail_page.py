"""The Python of docs/mail.md runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "mail.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_python_of_the_page_runs(block: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", block], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    from nomad_sessions.mail import operations, queue, timing

    assert f"passed over {queue.PASSES} times at most" in PAGE
    assert f"{queue.PASSES + 1} (n + 1) deliveries" in PAGE
    assert f"until {operations.KEYS:,} others" in PAGE
    assert timing.LONGEST_BACKOFF == 5 * 60 * 1000
    assert "up to five minutes" in PAGE
