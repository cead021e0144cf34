"""kill -9 before every system call that a store issues, one name at a time, every n until a run completes.

The names are not listed here but taken from a log of the same life, so that none can be forgotten. A kill before the
n-th call of any name is a kill after the one before it: together they are every state that the files pass through.
"""

from __future__ import annotations

import itertools
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults import jobs
from tests.support.lives import LIFE, Seen, State, as_state, predict, predictions
from tests.support.strace import every_nth, struck, traced
from tests.support.zygote import Job, Outcome, Zygote

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

SEAM = {"openat", "close", "pread64", "pwrite64", "fsync", "fdatasync", "ftruncate", "flock", "renameat2", "getdents64"}
"""What the OS seam cannot do without; `rename`, `unlink`, `mkdir` and `stat` have other names on other machines."""
LOOKING = {"newfstatat", "fstat", "stat", "lstat", "pread64", "getdents64", "getpid", "getrandom", "exit_group"}
KILLED = -9
GOING_ON = Seen(["still here"], [])
FOUR = predictions(LIFE[:4])[-1]
HEALED = {"one": Seen([*FOUR["one"].visible, "healed"], [])}


class Scenario(NamedTuple):
    """`prepare` makes the store (not killed), `job` is killed; `states` are those that `job` acknowledges, in order."""

    prepare: Callable[[Zygote, str], object]
    job: Job
    arguments: dict[str, object]
    states: Sequence[State]
    inject: Sequence[str] = ()


def from_nothing(zygote: Zygote, folder: str) -> None:
    """The data folder does not even exist."""


def torn(zygote: Zygote, folder: str) -> None:
    zygote.run(jobs.plant_torn_tail, folder=folder, cut=90, stale=True).well()


def rewritten(zygote: Zygote, folder: str) -> None:
    zygote.run(jobs.foreign_rewrite, folder=folder).well()


def states_of_merge() -> list[State]:
    theirs = predictions(LIFE[:5])[-1] | {"ours": Seen(["not in their view"], [])}
    theirs["one"] = Seen([*theirs["one"].visible, "from node"], [])
    theirs["node's"] = Seen(["in its own"], [])
    ours = theirs | {"ours": Seen(["not in their view", "after theirs"], [])}
    return [theirs, ours, ours]


LIVED = predictions(LIFE)
SCENARIOS = {
    "a whole life": Scenario(from_nothing, jobs.live, {}, LIVED),
    "a life without renameat2": Scenario(
        from_nothing, jobs.live, {"steps": 11}, LIVED[:12], ["renameat2:error=EINVAL:when=1+"]
    ),
    "healing a torn tail": Scenario(torn, jobs.heal, {}, [FOUR, HEALED, HEALED]),
    "merging a foreign rewrite": Scenario(rewritten, jobs.merge, {}, states_of_merge()),
}


class Crash(NamedTuple):
    """One struck run and the folder that it left."""

    outcome: Outcome
    folder: str
    log: str


class Matrix:
    """The runs of one scenario, on as many zygotes as there are."""

    def __init__(self, scenario: Scenario, zygotes: Sequence[Zygote], place: Path) -> None:
        self.scenario = scenario
        self.zygotes = zygotes
        self.place = place
        self._numbers = itertools.count()
        self._numbering = threading.Lock()

    def folder(self) -> str:
        with self._numbering:
            return str(self.place / f"{next(self._numbers)}" / "data")

    def names(self) -> Counter[str]:
        """How often each system call happens in a run that nobody kills."""
        folder = self.folder()
        self.scenario.prepare(self.zygotes[0], folder)
        log, inject = self.place / "names.log", self.scenario.inject
        outcome, calls = traced(
            self.zygotes[0], log, self.scenario.job, inject=inject, folder=folder, **self.scenario.arguments
        )
        outcome.well()
        # The read that let it go is in the log, unless it returned in the moment when strace attached.
        go = next((number for number, call in enumerate(calls) if call.name == "read"), -1)
        return Counter(call.name for call in calls[go + 1 :])

    def crash(self, zygote: Zygote, name: str, n: int) -> Crash:
        folder = self.folder()
        self.scenario.prepare(zygote, folder)
        log = Path(f"{folder}.log")
        log.parent.mkdir(exist_ok=True)
        inject = [*self.scenario.inject, f"{name}:signal=SIGKILL:when={n}"]
        outcome, text = struck(zygote, log, inject, self.scenario.job, folder=folder, **self.scenario.arguments)
        return Crash(outcome, folder, text)

    def every(self, name: str) -> int:
        """Kills at n = 1, 2, … until a run completes; how many were killed. Each is judged."""

        def strike(zygote: Zygote, n: int) -> bool:
            crash = self.crash(zygote, name, n)
            if crash.outcome.status != KILLED:
                assert crash.outcome.well()
                return False
            assert "+++ killed by SIGKILL +++" in crash.log
            self.judge(zygote, crash, f"killed before {name} number {n}")
            shutil.rmtree(Path(crash.folder).parent)
            return True

        return every_nth(self.zygotes, strike)

    def judge(self, zygote: Zygote, crash: Crash, what: str) -> None:
        """The store opens, is whole, and shows what was acknowledged, or that and the call in flight; and goes on."""
        acked = sum("acked" in said for said in crash.outcome.said)
        allowed = self.scenario.states[acked : acked + 2]
        (found,) = zygote.run(jobs.inspect, folder=crash.folder).well()
        assert found["ok"], (what, found["problems"])
        assert found["untouched"], what
        state = as_state(found["state"])
        assert state in allowed, (what, acked, state, allowed)
        assert found["ok_after"], (what, found["problems"])
        assert as_state(found["after"]) == state | {"going on": GOING_ON}, what
        assert found["leftovers"] == [], what


