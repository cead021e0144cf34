"""Lives of a store on the model file system: steps, crashes, recoveries, and the oracle that judges each recovery.

The evidence of what was acknowledged (`Life.history`) lies outside the file system that crashes. Every recovery ends
with `check()` and a comparison of all contents.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.clock import ManualClock
from nomad_sessions.workspace import folding, retention, store
from nomad_sessions.workspace.options import Durability
from tests.crash.model import WS, Names, State, contents, draw_step, expect, perform
from tests.support.drawing import Draw
from tests.support.faults import Effect
from tests.support.modelfs import MUTATING, Killed, ModelDisk, ModelFS

DATA = "/data"
_STEPS_A_ROUND = 12


class Timer:
    """In place of `threading.Timer`: it never fires; the test calls `flush` when the interval is over."""

    def __init__(self, interval: float, function: Any) -> None:
        self.daemon = True

    def start(self) -> None:
        """Nothing: no thread outlives a simulated process."""


@contextmanager
def small_store() -> Iterator[pytest.MonkeyPatch]:
    """Segments, checkpoints and pruning come every few records instead of every few thousand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SEGMENT_BYTES", 1_500)
        patch.setattr(folding, "FLOOR", 4_000)
        patch.setattr(folding, "SMALL", 3_000)
        patch.setattr(folding, "_ROTATE_ABOVE", 700)
        patch.setattr(retention, "BUDGET_BYTES", 3_000)
        patch.setattr(threading, "Timer", Timer)
        yield patch


def manager_on(fs: ModelFS, durability: Durability = "full") -> NativeSessionManager:
    """A manager of one simulated process."""
    clock = ManualClock(1_750_000_000_000)
    return NativeSessionManager(DATA, durability=durability, filesystem=fs, clock=clock)


class Life:
    """One disk through several crashes.

    `history` holds the state after each acknowledged step; `safe` is the index of the oldest state that the durability
    allows to find after a power loss; `doubtful` is the state after the step that a crash interrupted.
    """

    def __init__(self, draw: Draw, durability: Durability = "full", processes: int = 1, page: int = 64) -> None:
        self.draw = draw
        self.durability = durability
        self.disk = ModelDisk(page=page)
        self.history: list[State] = [{}]
        self.safe = 0
        self.doubtful: State | None = None
        self.names = Names()
        self.log: list[object] = []
        self.wanted_processes = processes
        self.processes: list[ModelFS] = []
        self.managers: list[NativeSessionManager] = []
        self.last_writer: NativeSessionManager | None = None

    def open(self) -> None:
        """Starts the processes that are missing."""
        while len(self.managers) < self.wanted_processes:
            self.processes.append(self.disk.process())
            self.managers.append(manager_on(self.processes[-1], self.durability))

    def acknowledged(self, state: State) -> None:
        self.history.append(state)
        if self.durability == "full":
            self.safe = len(self.history) - 1

    def round(self) -> None:
        """Steps until a crash, then the crash, then the judgement."""
        self.open()
        victim = self.draw(range(len(self.processes)))
        op = self.draw(
            (None, None, "datasync", "sync", "sync_dir", "exchange", "replace", "open", "truncate", "unlink")
        )
        nth = self.draw(range(60, 0, -1)) if op is None else self.draw(range(5, 0, -1))
        effects: tuple[Effect, ...] = ("all", "part", "none")
        effect = self.draw(effects)
        fault = self.processes[victim].die_at(nth, op=MUTATING if op is None else op, effect=effect)
        self.log.append(("die", victim, op, nth, effect))
        try:
            for _ in range(self.draw(range(_STEPS_A_ROUND, 0, -1))):
                self.step()
        except Killed:
            assert fault.fired
            self.log.append("killed")
        self.crash(victim)

    def step(self) -> None:
        """One call of one process, or what happens between calls."""
        number = self.draw(range(len(self.managers)))
        manager = self.managers[number]
        kind = self.draw(("step",) * 9 + ("checkpoint", "reopen", "clear", "compare", "flush"))
        if kind == "step":
            state = self.history[-1]
            step = draw_step(self.draw, state, self.names)
            self.log.append((number, step))
            self.doubtful = expect(state, step)
            perform(manager, step)
            self.acknowledged(self.doubtful)
            self.last_writer = manager
            self.doubtful = None
            return
        self.log.append((number, kind))
        if kind == "checkpoint":
            manager.checkpoint(WS)
        elif kind == "reopen":
            manager.close()
            self.managers[number] = manager_on(self.processes[number], self.durability)
        elif kind == "clear":
            manager.clear_workspace(WS)
        elif kind == "compare":
            assert contents(manager) == self.history[-1]
        elif kind == "flush" and self.durability == "batch" and manager is self.last_writer:
            manager.flush()  # It syncs what its own manager wrote.
            self.safe = len(self.history) - 1

    def crash(self, victim: int) -> None:
        """One process dies, or the power fails and takes all with it."""
        if self.draw(("kill", "power")) == "kill":
            self.processes[victim].kill()
            gone = [victim]
            self.log.append(("kill", victim))
            allowed = self.history[-1:]
            durable = self.history[self.safe :]
        else:
            for fs in self.processes:
                fs.kill()
            gone = list(range(len(self.processes)))
            self.disk = self.disk.crash(self.draw)
            self.log.append("power loss")
            allowed = self.history[self.safe :]
            durable = []
        for number in reversed(gone):
            del self.processes[number], self.managers[number]
        found = self.judge(allowed)
        # What a dead process wrote and did not sync is seen by all, and may still be lost to a power failure.
        self.history = [*durable, found]
        self.safe = 0

    def judge(self, allowed: list[State]) -> State:
        """The oracle: a fresh process, sometimes killed while it opens and heals, finds an allowed state."""
        if self.doubtful is not None:
            allowed = [*allowed, self.doubtful]
        manager = manager_on(self.disk.process(), self.durability)
        report = manager.check(WS)
        assert report.ok, report.problems
        found = contents(manager)
        assert found in allowed
        assert contents(manager_on(self.disk.process())) == found
        assert manager.check(WS).ok
        self.doubtful = None
        for process, each in zip(self.processes, self.managers, strict=True):
            assert process.alive
            assert contents(each) == found
        return found


def run_life(
    draw: Draw, durability: Durability = "full", *, rounds: int = 3, processes: int = 1, page: int = 64
) -> Life:
    """Some rounds, and at the end one more step and a checkpoint on what is left."""
    life = Life(draw, durability, processes, page)
    for _ in range(rounds):
        life.round()
    life.open()
    life.step()
    life.managers[0].checkpoint(WS)
    life.judge([life.history[-1]])
    return life
