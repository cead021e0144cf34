"""Cycles of writing, losing power, and looking at what is there. A job for a zygote in a mount namespace of its own.

A child takes random steps with the store and acknowledges each through a pipe to this process, which is outside the
disk, cuts the power at a random moment, mounts the disk again and has another child read everything.

What counts as acknowledged is what this process had heard before it asked for the cut. An acknowledgement that comes
later proves nothing: a `fdatasync` that is under way when FS_IOC_SHUTDOWN comes may return 0 without having synced (a
bare append loop loses its last record in one cycle of ten; a machine without power does not answer). In half of the
cycles the child is stopped first, so that no call is under way and every acknowledgement counts.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from nomad_sessions import NativeSessionManager, NomadSessionsError
from nomad_sessions.workspace import folding, store
from tests.power.disk import FLUSHED, SUDDEN, Disk, Kind
from tests.support.lives import WS, Seen, State, Step, perform, predict, random_step, state_of
from tests.support.zygote import Emit

__all__ = ["cycles"]

_LONGEST = 0.06
_CYCLES_A_STORE = 12
_SEGMENTS = (1200, 6000, 1 << 20)


class Cycle(NamedTuple):
    """How one cycle is to go."""

    folder: str
    seed: int
    how: int
    stopped: bool
    delay: float
    durability: Any
    careless: bool

    def manager(self) -> NativeSessionManager:
        rng = random.Random(self.seed)
        store.SEGMENT_BYTES = rng.choice(_SEGMENTS)
        folding._ROTATE_ABOVE = store.SEGMENT_BYTES // 2
        manager = functools.partial(NativeSessionManager, self.folder, durability=self.durability, batch_interval=0.01)
        if not self.careless:
            return manager()
        from tests.power.careless import Careless  # POSIX only, and this module is collected everywhere.

        return manager(filesystem=Careless())

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
        stopped = number % 4 >= 2
        cycle = Cycle(place, seed + number, how, stopped, rng.uniform(0, _LONGEST), durability, careless)
        found = _one(disk, cycle, state)
        emit({"cycle": number, **found})
        state = {title: Seen(*seen) for title, seen in found.pop("state").items()}
    disk.unplug()


def _one(disk: Disk, cycle: Cycle, start: State) -> dict[str, Any]:
    said, pid = _forked(lambda out: _write(out, cycle, start))
    time.sleep(cycle.delay)
    ended = False  # By itself, before the cut: a file system that lost its syncs may be damaged (EUCLEAN).
    if cycle.stopped:
        os.kill(pid, signal.SIGSTOP)
        ended = not os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
    before = _heard(said)
    fired = disk.cut(cycle.how)
    if not ended:
        os.kill(pid, signal.SIGCONT)
    after = _rest(said, None if ended else pid, patience=0.3)
    disk.unplug()
    disk.power_on()
    said, pid = _forked(lambda out: _look(out, cycle))
    found: dict[str, Any] = json.loads(_rest(said, pid, patience=20) or b'{"ok": false, "problems": ["no answer"]}')
    acked = before.count(b"a")
    states, durable = _expected(cycle, start, acked, acked + after.count(b"a"))
    shown = {title: Seen(*seen) for title, seen in found.get("state", {}).items()}
    return {
        "fired": fired,
        "acked": acked,
        "error": b"!" in before + after,
        "wrote_after_error": b"W" in after,
        "ok": found["ok"],
        "problems": found["problems"],
        "kept": shown in states[durable:],
        "lost": acked - max((at for at in range(acked + 1) if states[at] == shown), default=acked),
        "state": found.get("state", {}),
    }


def _expected(cycle: Cycle, start: State, acked: int, later: int) -> tuple[list[State], int]:
    """The states up to the step in flight, and how many steps were durable for sure: all that were acknowledged, or,
    without full durability, those up to the last flush or checkpoint that was."""
    states = [start]
    durable = acked if cycle.durability == "full" else 0
    for step, state in cycle.steps(start):
        states.append(state)
        if step.do in ("flush", "checkpoint") and durable < len(states) - 1 <= acked:
            durable = len(states) - 1
        if len(states) > later + 1:
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


def _heard(said: int) -> bytes:
    """What a child has said so far. Little enough to fit into the pipe."""
    os.set_blocking(said, False)
    try:
        return os.read(said, 1 << 16)
    except BlockingIOError:
        return b""


def _rest(said: int, pid: int | None, patience: float) -> bytes:
    """Everything that a child still says until it ends, which it is made to do; None for one that has ended."""
    os.set_blocking(said, False)
    deadline = time.monotonic() + patience
    parts = []
    while True:
        try:
            data = os.read(said, 1 << 16)
        except BlockingIOError:
            if time.monotonic() > deadline and pid is not None:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.0005)
            continue
        if not data:
            break
        parts.append(data)
    os.close(said)
    if pid is not None:
        os.waitpid(pid, 0)
    return b"".join(parts)
