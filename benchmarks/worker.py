"""A child process that appends when told to: `python -m benchmarks.worker KEY FOLDER COUNT SIZE [--cold]`.

It prints `ready`, waits for a line, appends, and prints one line of JSON. Both lines are single `write` calls on
descriptor 1, so that a trace of the process shows where the timed part begins and ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks import appenders
from benchmarks.work import Appender, text_of

POINTS = 50


def written() -> dict[str, int]:
    """What this process has handed to the kernel (`wchar`) and dirtied in pages (`write_bytes`), in bytes."""
    path = Path("/proc/self/io")
    if not path.exists():
        return {"wchar": 0, "write_bytes": 0}
    fields = dict(line.split(": ") for line in path.read_text().splitlines())
    return {"wchar": int(fields["wchar"]), "write_bytes": int(fields["write_bytes"])}


def append_all(store: Appender, count: int) -> dict[str, object]:
    """Append `count` messages. An error of the store is counted and the next message tried, as an application would."""
    failures: Counter[str] = Counter()
    before = written()
    curve: list[tuple[int, int]] = []
    every = max(count // POINTS, 1)
    start = time.monotonic()
    for number in range(count):
        try:
            store.append(text_of(number))
        except Exception as error:  # any library's any error: the row reports what it was
            failures[f"{type(error).__name__}: {str(error)[:60]}"] += 1
        if (number + 1) % every == 0:
            curve.append((number + 1, written()["wchar"] - before["wchar"]))
    end = time.monotonic()
    after = written()
    return {
        "start": start,
        "end": end,
        "acked": count - sum(failures.values()),
        "failures": dict(failures),
        "wchar": after["wchar"] - before["wchar"],
        "write_bytes": after["write_bytes"] - before["write_bytes"],
        "curve": curve,
    }


def main() -> None:
    """Open the store, append one message untimed, then wait for the word."""
    key, folder, count, size = sys.argv[1:5]
    warm_up = sys.argv[5:] != ["--cold"]
    store = appenders.make(key, Path(folder), int(size))
    store.open()
    if warm_up:
        store.append(text_of(0))
    os.write(1, b"ready\n")
    sys.stdin.readline()
    result = append_all(store, int(count))
    os.write(1, (json.dumps(result) + "\n").encode())
    store.close()


if __name__ == "__main__":
    main()
