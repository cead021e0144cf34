"""A child process that reads a history, or imports it, and says how long it took: `python -m benchmarks.importing`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path


def lines(source: Path) -> dict[str, float]:
    """Each line of each file through `json.loads`, twice: the first time warms the page cache."""
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        for path in sorted(source.rglob("*.jsonl")):
            with path.open("rb") as file:
                for line in file:
                    json.loads(line)
        seconds = time.perf_counter() - start
    return {"seconds": seconds}


def imported(source: Path, folder: Path) -> dict[str, float]:
    """The whole history, durably, closing included."""
    from nomad_sessions import NativeSessionManager
    from nomad_sessions.formats import import_history, importer_of

    importer = importer_of(source)
    assert importer is not None
    processes = len(os.sched_getaffinity(0))
    start = time.perf_counter()
    with NativeSessionManager(folder) as manager:
        report = import_history(manager, importer, source, processes=processes)
    seconds = time.perf_counter() - start
    peak = _own_peak() + (processes - 1) * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": seconds, "messages": report.messages.imported, "peak": peak}


def _own_peak() -> float:
    """The highest resident memory in MB. Not what `getrusage` says, which knows that of the parent too: a process
    begins as a copy of it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Print the result as one line of JSON."""
    spec = json.loads(sys.argv[2])
    source = Path(spec["source"])
    print(json.dumps(lines(source) if sys.argv[1] == "lines" else imported(source, Path(spec["folder"]))))


if __name__ == "__main__":
    main()
