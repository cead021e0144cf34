"""A warm list of sessions beside the least that handing out models can cost, and the cost of the import."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from benchmarks import children, ours
from benchmarks.bars import compared, row
from benchmarks.model import Context, Row
from benchmarks.timing import Side, interleave
from nomad_sessions import NativeSessionManager
from nomad_sessions.models import Session


def list_sessions(context: Context) -> list[Row]:
    """All of 1,000 sessions of 100 messages from an open handle, beside validating those 1,000 records."""
    sessions, per_session = context.pick(1000, 200), 100
    source = ours.seed(context.make("warm"), sessions, per_session, text=lambda number: f"message {number}")
    records = list(json.loads(source.snapshot.read_bytes())["sessions"].values())
    with NativeSessionManager(source.folder) as manager:

        def listed() -> int:
            return sum(len(session.message_ids) for session in manager.list_sessions(ours.WORKSPACE))

        def validated() -> int:
            return sum(len(Session.model_validate(record).message_ids) for record in records)

        if listed() != validated():
            raise children.ChildFailed("the list does not hold what the file holds")
        sides = [Side("ours", listed), Side("validating", validated)]
        samples = interleave(sides, blocks=context.pick(15, 8), per_block=3)
    what = f"list {sessions:,} sessions of {per_session} messages, warm"
    baseline = " to validate those records, already parsed, with the model"
    return [compared("warm-list", what, samples["ours"], samples["validating"], baseline=baseline)]


_IMPORT_OURS = "import nomad_sessions"
_IMPORT_PYDANTIC = "import pydantic\nclass M(pydantic.BaseModel):\n    id: str\n    created: int = 0\nM(id='a')"


def imports(context: Context) -> list[Row]:
    """Importing the package beside importing pydantic and building one model, each in a fresh process."""
    times: dict[str, list[float]] = {_IMPORT_OURS: [], _IMPORT_PYDANTIC: []}
    for turn in range(context.pick(15, 7) + 1):
        for code, found in times.items():
            elapsed = _timed_import(code)
            # The first turn writes the bytecode.
            if turn:
                found.append(elapsed)
    mine, base = (statistics.median(times[code]) for code in (_IMPORT_OURS, _IMPORT_PYDANTIC))
    ours, baseline = f"{mine:.0f} ms", f"{base:.0f} ms import pydantic and one model built"
    note = f"fastest {min(times[_IMPORT_OURS]):.0f} against {min(times[_IMPORT_PYDANTIC]):.0f} ms"
    return [row("import", "import nomad_sessions", mine / base, ours=ours, baseline=baseline, note=note)]


def _timed_import(code: str) -> float:
    program = f"import time\nstart = time.perf_counter()\n{code}\nprint((time.perf_counter() - start) * 1000)"
    # An installed package has its bytecode; where the environment forbids writing it, ours would be compiled each time.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=children.ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)
