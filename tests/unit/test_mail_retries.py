"""What failed comes again, and is dead after its attempts; a message sent twice with one key is one."""

from __future__ import annotations

import pytest

from nomad_sessions import MailNotFoundError, ManualClock, NativeSessionManager
from nomad_sessions.mail import operations
from tests.support.mail import BOB, WS, contents, lease_of, received

from .conftest import START


def test_a_poison_message_is_dead_after_its_attempts_with_exact_delays_and_the_next_goes_on(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    m.send(WS, BOB, "poison", max_attempts=4, backoff=2)
    m.send(WS, BOB, "next")
    for attempt in (1, 2, 3):
        mail = m.nack(WS, lease_of(received(m)), error=f"failed {attempt}")
        wait = mail.retry_delay
        whole = 2_000 * 2 ** (attempt - 1)
        assert whole // 2 <= wait <= whole
        assert (mail.next_attempt_at, mail.attempts, mail.error) == (clock.now() + wait, attempt, f"failed {attempt}")
        clock.advance(wait - 1)
        assert m.receive(WS, BOB) is None
        clock.advance(1)
    dead = m.nack(WS, lease_of(received(m)), error="for good")
    assert (dead.status, dead.reason, dead.error, dead.attempts) == ("dead", "max_attempts", "for good", 4)
    assert m.dead_letters(WS, BOB) == [dead]
    assert contents(m) == ["next"]


def test_a_consumer_that_dies_each_time_brings_a_message_to_the_dead_letters_too(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    m.send(WS, BOB, "poison", max_attempts=2)
    m.send(WS, BOB, "next")
    for _ in range(2):
        assert received(m, lease=1).content == "poison"
        clock.advance(1_000)
    assert received(m).content == "next"
    (dead,) = m.dead_letters(WS)
    assert (dead.reason, dead.error) == ("max_attempts", "the lease ran out")


def test_what_is_rejected_is_dead_at_once_and_a_delay_can_be_said(m: NativeSessionManager, clock: ManualClock) -> None:
    m.send(WS, BOB, "x")
    assert m.nack(WS, lease_of(received(m)), delay=60).next_attempt_at == START + 60_000
    clock.advance(60_000)
    dead = m.nack(WS, lease_of(received(m)), error="no such tool", retry=False)
    assert (dead.status, dead.reason, dead.lease) == ("dead", "rejected", None)
    m.send(WS, BOB, "y")
    m.nack(WS, lease_of(received(m)), delay=0)
    assert received(m).content == "y"


def test_a_dead_letter_that_is_put_back_has_all_its_attempts_and_comes_last(m: NativeSessionManager) -> None:
    sent = m.send(WS, BOB, "again", max_attempts=1, ttl=60)
    m.nack(WS, lease_of(received(m)), error="e")
    m.send(WS, BOB, "other")
    mail = m.requeue(WS, sent.id)
    assert (mail.status, mail.attempts, mail.reason, mail.error, mail.expires_at) == ("queued", 0, None, None, None)
    with pytest.raises(MailNotFoundError, match="it is queued"):
        m.requeue(WS, sent.id)
    with pytest.raises(MailNotFoundError, match="never existed"):
        m.requeue(WS, "nobody")
    m.checkpoint(WS)
    with NativeSessionManager(m.data_dir, clock=ManualClock(START)) as other:
        assert contents(other) == ["other", "again"]


def test_what_waits_or_is_dead_can_be_discarded_and_what_somebody_has_cannot(m: NativeSessionManager) -> None:
    one, two = m.send(WS, BOB, 1), m.send(WS, BOB, 2)
    m.discard(WS, two.id)
    mail = received(m)
    with pytest.raises(MailNotFoundError, match="it is leased"):
        m.discard(WS, one.id)
    m.nack(WS, lease_of(mail), retry=False)
    m.discard(WS, one.id)
    assert m.list_mail(WS).total == 0
    with pytest.raises(MailNotFoundError):
        m.discard(WS, one.id)


def test_a_second_send_with_a_key_gives_the_first_message_also_after_it_was_acknowledged(
    m: NativeSessionManager,
) -> None:
    first = m.send(WS, BOB, "x", key="k", metadata={"a": 1})
    assert m.send(WS, BOB, "y", key="k") == first
    assert m.send(WS, "eve", "y", key="k").id != first.id
    m.ack(WS, lease_of(received(m)))
    m.checkpoint(WS)
    with NativeSessionManager(m.data_dir) as other:
        seq = other.status(WS).seq
        again = other.send(WS, BOB, "z", key="k")
        assert (again.id, again.status, again.content, again.metadata) == (first.id, "acked", None, {})
        assert other.status(WS).seq == seq, "nothing was written"
        assert other.receive(WS, BOB) is None
        assert other.list_mail(WS, BOB).total == 0
        assert other.list_mail(WS, BOB, status="acked") == [again]


def test_dead_letters_keep_their_keys(m: NativeSessionManager) -> None:
    first = m.send(WS, BOB, "x", key="k")
    m.nack(WS, lease_of(received(m)), retry=False)
    assert m.send(WS, BOB, "x", key="k").id == first.id
    m.discard(WS, first.id)
    assert m.send(WS, BOB, "x", key="k").id != first.id


def test_only_so_many_keys_are_remembered(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "KEYS", 3)
    ids = [m.send(WS, BOB, number, key=f"k{number}", ttl=1, on_expiry="drop").id for number in range(3)]
    for number in range(3, 6):
        ids.append(m.send(WS, BOB, number, key=f"k{number}").id)
    assert contents(m) == list(range(6))
    assert [mail.id for mail in m.list_mail(WS, status="acked")] == ids[3:]
    assert m.send(WS, BOB, 5, key="k5").id == ids[5]
    assert m.send(WS, BOB, 0, key="k0").id not in ids
    assert m.check(WS).ok
