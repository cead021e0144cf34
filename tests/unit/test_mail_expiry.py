"""A message's time to live: what has had it is never handed out, whoever had it meanwhile."""

from __future__ import annotations

from nomad_sessions import ManualClock, NativeSessionManager
from tests.support.mail import BOB, WS, lease_of, received
from tests.support.there import there


def test_what_has_had_its_time_goes_to_the_dead_letters_or_away_as_asked(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    m.send(WS, BOB, "kept", ttl=10)
    m.send(WS, BOB, "dropped", ttl=10, on_expiry="drop")
    keyed = m.send(WS, BOB, "keyed", ttl=10, on_expiry="drop", key="k")
    m.send(WS, BOB, "stays", ttl=11)
    clock.advance(9_999)
    assert there(m.peek(WS, BOB)).content == "kept"
    clock.advance(1)
    assert received(m).content == "stays"
    (dead,) = m.dead_letters(WS)
    assert (dead.content, dead.reason) == ("kept", "expired")
    assert m.send(WS, BOB, "keyed", key="k").status == "expired"
    assert there(m.get_mail(WS, keyed.id)).content is None
    assert m.list_mail(WS).total == 2


def test_whoever_has_a_message_keeps_it_though_its_time_ends(m: NativeSessionManager, clock: ManualClock) -> None:
    m.send(WS, BOB, "x", ttl=10)
    mail = received(m, lease=60)
    clock.advance(20_000)
    m.send(WS, "eve", "a call that clears up")
    m.ack(WS, lease_of(mail))
    m.send(WS, BOB, "y", ttl=10)
    mail = received(m, lease=60)
    clock.advance(20_000)
    m.nack(WS, lease_of(mail), delay=0)
    assert m.receive(WS, BOB) is None
    assert m.dead_letters(WS)[0].reason == "expired"


def test_sending_clears_up_for_recipients_that_nobody_asks_for(m: NativeSessionManager, clock: ManualClock) -> None:
    for number in range(20):
        m.send(WS, "gone", number, ttl=1, on_expiry="drop")
    clock.advance(1_000)
    m.send(WS, BOB, "x")
    assert m.list_mail(WS).total == 1
