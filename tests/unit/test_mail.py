"""The calls on the mailbox: what is sent is received, leased to one at a time, acknowledged; and its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import LeaseNotFoundError, ManualClock, NativeSessionManager
from nomad_sessions.mail import operations
from tests.support.mail import BOB, HOUR, WS, contents, lease_of, received
from tests.support.there import there
from tests.support.together import together

from .conftest import START


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
    assert m.mail_counts(WS) == (0, 0, 0, 0, None, 0)
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
            assert other.mail_counts(WS, BOB) == (4, 1, 0, 1, START, 0)
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