@pytest.mark.parametrize("which", SCENARIOS)
def test_a_process_killed_at_any_system_call_loses_nothing_acknowledged(
    which: str, zygotes: list[Zygote], memory: Path
) -> None:
    matrix = Matrix(SCENARIOS[which], zygotes, memory)
    names = matrix.names()
    if which == "a whole life":
        assert names.keys() >= SEAM
    else:
        # A kill before a call that only looks leaves the files as a kill before the next one that does something.
        names = Counter({name: number for name, number in names.items() if name not in LOOKING})
    if SCENARIOS[which].inject:
        assert names.keys() & {"link", "linkat"}, "the way without renameat2 was not taken"
    assert "read" not in names, "something is imported in the middle of a life"
    for name, number in names.items():
        kills = matrix.every(name)
        # Ids are random, checksums in tables have more digits or fewer: a few calls come or do not, from run to run.
        assert abs(kills - number) <= max(2, number // 20), (
            f"{name}: {kills} runs killed, {number} calls in a whole run"
        )
    print(f"{which}: some {names.total()} kills: {dict(names)}")


@pytest.mark.parametrize("durability", ["batch", "os"])
def test_a_killed_process_loses_nothing_at_any_durability(durability: str, zygotes: list[Zygote], memory: Path) -> None:
    matrix = Matrix(Scenario(from_nothing, jobs.live, {"durability": durability}, LIVED), zygotes, memory)
    kills = {name: matrix.every(name) for name in ("pwrite64", "renameat2", "write")}
    assert kills["pwrite64"] > len(LIFE)
    assert kills["write"] == len(LIFE) + 1, "one for each acknowledgement, and one for the end"


def test_a_workspace_whose_deletion_was_killed_is_whole_or_refuses_or_is_gone_and_can_be_deleted(
    zygotes: list[Zygote], memory: Path
) -> None:
    matrix = Matrix(Scenario(lived, jobs.delete, {}, [LIVED[-1], {}]), zygotes, memory)
    outcomes: Counter[str] = Counter()
    for name in ("unlink", "unlinkat", "rmdir", "fsync"):
        for n in itertools.count(1):
            crash = matrix.crash(zygotes[0], f"?{name}", n)
            if crash.outcome.status != KILLED:
                break
            (found,) = zygotes[0].run(jobs.inspect_deleted, folder=crash.folder).well()
            assert found["seen"] in ("refused", "gone") or as_state(found["seen"]) in (LIVED[-1], {}), (name, n)
            assert not found["listed_after"], (name, n)
            outcomes[found["seen"] if isinstance(found["seen"], str) else "whole"] += 1
    assert outcomes["whole"] >= 1, outcomes
    assert outcomes.total() > 10, outcomes


def lived(zygote: Zygote, folder: str) -> None:
    zygote.run(jobs.live, folder=folder).well()


def test_a_session_whose_move_was_killed_is_in_one_workspace_or_in_both_and_moving_again_finishes_it(
    zygotes: list[Zygote], memory: Path
) -> None:
    steps = LIFE[:16]
    start = predictions(steps)[-1]
    matrix = Matrix(Scenario(lived_until_attached, jobs.move, {}, [start]), zygotes, memory)
    kills = 0
    for name in ("pwrite64", "fdatasync", "fsync", "rename"):
        for n in itertools.count(1):
            crash = matrix.crash(zygotes[0], name, n)
            if crash.outcome.status != KILLED:
                break
            kills += 1
            (found,) = zygotes[0].run(jobs.inspect_moved, folder=crash.folder).well()
            assert found["problems"] == [], (name, n, found)
            here, there = as_state(found["here"]), as_state(found["there"])
            assert there in ({}, {"three": start["three"]}), (name, n)
            assert "three" in here or "three" in there, (name, n)
            assert as_state(found["here_after"]) == {key: start[key] for key in start if key != "three"}, (name, n)
            assert as_state(found["there_after"]) == {"three": start["three"]}, (name, n)
    assert kills > 10


def lived_until_attached(zygote: Zygote, folder: str) -> None:
    zygote.run(jobs.live, folder=folder, steps=16).well()


def test_the_oracle_follows_the_rules_of_revert() -> None:
    start = {"s": Seen(["a", "b", "c"], [])}
    reverted = predict(start, LIFE[6]._replace(title="s", at=0))
    assert reverted == {"s": Seen(["a"], ["b", "c"])}
    assert predict(reverted, LIFE[8]._replace(title="s")) == start
