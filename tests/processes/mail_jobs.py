"""What the processes of the mailbox's tests do. Each emits what outlives it: what was acknowledged, and when."""

from __future__ import annotations

import os
import signal
import time

from nomad_sessions import LeaseNotFoundError, NativeSessionManager
from nomad_sessions.clock import SystemClock
from tests.support.zygote import Emit

WS, BOB = "ws", "bob"


class SetClock(SystemClock):
    """The machine's clock, set wrong by so many ms."""

    __slots__ = ("_wrong",)

    def __init__(self, wrong: int) -> None:
        self._wrong = wrong

    def now(self) -> int:
        return super().now() + self._wrong


def die(emit: Emit, data_dir: str, acks: int, lease: float) -> None:
    """Acknowledges some messages, leases one more, and is killed before it could acknowledge that."""
    manager = NativeSessionManager(data_dir, lock_timeout=30)
    for number in range(acks + 1):
        mail = manager.receive(WS, BOB, lease=lease if number == acks else 60, wait=30)
        if mail is None or mail.lease is None:
            return
        emit(["leased", mail.content, mail.position])
        if number == acks:
            os.kill(os.getpid(), signal.SIGKILL)
        manager.ack(WS, mail.lease.id)
        emit(["acked", mail.content, mail.position])


def consume(emit: Emit, data_dir: str, ordered: bool, begin: float) -> None:
    """Works on messages until one says that it is the last; says of each from when to when it was worked on."""
    with NativeSessionManager(data_dir, lock_timeout=30) as manager:
        while time.monotonic() < begin:
            time.sleep(0.001)
        while (mail := manager.receive(WS, BOB, wait=0.3, ordered=ordered)) is not None and mail.lease is not None:
            started = time.monotonic()
            time.sleep(0.001)
            ended = time.monotonic()
            try:
                manager.ack(WS, mail.lease.id)
            except LeaseNotFoundError:
                emit(["lost", mail.id])
            emit([mail.content, mail.position, mail.attempts, started, ended])


def send_keyed(emit: Emit, data_dir: str, name: str, start: int, count: int, killed: bool) -> None:
    """Sends numbered messages, each with its key; is killed in the middle of the last call or after it."""
    manager = NativeSessionManager(data_dir, lock_timeout=30)
    for number in range(start, start + count):
        if killed and number == start + count - 1:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + (start * 37 % 11) * 2e-4)
        manager.send(WS, BOB, [name, number], sender=name, key=f"{name} {number}")
        emit(number)
    while killed:
        time.sleep(1)


def look(emit: Emit, data_dir: str, wrong: int) -> None:
    """Asks for a message with a clock that was set wrong; says which it got."""
    with NativeSessionManager(data_dir, clock=SetClock(wrong)) as manager:
        mail = manager.receive(WS, BOB, lease=1)
        emit(None if mail is None else mail.content)
        if mail is not None and mail.lease is not None:
            manager.nack(WS, mail.lease.id, delay=0)
