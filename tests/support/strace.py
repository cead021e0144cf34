"""Watching and striking the system calls of a child that waits: strace attaches first, so it counts the job's alone.

Never with `--seccomp-bpf`: that silently injects nothing.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

from tests.support.tiers import tool
from tests.support.zygote import Job, Outcome, Zygote

__all__ = ["Call", "calls", "every_nth", "struck", "traced"]

_LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>\S+)(?P<rest>.*)$")
_FD = re.compile(r"^\d+<(?P<path>[^>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Call(NamedTuple):
    """One finished system call: `path` is that of its descriptor, if the first argument is one; `paths` are those it
    names; `result` is the number it returned."""

    name: str
    arguments: str
    result: int
    path: str
    paths: list[str]
    injected: bool


def struck(zygote: Zygote, log: Path, inject: Sequence[str], job: Job, /, **arguments: object) -> tuple[Outcome, str]:
    """Runs a job with strace's `inject` expressions in force; how it ended, and strace's log."""
    return _attached(zygote, log, [f"--inject={each}" for each in inject], job, arguments)


def traced(
    zygote: Zygote, log: Path, job: Job, /, *, inject: Sequence[str] = (), **arguments: object
) -> tuple[Outcome, list[Call]]:
    """Runs a job and gives every system call of it, in order, descriptors resolved to paths."""
    options = ["-y", "-s", "64", *(f"--inject={each}" for each in inject)]
    outcome, text = _attached(zygote, log, options, job, arguments)
    return outcome, list(calls(text))


def every_nth(zygotes: Sequence[Zygote], strike: Callable[[Zygote, int], bool]) -> int:
    """Strikes the n-th call for n = 1, 2, … on all zygotes at once, until one had no n-th; how many were struck."""
    ns = itertools.count(1)
    taking = threading.Lock()
    done = threading.Event()

    def work(zygote: Zygote) -> int:
        struck = 0
        while not done.is_set():
            with taking:
                n = next(ns)
            if strike(zygote, n):
                struck += 1
            else:
                done.set()
        return struck

    with ThreadPoolExecutor(len(zygotes)) as pool:
        return sum(pool.map(work, zygotes))


def _attached(
    zygote: Zygote, log: Path, options: list[str], job: Job, arguments: dict[str, object]
) -> tuple[Outcome, str]:
    strace = tool("strace")
    assert strace is not None
    with zygote.held(job, **arguments) as child:
        command = [strace, "-f", "-o", str(log), *options, "-p", str(child.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            try:
                # They take turns, at each call. Where that wakes another core it takes three times as long.
                os.sched_setaffinity(tracer.pid, os.sched_getaffinity(child.pid))
                _until_attached(tracer.stderr)
                outcome = child.go()
            finally:
                if child.outcome is None:
                    tracer.kill()
            assert tracer.wait(30) == 0, tracer.stderr
    return outcome, log.read_text(encoding="utf-8", errors="replace")


def _until_attached(errors: IO[str] | None) -> None:
    assert errors is not None
    said = []
    for line in errors:
        if "attached" in line:
            return
        said.append(line)
    raise AssertionError(f"strace did not attach: {''.join(said)}")


def calls(log: str) -> Iterator[Call]:
    """The finished calls of a log of one thread."""
    for line in log.splitlines():
        match = _LINE.match(line)
        if match is None:
            assert "unfinished" not in line, f"more than one thread: {line}"
            continue
        arguments, result = match["arguments"], match["result"]
        fd = _FD.match(arguments)
        value = int(result.split("<")[0], 0) if result != "?" else -1
        opened = re.match(r"\d+<(?P<path>[^>]*)>", result)
        paths = [opened["path"]] if opened else _QUOTED.findall(arguments)
        yield Call(match["name"], arguments, value, fd["path"] if fd else "", paths, "(INJECTED)" in match["rest"])
