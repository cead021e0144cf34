"""Promise 33 on the model file system: death and power loss at every single call of a mailbox's life."""

from __future__ import annotations

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.clock import ManualClock
from tests.crash.life import DATA, small_store
from tests.support.drawing import at_random
from tests.support.faults import Effect
from tests.support.modelfs import MUTATING, Killed, ModelDisk, ModelFS

WS, BOB = "ws", "bob"
CLOCK = 1_750_000_000_000


class Evidence:
    """What was acknowledged to the caller, outside of the disk that crashes; `doubtful` is the call in flight."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.done: list[int] = []
        self.doubtful: tuple[str, int] | None = None


def manager_on(fs: ModelFS, hours: int = 0) -> NativeSessionManager:
    return NativeSessionManager(DATA, filesystem=fs, clock=ManualClock(CLOCK + hours * 3_600_000))


def live(manager: NativeSessionManager, said: Evidence) -> None:
    """Sends, receives, acknowledges; gives one back; folds."""
    for number in range(9):
        said.doubtful = ("send", number)
        manager.send(WS, BOB, number, key=str(number) if number % 2 else None, metadata={"x": "y" * 300})
        said.sent.append(number)
        said.doubtful = None
        if number % 3 == 2:
            mail = manager.receive(WS, BOB)
            assert mail is not None
            assert mail.lease is not None
            said.doubtful = ("ack", mail.content)
            manager.ack(WS, mail.lease.id)
            said.done.append(mail.content)
            said.doubtful = None
    mail = manager.receive(WS, BOB)
    assert mail is not None
    assert mail.lease is not None
    manager.nack(WS, mail.lease.id, delay=0)
    manager.receive(WS, BOB)
    manager.checkpoint(WS)
    manager.close()


def judge(disk: ModelDisk, said: Evidence) -> None:
    manager = manager_on(disk.process(), hours=2)  # Later: whatever somebody had when he died is to be had again.
    assert manager.check(WS).ok, manager.check(WS).problems
    found: list[int] = []
    while (mail := manager.receive(WS, BOB)) is not None:
        assert mail.lease is not None
        found.append(mail.content)
        manager.ack(WS, mail.lease.id)
    open_ones = [number for number in said.sent if number not in said.done]
    allowed = [open_ones]
    if said.doubtful is not None:
        what, number = said.doubtful
        allowed.append([*open_ones, number] if what == "send" else [each for each in open_ones if each != number])
    assert found in allowed, (found, allowed)


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power"])
def test_mail_survives_death_and_power_loss_at_every_call(power: bool) -> None:
    effects: tuple[Effect, ...] = ("all", "part", "none")
    with small_store():
        nth = 1
        while True:
            disk, said = ModelDisk(), Evidence()
            process = disk.process()
            fault = process.die_at(nth, op=MUTATING, effect=effects[nth % 3])
            try:
                live(manager_on(process), said)
            except Killed:
                assert fault.fired
            process.kill()
            judge(disk.crash(at_random(nth)) if power else disk, said)
            if not fault.fired:
                break
            nth += 1
    assert nth > 60
