"""The calls on the mailbox: sent, leased, acknowledged; given back, retried, dead; keys, time to live, jumps."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    InvalidCursorError,
    InvalidInputError,
    LeaseNotFoundError,
    Mail,
    MailNotFoundError,
    ManualClock,
    NativeSessionManager,
    StoreClosedError,
)
from nomad_sessions.mail import operations
from tests.support.there import there
from tests.support.together import together

from .conftest import START

WS, BOB = "ws", "bob"
HOUR = 3_600_000


def received(m: NativeSessionManager, recipient: str = BOB, **options: Any) -> Mail:
    return there(m.receive(WS, recipient, **options))


def lease_of(mail: Mail) -> str:
    return there(mail.lease).id


def contents(m: NativeSessionManager, recipient: str = BOB) -> list[Any]:
    """Receives and acknowledges everything that can be had."""
    found = []
    while (mail := m.receive(WS, recipient)) is not None:
        found.append(mail.content)
        m.ack(WS, lease_of(mail))
    return found


# Sending and receiving


def test_what_is_sent_is_received_as_it_was_and_gone_once_it_is_acknowledged(m: NativeSessionManager) -> None:
    content: dict[str, Any] = {"task": ["\ud83d", None, 1.5, {"deep": []}]}
    sent = m.send(WS, BOB, content, sender="alice", type="task", metadata={"n": 1}, priority="high")
    content["task"] = []
    assert (sent.status, sent.position, sent.created_at, sent.attempts) == ("queued", 1, START, 0)
    mail = received(m)
    assert (mail.id, mail.sender, mail.type, mail.metadata, mail.attempts) == (sent.id, "alice", "task", {"n": 1}, 1)
    assert mail.content == {"task": ["\ud83d", None, 1.5, {"deep": []}]}
    assert there(mail.lease).until == START + 30_000
    assert m.receive(WS, BOB) is None
    m.ack(WS, lease_of(mail))
    assert m.get_mail(WS, sent.id) is None
    m.checkpoint(WS)
    assert json.loads((Path(m.data_dir) / WS / "sessions.json").read_text())["mailbox"] == {}
    assert m.check(WS).ok


def test_an_empty_mailbox_has_nothing_and_looking_makes_nothing(m: NativeSessionManager) -> None:
    assert m.receive(WS, BOB) is None
    assert m.peek(WS, BOB) is None
    assert m.list_mail(WS) == m.dead_letters(WS) == []
    assert m.mail_counts(WS) == (0, 0, 0, 0, None)
    assert not (Path(m.data_dir) / WS).exists()


def test_mail_survives_the_end_of_the_process_and_a_fold(m: NativeSessionManager) -> None:
    for number in range(5):
        m.send(WS, BOB, number)
    first = received(m)
    for fold in (False, True):
        if fold:
            m.checkpoint(WS)
        with NativeSessionManager(m.data_dir, clock=ManualClock(START)) as other:
            assert other.receive(WS, BOB) is None, "the first is leased"
            assert other.mail_counts(WS, BOB) == (4, 1, 0, 1, START)
    m.ack(WS, lease_of(first))
    with NativeSessionManager(m.data_dir, clock=ManualClock(START)) as other:
        assert contents(other) == [1, 2, 3, 4]


def test_peek_gives_what_receive_would_and_leases_nothing(m: NativeSessionManager) -> None:
    m.send(WS, BOB, "a")
    m.send(WS, BOB, "b", priority="urgent")
    assert there(m.peek(WS, BOB)).content == "b"
    assert received(m).content == "b"
    m.send(WS, BOB, "c", priority="urgent")
    assert there(m.peek(WS, BOB)).content == "a"
    assert there(m.peek(WS, BOB, ordered=False)).content == "c"
    assert m.mail_counts(WS).leased == 1


def test_within_a_priority_nothing_overtakes_and_who_needs_no_order_gets_what_is_free(m: NativeSessionManager) -> None:
    for number in range(3):
        m.send(WS, BOB, number)
    first = received(m)
    assert m.receive(WS, BOB) is None
    second = received(m, ordered=False)
    assert second.content == 1
    m.nack(WS, lease_of(first), delay=10)
    assert m.receive(WS, BOB) is None, "the first waits for its next attempt"
    assert received(m, ordered=False).content == 2


def test_recipients_do_not_wait_for_each_other(m: NativeSessionManager) -> None:
    m.send(WS, BOB, 1)
    m.send(WS, "eve", 2)
    received(m)
    assert received(m, "eve").content == 2


def test_of_eight_deliveries_in_a_row_one_goes_to_what_waited_longest(m: NativeSessionManager) -> None:
    m.send(WS, BOB, "low", priority="low")
    order = []
    for number in range(20):
        m.send(WS, BOB, number, priority="urgent")
        mail = received(m)
        order.append(mail.content)
        m.ack(WS, lease_of(mail))
    assert order.index("low") == 7
    assert [each for each in order if each != "low"] == list(range(19))


# Leases


def test_a_lease_whose_time_is_over_goes_to_the_next_who_asks_and_the_first_is_told(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    m.send(WS, BOB, "x")
    stale = received(m, lease=5)
    clock.advance(4_999)
    assert m.receive(WS, BOB) is None
    clock.advance(1)
    fresh = received(m)
    assert (fresh.id, fresh.attempts) == (stale.id, 2)
    before = (Path(m.data_dir) / WS / "journal").stat(), m.get_mail(WS, fresh.id)
    for call in (m.ack, m.nack, m.extend):
        with pytest.raises(LeaseNotFoundError) as caught:
            call(WS, lease_of(stale))
        assert caught.value.lease_id == lease_of(stale)
    assert m.get_mail(WS, fresh.id) == before[1]
    m.ack(WS, lease_of(fresh))
    with pytest.raises(LeaseNotFoundError):
        m.ack(WS, lease_of(fresh))


def test_a_foreign_lease_changes_nothing_and_makes_nothing(m: NativeSessionManager) -> None:
    for call in (m.ack, m.nack, m.extend):
        with pytest.raises(LeaseNotFoundError):
            call(WS, "nobody's")
    assert not (Path(m.data_dir) / WS / "streams").exists()
    m.send(WS, BOB, "x")
    mail = received(m)
    with pytest.raises(LeaseNotFoundError):
        m.ack("other", lease_of(mail))
    with pytest.raises(LeaseNotFoundError):
        m.ack(WS, mail.id)
    m.ack(WS, lease_of(mail))


def test_a_late_acknowledgement_counts_while_nobody_else_has_the_message(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    m.send(WS, BOB, "x")
    mail = received(m, lease=1)
    clock.advance(HOUR)
    m.ack(WS, lease_of(mail))
    assert m.receive(WS, BOB) is None


def test_an_extended_lease_lasts_from_now_on(m: NativeSessionManager, clock: ManualClock) -> None:
    m.send(WS, BOB, "x")
    mail = received(m, lease=5)
    clock.advance(4_000)
    longer = m.extend(WS, lease_of(mail), 10)
    assert there(longer.lease).until == START + 14_000
    clock.advance(9_999)
    assert m.receive(WS, BOB) is None
    clock.advance(1)
    assert received(m).attempts == 2


def test_threads_never_share_a_lease(m: NativeSessionManager) -> None:
    for number in range(60):
        m.send(WS, BOB, number)
    found: list[Any] = []

    def consume() -> None:
        while (mail := m.receive(WS, BOB, ordered=False)) is not None:
            found.append(mail.content)
            m.ack(WS, lease_of(mail))

    together(*[consume] * 6)
    assert sorted(found) == list(range(60))


# Retries and dead letters


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


# Keys


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


# Time to live


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


# Clock jumps (promise 31)


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


# Waiting


def test_who_waits_gets_what_comes_within_moments(m: NativeSessionManager) -> None:
    m.send(WS, "eve", "not for bob")
    threading.Timer(0.1, lambda: m.send(WS, BOB, "x")).start()
    began = time.monotonic()
    mail = received(m, wait=20)
    assert (mail.content, time.monotonic() - began < 5) == ("x", True)


def test_who_waits_in_vain_is_told_in_time_and_looks_seldom(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    taken = NativeSessionManager._taken

    def counted(self: NativeSessionManager, *args: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        return taken(self, *args, **options)

    monkeypatch.setattr(NativeSessionManager, "_taken", counted)
    began = time.monotonic()
    assert m.receive(WS, BOB, wait=0.3) is None
    assert 0.3 <= time.monotonic() - began < 5
    assert looks <= 4


def test_who_waits_gets_each_retry_when_it_is_due_by_the_real_clock_until_it_is_dead(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="os") as m:
        m.send(WS, BOB, "poison", backoff=0.1, max_attempts=3)
        mail = received(m)
        for _ in range(2):
            delay = m.nack(WS, lease_of(mail)).retry_delay
            began = time.monotonic()
            mail = received(m, wait=20)
            assert delay - 2 <= (time.monotonic() - began) * 1000 < delay + 2_000
        m.nack(WS, lease_of(mail))
        assert [dead.attempts for dead in m.dead_letters(WS)] == [3]


def test_a_manager_that_is_closed_ends_the_wait(tmp_path: Path) -> None:
    m = NativeSessionManager(tmp_path)
    m.send(WS, "eve", 1)
    threading.Timer(0.1, m.close).start()
    with pytest.raises(StoreClosedError):
        m.receive(WS, BOB, wait=20)


# Lists, input, other programs


def test_lists_have_true_totals_and_pages_that_stay(m: NativeSessionManager) -> None:
    for number in range(10):
        m.send(WS, BOB if number % 2 else "eve", number, priority="urgent" if number == 9 else "low")
    first = m.list_mail(WS, limit=4)
    assert ([mail.content for mail in first], first.total) == ([0, 1, 2, 3], 10)
    m.discard(WS, first[3].id)
    rest = m.list_mail(WS, cursor=first.next_cursor)
    assert ([mail.content for mail in rest], rest.next_cursor) == ([4, 5, 6, 7, 8, 9], None)
    received(m)
    assert [mail.content for mail in m.list_mail(WS, BOB, status="leased")] == [9]
    assert [mail.content for mail in m.list_mail(WS, BOB, status="queued")] == [1, 5, 7]
    assert m.mail_counts(WS) == (8, 1, 0, 2, START)
    assert m.mail_counts(WS, "nobody") == (0, 0, 0, 0, None)
    with pytest.raises(InvalidCursorError):
        m.list_mail(WS, cursor="x")


BAD: list[tuple[str, Callable[[NativeSessionManager], Any]]] = [
    ("recipient", lambda m: m.send(WS, "", 1)),
    ("recipient", lambda m: m.send(WS, 5, 1)),  # type: ignore[arg-type]
    ("recipient", lambda m: m.send(WS, "x" * 513, 1)),
    ("sender", lambda m: m.send(WS, BOB, 1, sender="")),
    ("type", lambda m: m.send(WS, BOB, 1, type="")),
    ("key", lambda m: m.send(WS, BOB, 1, key="")),
    ("priority", lambda m: m.send(WS, BOB, 1, priority="most")),
    ("content", lambda m: m.send(WS, BOB, object())),
    ("metadata", lambda m: m.send(WS, BOB, 1, metadata=[])),  # type: ignore[arg-type]
    ("metadata", lambda m: m.send(WS, BOB, 1, metadata={"x": float("nan")})),
    ("ttl", lambda m: m.send(WS, BOB, 1, ttl=0)),
    ("ttl", lambda m: m.send(WS, BOB, 1, ttl=-1)),
    ("ttl", lambda m: m.send(WS, BOB, 1, ttl=True)),
    ("on_expiry", lambda m: m.send(WS, BOB, 1, on_expiry="keep")),
    ("max_attempts", lambda m: m.send(WS, BOB, 1, max_attempts=0)),
    ("max_attempts", lambda m: m.send(WS, BOB, 1, max_attempts=1.5)),  # type: ignore[arg-type]
    ("backoff", lambda m: m.send(WS, BOB, 1, backoff=float("inf"))),
    ("lease", lambda m: m.receive(WS, BOB, lease=0)),
    ("wait", lambda m: m.receive(WS, BOB, wait=-1)),
    ("recipient", lambda m: m.receive(WS, "")),
    ("recipient", lambda m: m.peek(WS, "")),
    ("lease_id", lambda m: m.ack(WS, None)),  # type: ignore[arg-type]
    ("delay", lambda m: m.nack(WS, "l", delay=-1)),
    ("error", lambda m: m.nack(WS, "l", error=5)),  # type: ignore[arg-type]
    ("seconds", lambda m: m.extend(WS, "l", 0)),
    ("mail_id", lambda m: m.get_mail(WS, "")),
    ("mail_id", lambda m: m.requeue(WS, "")),
    ("status", lambda m: m.list_mail(WS, status="new")),
    ("limit", lambda m: m.dead_letters(WS, limit=0)),
]


@pytest.mark.parametrize(("field", "call"), BAD, ids=range(len(BAD)))
def test_bad_input_is_refused_by_name_and_writes_nothing(
    kept: NativeSessionManager, field: str, call: Callable[[NativeSessionManager], Any]
) -> None:
    seq = kept.status(WS).seq
    with pytest.raises(InvalidInputError) as caught:
        call(kept)
    assert caught.value.field == field
    assert kept.status(WS).seq == seq


def test_where_another_program_keeps_something_else_nothing_is_sent_into_the_void(m: NativeSessionManager) -> None:
    m.create_session(WS)
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"mailbox": ["theirs"]}))
    for call in (lambda: m.send(WS, BOB, 1), lambda: m.receive(WS, BOB), lambda: m.list_mail(WS)):
        with pytest.raises(InvalidInputError, match="mailbox"):
            call()
    m.checkpoint(WS)
    assert json.loads(path.read_text())["mailbox"] == ["theirs"]


def test_a_program_that_gives_back_what_it_once_read_brings_no_acknowledged_message_back(
    m: NativeSessionManager,
) -> None:
    m.send(WS, BOB, 1)
    m.send(WS, BOB, 2)
    m.create_session(WS, id="s")
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    once = json.loads(path.read_text())
    m.ack(WS, lease_of(received(m)))
    m.send(WS, BOB, 3)
    once["sessions"]["s"]["title"] = "theirs"
    path.write_text(json.dumps(once, indent=2))
    assert contents(m) == [2, 3]
    assert m.check(WS).ok


def test_its_history_is_there_as_events(m: NativeSessionManager) -> None:
    sent = m.send(WS, "s", "x")
    mail = received(m, "s")
    m.nack(WS, lease_of(mail), delay=0)
    m.ack(WS, lease_of(received(m, "s")))
    events = list(m.events(WS, types="mail.*", session_id="s"))
    assert [event.type for event in events] == ["mail.created", *["mail.updated"] * 3, "mail.deleted"]
    assert [event.properties.get("set", {}).get("status") for event in events[1:4]] == ["leased", "queued", "leased"]
    assert events[-1].properties == {"id": sent.id, "reason": "acked"}


def test_nothing_looks_at_all_rows_once_they_are_known(m: NativeSessionManager) -> None:
    """The index lives on through every call, of others too: counted, not timed."""
    for number in range(20):
        m.send(WS, BOB, number)
    box = m._read(WS, operations.box_of)
    with NativeSessionManager(m.data_dir) as other:
        other.send(WS, BOB, "x")
        other.ack(WS, lease_of(received(other)))
        m.ack(WS, lease_of(received(m)))
        m.create_session(WS)
        with m.transaction(WS) as transaction:
            transaction.create_session(WS)
        assert m._read(WS, operations.box_of) is box  # When the other is closed it folds: then all is read afresh.
        assert m.mail_counts(WS).queued == 19
