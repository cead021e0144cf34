"""Starting children, telling them to go at once, and counting their syncs with strace."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SYNC_CALLS = ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs", "sync")
_CALL = re.compile(r"^\d+\s+(\w+)\(")
_SYNCED_OPEN = re.compile(r"openat\(.*O_D?SYNC")


class ChildFailed(Exception):
    """A child process ended without its result; the message ends with what it said on stderr."""


@dataclass(frozen=True)
class Syncs:
    """Syncs of `appends` appends as strace saw them, files opened to sync at each write, bytes given to write calls."""

    appends: int
    calls: Counter[str]
    synced_opens: int
    written: int = 0

    @property
    def per_append(self) -> float:
        """Sync calls for each append."""
        return sum(self.calls.values()) / self.appends

    def describe(self) -> str:
        """Which calls, such as `1 fdatasync`."""
        parts = [f"{count / self.appends:g} {name}" for name, count in self.calls.most_common()]
        if self.synced_opens:
            parts.append(f"{self.synced_opens} files opened with O_SYNC or O_DSYNC")
        return ", ".join(parts) or "none"


def python(*arguments: str) -> list[str]:
    """The command of a child that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", *arguments]


def run_json(*arguments: str) -> dict[str, Any]:
    """Run a module in a fresh process and return the JSON of its last line."""
    done = subprocess.run(python(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ChildFailed(f"{arguments[0]} ended with {done.returncode}: {done.stderr[-600:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


class Worker:
    """One `benchmarks.worker`, started and waiting for the word."""

    def __init__(self, command: list[str], label: str) -> None:
        self._label = label
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_ready(self) -> None:
        """Return when the child has opened its store. Raises ChildFailed."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise ChildFailed(f"{self._label}: {self._process.communicate()[1][-600:]}")

    def go(self) -> None:
        """Let it append."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """What it reported, after it has ended. Raises ChildFailed."""
        out, err = self._process.communicate()
        if self._process.returncode != 0 or not out:
            raise ChildFailed(f"{self._label} ended with {self._process.returncode}: {err[-600:]}")
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        return result


def append_together(key: str, folder: Path, *, processes: int, each: int, size: int) -> list[dict[str, Any]]:
    """Let `processes` children append `each` messages to one store at the same time."""
    command = python("benchmarks.worker", key, str(folder), str(each), str(size), "--cold")
    workers = [Worker(command, key) for _ in range(processes)]
    for worker in workers:
        worker.wait_ready()
    for worker in workers:
        worker.go()
    return [worker.result() for worker in workers]


def append_alone(key: str, folder: Path, *, count: int, size: int) -> dict[str, Any]:
    """Let one child append `count` messages, after one that is not counted."""
    worker = Worker(python("benchmarks.worker", key, str(folder), str(count), str(size)), key)
    worker.wait_ready()
    worker.go()
    return worker.result()


def count_syncs(key: str, folder: Path, *, appends: int, size: int) -> Syncs | None:
    """Trace a worker and count the sync calls between its two lines. None where there is no strace."""
    if shutil.which("strace") is None:
        return None
    log = folder.parent / f"{folder.name}.strace"
    calls = ",".join((*SYNC_CALLS, "write", "openat"))
    # The kernel filters the calls (--seccomp-bpf): stopping at every call makes a large import take a minute.
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "8", "-o", str(log)]
    trace += ["-e", f"trace={calls}", "-e", "signal=none"]
    worker = Worker(trace + python("benchmarks.worker", key, str(folder), str(appends), str(size)), f"strace {key}")
    worker.wait_ready()
    worker.go()
    written = worker.result()["wchar"]
    return _between_markers(log.read_text(errors="replace").splitlines(), appends, written)


def _between_markers(lines: list[str], appends: int, written: int) -> Syncs:
    """The calls between the two writes to descriptor 1. A call resumed after another thread's line counts once."""
    calls: Counter[str] = Counter()
    synced_opens = 0
    markers = 0
    for line in lines:
        if _SYNCED_OPEN.search(line):
            synced_opens += 1
        if " write(1, " in line:
            markers += 1
            continue
        found = _CALL.match(line)
        if markers == 1 and found and found[1] in SYNC_CALLS:
            calls[found[1]] += 1
    if markers < 2:
        raise ChildFailed("the trace does not show where the appends begin and end")
    return Syncs(appends, calls, synced_opens, written)
