"""A message's time to live: what has had it is never handed out, whoever had it meanwhile."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from nomad_sessions import Mail, ManualClock, NativeSessionManager, StoreReadOnlyError
from tests.support.mail import BOB, WS, lease_of, received
from tests.support.modelfs import ModelDisk
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


def leased(m: NativeSessionManager, **options: Any) -> Mail:
    """A message that lives for ten seconds, in the hands of somebody for five."""
    m.send(WS, BOB, "x", ttl=10, **options)
    return received(m, lease=5)


def lapse(m: NativeSessionManager, clock: ManualClock, mail: Mail) -> None:
    """The lease ends by itself, and nobody asks before the message has had its time."""
    clock.advance(10_000)


def give_back(m: NativeSessionManager, clock: ManualClock, mail: Mail) -> None:
    """The consumer gives the message back, when it has had its time."""
    m.extend(WS, lease_of(mail), 60)
    clock.advance(10_000)
    assert m.nack(WS, lease_of(mail), delay=0).status in ("dead", "expired")


def give_back_early(m: NativeSessionManager, clock: ManualClock, mail: Mail) -> None:
    """The consumer gives it back while it lives, for later than that."""
    assert m.nack(WS, lease_of(mail), delay=10).status == "queued"
    clock.advance(10_000)


WAYS = (lapse, give_back, give_back_early)


@pytest.mark.parametrize(("end", "attempts"), [*((end, 5) for end in WAYS), (lapse, 1), (give_back, 1)])
def test_what_has_had_its_time_while_it_was_leased_is_never_handed_out_again(
    m: NativeSessionManager, clock: ManualClock, end: Callable[..., None], attempts: int
) -> None:
    end(m, clock, leased(m, max_attempts=attempts))
    m.send(WS, BOB, "behind it")
    assert there(m.peek(WS, BOB)).content == "behind it"
    assert received(m).content == "behind it"
    (dead,) = m.dead_letters(WS)
    assert (dead.content, dead.reason, dead.attempts, dead.lease) == ("x", "expired", 1, None)
    assert m.mail_counts(WS)[:3] == (0, 1, 1)
    assert m.check(WS).ok


@pytest.mark.parametrize("end", WAYS)
def test_what_is_to_be_dropped_then_is_dropped(
    m: NativeSessionManager, clock: ManualClock, end: Callable[..., None]
) -> None:
    end(m, clock, leased(m, on_expiry="drop"))
    assert m.receive(WS, BOB) is None
    assert m.list_mail(WS).total == 0
    end(m, clock, leased(m, on_expiry="drop", key="k"))
    assert m.receive(WS, BOB) is None
    assert there(m.list_mail(WS, status="expired"))[0].key == "k"


def test_the_error_that_a_consumer_gave_is_kept_with_what_expired(m: NativeSessionManager, clock: ManualClock) -> None:
    mail = leased(m)
    clock.advance(10_000)
    assert m.nack(WS, lease_of(mail), error="no such tool").error == "no such tool"
    mail = leased(m, on_expiry="drop")
    clock.advance(10_000)
    gone = m.nack(WS, lease_of(mail))
    assert (gone.id, gone.status, gone.content, gone.lease) == (mail.id, "expired", "x", None)
    assert m.get_mail(WS, mail.id) is None


def test_sending_clears_up_what_a_consumer_let_lapse(m: NativeSessionManager, clock: ManualClock) -> None:
    leased(m)
    clock.advance(10_000)
    m.send(WS, "eve", "a call that clears up")
    assert [each.reason for each in m.dead_letters(WS)] == ["expired"]


def test_a_lease_that_still_runs_outlives_its_message_and_the_work_counts(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    mail = leased(m)
    m.extend(WS, lease_of(mail), 60)
    clock.advance(10_000)
    assert m.receive(WS, BOB) is None
    assert m.mail_counts(WS).leased == 1
    m.ack(WS, lease_of(mail))
    assert m.list_mail(WS).total == 0


@pytest.mark.parametrize("refuses", ["the disk", "the folder"])
def test_where_nothing_can_be_written_receiving_says_so_and_looking_goes_on(clock: ManualClock, refuses: str) -> None:
    disk = ModelDisk()
    with NativeSessionManager("/data", clock=clock, filesystem=disk.process()) as m:
        m.send(WS, BOB, "over", ttl=1)
        m.send(WS, "eve", "waits")
    clock.advance(1_000)
    fs = disk.process()
    with NativeSessionManager("/data", clock=clock, filesystem=fs) as m:
        assert m.peek(WS, BOB) is None
        if refuses == "the disk":
            disk.read_only = True
        else:
            fs.inject(errno.EACCES, op="mkdir", forever=True)
        for recipient in (BOB, "eve", "nobody"):
            for wait in (0.0, 0.01):
                with pytest.raises(StoreReadOnlyError, match=f"/data/{WS}"):
                    m.receive(WS, recipient, wait=wait)
        assert there(m.peek(WS, "eve")).content == "waits"
        assert m.mail_counts(WS)[:3] == (2, 0, 0)
        assert m.list_mail(WS).total == 2
