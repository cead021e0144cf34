"""Cycles of writing, losing power, and looking at what is there. A job for a zygote in a mount namespace of its own.

A child takes random steps with the store and acknowledges each through a pipe to this process, which is outside the
disk, cuts the power at a random moment, mounts the disk again and has another child read everything.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from nomad_sessions import NativeSessionManager, NomadSessionsError
from nomad_sessions.storage._os_posix import PosixFileSystem
from nomad_sessions.workspace import folding, store
from tests.power.disk import FLUSHED, SUDDEN, Disk, Kind
from tests.support.lives import WS, Seen, State, Step, perform, predict, random_step, state_of
from tests.support.zygote import Emit

__all__ = ["cycles"]

_LONGEST = 0.045
_CYCLES_A_STORE = 12
_SEGMENTS = (1200, 6000, 1 << 20)


class Careless(PosixFileSystem):
    """A file system whose syncs do nothing: the tier has to notice."""

    __slots__ = ()

    def sync(self, fd: int, /) -> None:  # type: ignore[override]
        """Nothing: the real one is a static method."""

    def datasync(self, fd: int, /) -> None:  # type: ignore[override]
        """Nothing: the real one is a static method."""


class Cycle(NamedTuple):
    """How one cycle is to go."""

    folder: str
    seed: int
    how: int
    delay: float
    durability: Any
    careless: bool

    def manager(self) -> NativeSessionManager:
        rng = random.Random(self.seed)
        store.SEGMENT_BYTES = rng.choice(_SEGMENTS)
        folding._ROTATE_ABOVE = store.SEGMENT_BYTES // 2
        fs = Careless() if self.careless else None
        return NativeSessionManager(self.folder, durability=self.durability, batch_interval=0.01, filesystem=fs)

    def steps(self, state: State) -> Iterator[tuple[Step, State]]:
        """The steps of the child, and the state after each: both sides know them from the seed."""
        rng = random.Random(self.seed)
        number = 0
        while True:
            number += 1
            flush = self.durability != "full" and rng.random() < 0.05
            step = Step("flush") if flush else random_step(rng, state, f"{self.seed}.{number}")
            state = predict(state, step)
            yield step, state


def cycles(emit: Emit, folder: str, *, kind: Kind, count: int, seed: int, durability: str, careless: bool) -> None:
    """Emits what each cycle found. Flags alternate; the store is a new one every few cycles."""
    disk = Disk(folder, kind)
    rng = random.Random(seed)
    state: State = {}
    for number in range(count):
        fresh = careless or number % _CYCLES_A_STORE == 0
        state = {} if fresh else state
        place = f"{disk.mount}/{number if careless else number // _CYCLES_A_STORE}"
        how = (SUDDEN, FLUSHED)[number % 2]
        cycle = Cycle(place, seed + number, how, rng.uniform(0, _LONGEST), durability, careless)
        found = _one(disk, cycle, state)
        emit({"cycle": number, **found})
        state = {title: Seen(*seen) for title, seen in found.pop("state").items()}
    disk.unplug()


def _one(disk: Disk, cycle: Cycle, start: State) -> dict[str, Any]:
    said, pid = _forked(lambda out: _write(out, cycle, start))
    time.sleep(cycle.delay)
    fired = disk.cut(cycle.how)
    heard = _rest(said, pid, patience=0.3)
    acked = heard.count(b"a")
    disk.unplug()
    disk.power_on()
    said, pid = _forked(lambda out: _look(out, cycle))
    found: dict[str, Any] = json.loads(_rest(said, pid, patience=20) or b'{"ok": false, "problems": ["no answer"]}')
    states, kept_from = _expected(cycle, start, acked)
    shown = {title: Seen(*seen) for title, seen in found.get("state", {}).items()}
    allowed = states if cycle.durability == "full" else states[kept_from:]
    return {
        "fired": fired,
        "acked": acked,
        "error": b"!" in heard,
        "wrote_after_error": b"W" in heard,
        "ok": found["ok"],
        "problems": found["problems"],
        "kept": shown in (states[acked : acked + 2] if cycle.durability == "full" else allowed),
        "lost": acked - max((at for at in range(acked + 1) if states[at] == shown), default=0),
        "state": found.get("state", {}),
    }


def _expected(cycle: Cycle, start: State, acked: int) -> tuple[list[State], int]:
    """The states after 0 … acked + 1 steps, and how many steps were durable for sure: those before the last flush or
    checkpoint that was acknowledged."""
    states = [start]
    durable = 0
    for step, state in cycle.steps(start):
        states.append(state)
        if step.do in ("flush", "checkpoint") and len(states) - 1 <= acked:
            durable = len(states) - 1
        if len(states) > acked + 1:
            break
    return states, durable


def _write(out: int, cycle: Cycle, start: State) -> None:
    """Takes steps until something fails; a handle that failed must not succeed afterwards."""
    manager = cycle.manager()
    try:
        for step, _ in cycle.steps(start):
            perform(manager, step)
            os.write(out, b"a")
    except (NomadSessionsError, OSError):
        os.write(out, b"!")
    try:
        manager.create_session(WS, title="after the failure")
        os.write(out, b"W")
    except (NomadSessionsError, OSError):
        return


def _look(out: int, cycle: Cycle) -> None:
    """Reads everything, checks, and shows that the store takes another write."""
    manager = cycle._replace(careless=False, durability="full").manager()
    report = manager.check(WS)
    found: dict[str, Any] = {"ok": report.ok, "problems": [str(each) for each in report.problems]}
    try:
        found["state"] = state_of(manager)
        manager.create_session(WS, title="for a moment")
        manager.delete_session(WS, next(each.id for each in manager.list_sessions(WS) if each.title == "for a moment"))
    except NomadSessionsError as error:
        found |= {"ok": False, "problems": [*found["problems"], repr(error)]}
    manager.close()
    os.write(out, json.dumps(found).encode())


def _forked(work: Any) -> tuple[int, int]:
    said, out = os.pipe()
    pid = os.fork()
    if pid:
        os.close(out)
        return said, pid
    os.close(said)
    code = 1
    try:
        work(out)
        code = 0
    finally:
        os._exit(code)


def _rest(said: int, pid: int, patience: float) -> bytes:
    """Everything that a child has said when it ends, which it is made to do."""
    os.set_blocking(said, False)
    deadline = time.monotonic() + patience
    heard = []
    while True:
        try:
            data = os.read(said, 1 << 16)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.0005)
            continue
        if not data:
            break
        heard.append(data)
    os.close(said)
    os.waitpid(pid, 0)
    return b"".join(heard)
