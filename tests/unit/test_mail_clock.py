"""Clock jumps (promise 31): leases, retries and the order bear them."""

from __future__ import annotations

import pytest

from nomad_sessions import ManualClock, NativeSessionManager
from tests.support.mail import BOB, HOUR, WS, contents, lease_of, received

from .conftest import START


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 24 * 365 * HOUR])
def test_a_jump_of_the_clock_takes_no_message_from_a_consumer_that_lives(
    m: NativeSessionManager, clock: ManualClock, jump: int
) -> None:
    m.send(WS, BOB, "x")
    mail = received(m, lease=30)
    clock.set(START + jump)
    assert m.receive(WS, BOB) is None
    with NativeSessionManager(m.data_dir, clock=clock) as other:
        assert other.receive(WS, BOB) is None
        clock.advance(29_999)
        assert other.receive(WS, BOB) is None
        clock.advance(1)
        assert received(other).id == mail.id


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_what_a_consumer_that_died_had_is_there_again_after_a_jump(
    m: NativeSessionManager, clock: ManualClock, jump: int
) -> None:
    m.send(WS, BOB, "x")
    with NativeSessionManager(m.data_dir, clock=clock) as consumer:
        received(consumer)
    assert m.receive(WS, BOB) is None
    clock.set(START + jump)
    assert received(m).attempts == 2


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_retry_comes_after_a_jump_too(m: NativeSessionManager, clock: ManualClock, jump: int) -> None:
    m.send(WS, BOB, "x")
    m.nack(WS, lease_of(received(m)), delay=20)
    clock.set(START + jump)
    assert received(m).attempts == 2


def test_the_clock_never_decides_the_order(m: NativeSessionManager, clock: ManualClock) -> None:
    for number in range(10):
        m.send(WS, BOB, number)
        clock.set(START - number * HOUR)
    assert contents(m) == list(range(10))
