"""Death at every single call of one scenario: open, add, rotate, fold, heal, prune. No draw decides where.

Promise 12: recovery is idempotent and itself crash-safe. What a scenario acknowledged is known from an undisturbed run.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.life import DATA, manager_on
from tests.crash.model import WS, State, Step, contents, expect, perform
from tests.support.drawing import at_random
from tests.support.faults import Effect
from tests.support.modelfs import MUTATING, Killed, ModelDisk


def add(number: int, size: int = 100) -> Step:
    return Step("add", "chat", (f"text {number} " + "x" * size,))


class Script:
    """What is done to a disk: `before` undisturbed, then `during` with a death in it."""

    def __init__(self, before: Callable[[ModelDisk], State], during: list[Step | str]) -> None:
        self.before = before
        self.during = during

    def run(self, nth: int, effect: Effect, *, power: bool, seed: int) -> bool:
        """False when the scenario ended before the call at which it should die."""
        disk = ModelDisk()
        state = self.before(disk)
        disk.settle()
        process = disk.process()
        fault = process.die_at(nth, op=MUTATING, effect=effect)
        allowed = [state]
        try:
            manager = manager_on(process)
            for step in self.during:
                if isinstance(step, str):
                    getattr(manager, step)(*([WS] if step != "close" else []))
                    continue
                allowed = [state, expect(state, step)]
                perform(manager, step)
                state = allowed[-1]
                allowed = [state]
        except Killed:
            assert fault.fired
        process.kill()
        if power:
            disk = disk.crash(at_random(seed))
        self.judge(disk, allowed)
        return bool(fault.fired)

    def judge(self, disk: ModelDisk, allowed: list[State]) -> None:
        manager = manager_on(disk.process())
        assert manager.check(WS).ok, manager.check(WS).problems
        found = contents(manager)
        assert found in allowed
        if found:
            step = Step("describe", sorted(found)[0], ("after",))
            perform(manager, step)
            manager.checkpoint(WS)
            assert contents(manager_on(disk.process())) == expect(found, step)
            assert manager.check(WS).ok


def nothing(disk: ModelDisk) -> State:
    return {}


def filled(count: int, *, fold: bool = False, torn: bytes = b"") -> Callable[[ModelDisk], State]:
    def before(disk: ModelDisk) -> State:
        state: State = {}
        manager = manager_on(disk.process())
        for step in [Step("create", "chat"), *map(add, range(count))]:
            perform(manager, step)
            state = expect(state, step)
        if fold:
            manager.checkpoint(WS)
        if torn:
            path = max(path for path in disk.tree() if path.startswith(f"{DATA}/{WS}/journal/"))
            disk.write(path, disk.read(path) + torn)
        return state

    return before


SCRIPTS = {
    "the first write of all": Script(nothing, [Step("create", "chat"), add(1)]),
    "rotation": Script(filled(3), [add(number, 400) for number in range(10, 14)]),
    "a checkpoint": Script(filled(4), [add(10), "checkpoint", add(11)]),
    "a checkpoint over a snapshot": Script(filled(4, fold=True), [add(10), "checkpoint", add(11), "checkpoint"]),
    "a clean close": Script(filled(2), [add(10), "close"]),
    "the healing of a torn tail": Script(filled(3, torn=b'{"crc":"00000000","seq"'), [add(10)]),
    "the healing of NULs": Script(filled(3, torn=bytes(700)), [add(10), "checkpoint"]),
    "pruning": Script(
        filled(12, fold=True), [*(add(number, 300) for number in range(20, 25)), "checkpoint", "checkpoint"]
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
def test_death_at_every_call_of(name: str, power: bool) -> None:
    script = SCRIPTS[name]
    for effect in ("none", "part", "all"):
        nth = 1
        while script.run(nth, effect, power=power, seed=nth):
            nth += 1
        assert nth > 5, "the scenario has calls to die at"


@pytest.mark.parametrize("seed", range(4))
def test_the_death_of_a_process_that_heals_what_the_death_of_another_left(seed: int) -> None:
    draw = at_random(seed)
    for nth in range(1, 40, 2):
        disk = ModelDisk()
        state = filled(5)(disk)
        disk.settle()
        allowed = [state]
        for _ in range(3):
            process = disk.process()
            process.die_at(draw(range(1, nth + 1)), op=MUTATING, effect=draw(("none", "part", "all")))
            try:
                manager = manager_on(process)
                while True:
                    step = add(len(allowed) * 100 + nth, 200)
                    allowed.append(expect(allowed[-1], step))
                    perform(manager, step)
                    allowed = allowed[-1:]
            except Killed:
                disk = disk.crash(draw)
            found = contents(manager_on(disk.process()))
            assert found in allowed
            allowed = [found]
        assert manager_on(disk.process()).check(WS).ok
