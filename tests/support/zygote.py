"""A process that has everything imported and forks one child for each job: a crash test costs no interpreter start.

A job is a function `job(emit, **arguments)`. What the child emits goes through a pipe to the zygote, so that the
evidence of what was acknowledged outlives the child. A child that is `held` waits until it is told to go, so that
strace can attach first and counts only what the job does.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeAlias

__all__ = ["Emit", "Job", "Outcome", "Zygote"]

Emit: TypeAlias = Callable[[object], None]
Job: TypeAlias = Callable[..., None]
_CRASHED = 70
_READY = b"."
_PR_SET_PTRACER = 0x59616D61
_ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    """How a job ended: exit status (negative: the signal that killed it), all that it emitted, what it printed."""

    status: int
    said: list[Any]
    errors: str

    def well(self) -> list[Any]:
        """What was emitted by a job that must have ended by itself."""
        assert self.status == 0, f"the job ended with {self.status}\n{self.errors}"
        return self.said


class Zygote:
    """The other end of such a process. `wrapper` is a command to run it under (`unshare`, for one)."""

    def __init__(self, modules: Sequence[str], wrapper: Sequence[str] = ()) -> None:
        command = [*wrapper, sys.executable, "-m", "tests.support.zygote", *modules]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT, bufsize=1
        )

    def pin(self, core: int) -> None:
        """From now on it, its children, and who traces them, run on this core alone. Linux."""
        os.sched_setaffinity(self._process.pid, {core})

    def run(self, job: Job, /, **arguments: object) -> Outcome:
        """Runs a job of an imported module in a fresh child to its end."""
        with self.held(job, **arguments) as child:
            return child.go()

    @contextlib.contextmanager
    def held(self, job: Job, /, **arguments: object) -> Iterator[HeldChild]:
        """A child that waits with `pid`, and does the job at `go()`."""
        order = {"job": f"{job.__module__}:{job.__qualname__}", "arguments": arguments}
        child = HeldChild(self, self._ask(order)["pid"])
        try:
            yield child
        finally:
            if child.outcome is None:
                child.go()

    def _ask(self, order: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the zygote is gone: {self._process.poll()}"
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process, and with it whatever it has mounted in a namespace of its own."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class HeldChild:
    """A child that was forked and waits."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.outcome: Outcome | None = None

    def go(self) -> Outcome:
        """Lets it run to its end."""
        answer = self._zygote._ask({"go": True})
        self.outcome = Outcome(answer["status"], answer["said"], answer["errors"])
        return self.outcome


def _serve(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        module, _, name = order["job"].partition(":")
        job: Job = getattr(importlib.import_module(module), name)
        _one(job, order["arguments"])


def _one(job: Job, arguments: dict[str, Any]) -> None:
    start_read, start_write = os.pipe()
    said_read, said_write = os.pipe()
    errors_read, errors_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        for fd in (start_write, said_read, errors_read):
            os.close(fd)
        _child(job, arguments, start_read, said_write, errors_write)
    for fd in (start_read, said_write, errors_write):
        os.close(fd)
    assert os.read(said_read, 1) == _READY
    print(json.dumps({"pid": pid}), flush=True)
    sys.stdin.readline()
    with contextlib.suppress(BrokenPipeError):  # Killed while it waited.
        os.write(start_write, b"!")
    os.close(start_write)
    said = _drain(said_read).decode("utf-8").splitlines()
    errors = _drain(errors_read).decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    answer = {"status": status, "said": [json.loads(each) for each in said], "errors": errors}
    print(json.dumps(answer), flush=True)


def _child(job: Job, arguments: dict[str, Any], start: int, said: int, errors: int) -> None:
    code = _CRASHED
    try:
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        # Where the kernel lets only ancestors trace (Yama), strace is none.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        os.write(said, _READY)
        os.read(start, 1)
        job(lambda value: os.write(said, json.dumps(value).encode("utf-8") + b"\n"), **arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _drain(fd: int) -> bytes:
    parts = []
    while data := os.read(fd, 1 << 16):
        parts.append(data)
    os.close(fd)
    return b"".join(parts)


if __name__ == "__main__":
    _serve(sys.argv[1:])
