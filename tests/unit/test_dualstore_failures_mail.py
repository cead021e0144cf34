"""The failures of the original's messaging, by their numbers in the notes on it (3.1 to 3.5): ours has none of them."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    DiskFullError,
    InvalidInputError,
    LeaseNotFoundError,
    Mail,
    ManualClock,
    NativeSessionManager,
    NoRouteError,
)
from nomad_sessions.mail import routing
from nomad_sessions.models import dump
from nomad_sessions.models.mail import PRIORITIES
from tests.support.mail import lease_of, received
from tests.support.modelfs import ModelDisk
from tests.support.there import there

WS, BOB = "ws", "bob"


# 3.1 Identity and duplication


def test_1_an_update_is_not_an_insert_with_the_same_id(m: NativeSessionManager) -> None:
    sent = m.send(WS, BOB, "x")
    m.nack(WS, lease_of(received(m)), delay=0, error="e")
    (only,) = m.list_mail(WS)
    assert (only.id, only.attempts, only.error, only) == (sent.id, 1, "e", m.get_mail(WS, sent.id))


def test_2_an_id_that_is_listed_is_the_id_of_that_message(m: NativeSessionManager) -> None:
    for number in range(300):
        m.send(WS, BOB, number)
    for listed in (m.list_mail(WS), m.list_mail(WS)):
        assert len({mail.id for mail in listed}) == 300
        assert m.get_mail(WS, listed[7].id) == listed[7]


def test_3_a_key_of_the_callers_own_finds_the_message_again(m: NativeSessionManager) -> None:
    assert m.send(WS, BOB, "x", key="k").id == m.send(WS, BOB, "x", key="k").id
    assert m.list_mail(WS).total == 1


def test_7_two_messages_that_say_the_same_are_two(m: NativeSessionManager) -> None:
    assert m.send(WS, BOB, "yes").id != m.send(WS, BOB, "yes").id
    assert m.list_mail(WS).total == 2


# 3.2 Reads, paging, order


def test_12_nothing_is_capped_and_totals_are_true(m: NativeSessionManager) -> None:
    for number in range(1_100):
        m.send(WS, BOB, number)
    page = m.list_mail(WS, BOB, limit=50)
    assert (page.total, [mail.content for mail in page]) == (1_100, list(range(50)))
    assert m.mail_counts(WS).queued == 1_100


def test_14_a_row_that_is_no_message_fails_no_list(m: NativeSessionManager) -> None:
    m.send(WS, BOB, "x")
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    value["mailbox"] = {"theirs": {"text": "plain"}, **value["mailbox"]}
    path.write_text(json.dumps(value))
    assert m.list_mail(WS).total == 1
    m.ack(WS, lease_of(received(m)))
    m.checkpoint(WS)
    assert json.loads(path.read_text())["mailbox"]["theirs"]["text"] == "plain"


def test_15_18_20_no_time_and_no_id_orders_anything(m: NativeSessionManager, clock: ManualClock) -> None:
    for number in range(20):
        m.send(WS, BOB, number)
        clock.advance(-3_600_000)
    assert [mail.content for mail in m.list_mail(WS)] == list(range(20))
    assert received(m).content == 0


def test_21_a_limit_of_zero_is_no_way_to_say_all(m: NativeSessionManager) -> None:
    with pytest.raises(InvalidInputError):
        m.list_mail(WS, limit=0)


# 3.3 Errors hidden


def test_27_a_failing_store_is_no_empty_mailbox(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="not a folder"):
        NativeSessionManager(tmp_path / "file").receive(WS, BOB)


def test_28_a_call_gives_a_model_whatever_happens_and_never_a_sentence(m: NativeSessionManager) -> None:
    assert isinstance(m.send(WS, BOB, "✅ Message sent successfully"), Mail)
    assert received(m).content == "✅ Message sent successfully"


def test_30_what_says_that_it_is_done_is_done(m: NativeSessionManager) -> None:
    sent = m.send(WS, BOB, "x")
    m.ack(WS, lease_of(received(m)))
    with NativeSessionManager(m.data_dir) as other:
        assert other.get_mail(WS, sent.id) is None
    with pytest.raises(LeaseNotFoundError):
        m.ack(WS, "none")


@pytest.mark.parametrize("content", [None, "", [], {}, {"type": "text", "content": "x"}, {"parts": []}, 0, False])
def test_31_no_shape_of_content_is_dropped(m: NativeSessionManager, content: Any) -> None:
    m.send(WS, BOB, content)
    mail = received(m)
    assert mail.content == content
    assert type(mail.content) is type(content)


def test_33_what_fails_is_not_passed_over(m: NativeSessionManager) -> None:
    m.send(WS, BOB, "bad")
    m.send(WS, BOB, "good")
    m.nack(WS, lease_of(received(m)), delay=10, error="e")
    assert m.receive(WS, BOB) is None


def test_35_the_counts_count(m: NativeSessionManager) -> None:
    for number in range(3):
        m.send(WS, BOB, number)
    m.nack(WS, lease_of(received(m)), retry=False)
    received(m)
    assert m.mail_counts(WS)[:3] == (1, 1, 1)


# 3.4 Writes, storms, connections


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_37_sent_means_stored(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.send(WS, BOB, "x")
        child = os.fork()
        if not child:
            found = False
            try:
                found = NativeSessionManager(tmp_path).peek(WS, BOB) is not None
            finally:
                os._exit(0 if found else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_38_the_queue_is_not_in_memory_and_one_bad_message_fails_no_other(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        for number in range(25):
            m.send(WS, BOB, number)
        with pytest.raises(InvalidInputError):
            m.send(WS, BOB, object())
    with NativeSessionManager(tmp_path) as m:
        assert m.mail_counts(WS).queued == 25


def test_42_a_change_writes_the_change_and_not_the_message_again(m: NativeSessionManager) -> None:
    m.send(WS, BOB, "x" * 100_000)
    before = m.stats(WS).bytes_journal
    m.nack(WS, lease_of(received(m)), delay=0)
    m.ack(WS, lease_of(received(m)))
    assert m.stats(WS).bytes_journal - before < 3_000


def test_46_what_goes_to_several_goes_to_all_or_none() -> None:
    disk = ModelDisk()
    process = disk.process()
    m = NativeSessionManager("/data", filesystem=process)
    m.set_mail_rules(WS, [{"to": ["a", "b", "c"]}])
    fault = process.inject(errno.ENOSPC, op="pwrite_all")
    with pytest.raises(DiskFullError):
        m.publish(WS, "x")
    assert fault.fired
    assert m.list_mail(WS).total == 0
    assert len(m.publish(WS, "x")) == 3


def test_47_nothing_is_dropped_because_there_is_much(m: NativeSessionManager) -> None:
    with m.workspace(WS).bulk():
        for number in range(10_050):
            m.send(WS, f"r{number % 7}", number)
    assert m.mail_counts(WS)[:2] == (10_050, 0)
    assert there(m.peek(WS, "r0")).content == 0


def test_48_the_oldest_dead_letter_is_seen_and_can_be_tried_again(m: NativeSessionManager) -> None:
    sent = m.send(WS, BOB, "first", max_attempts=1)
    m.nack(WS, lease_of(received(m)))
    for number in range(150):
        m.send(WS, BOB, number)
        m.nack(WS, lease_of(received(m)), retry=False)
    assert m.dead_letters(WS).total == 151
    assert m.dead_letters(WS)[0].id == sent.id
    m.requeue(WS, sent.id)
    assert received(m).content == "first"


# 3.5 Events, messaging, protocol


def test_50_a_rule_says_the_same_of_the_same_message_each_time() -> None:
    rules = routing.checked_rules([{"types": ["task.*"], "to": ["a"]}])
    said = [
        routing.explain(rules, type="task.done", sender=None, priority="low", metadata={})[0].matched for _ in range(5)
    ]
    assert said == [True] * 5


def test_50_no_text_is_taken_for_an_acknowledgement(m: NativeSessionManager) -> None:
    m.send(WS, BOB, "task is completed ✅ all done")
    received(m)
    assert m.mail_counts(WS).leased == 1


def test_51_events_name_the_recipient_as_their_session(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.send(WS, "s", {"id": "m", "session_id": "other"})
    (event,) = m.events(WS, types="mail.*")
    assert (event.session_id, event.properties["info"]["recipient"]) == ("s", "s")


def test_52_the_sender_is_who_it_says_and_any_recipient_is_known(m: NativeSessionManager) -> None:
    for number in range(120):
        m.create_session(WS, id=f"s{number}")
    assert m.send(WS, "s0", "x").sender is None
    assert m.send(WS, "s0", "x", sender="s5").sender == "s5"
    assert m.send(WS, "not there yet", "x").recipient == "not there yet"
    assert there(m.receive(WS, "s0")).content == "x"


def test_52_success_is_not_reported_when_the_write_failed() -> None:
    disk = ModelDisk()
    process = disk.process()
    m = NativeSessionManager("/data", filesystem=process)
    m.send(WS, BOB, "first")
    fault = process.inject(errno.ENOSPC, op="pwrite_all")
    with pytest.raises(DiskFullError):
        m.send(WS, BOB, "x", key="k")
    assert fault.fired
    assert [mail.content for mail in m.list_mail(WS)] == ["first"]
    m.send(WS, BOB, "x", key="k")
    assert m.list_mail(WS).total == 2


def test_53_who_waits_is_woken_by_what_it_waits_for_and_nothing_lives_in_memory_only(m: NativeSessionManager) -> None:
    threading.Timer(0.05, lambda: m.send(WS, "eve", "no")).start()
    threading.Timer(0.15, lambda: m.send(WS, BOB, "yes")).start()
    assert received(m, wait=20).content == "yes"


def test_54_the_first_message_is_received_too(m: NativeSessionManager) -> None:
    m.send(WS, BOB, "the very first")
    with NativeSessionManager(m.data_dir) as other:
        assert received(other).content == "the very first"


def test_54_an_acknowledgement_out_of_order_settles_that_message_and_no_other(m: NativeSessionManager) -> None:
    for number in range(3):
        m.send(WS, BOB, number)
    one, two, three = (received(m, ordered=False) for _ in range(3))
    m.ack(WS, lease_of(three))
    m.ack(WS, lease_of(one))
    assert [mail.id for mail in m.list_mail(WS)] == [two.id]


def test_54_what_fails_waits_for_its_delay_and_is_dead_in_the_end(m: NativeSessionManager, clock: ManualClock) -> None:
    m.send(WS, BOB, "poison", backoff=1)
    deliveries = 0
    for _ in range(100_000 // 50):
        mail = m.receive(WS, BOB)
        if mail is not None:
            deliveries += 1
            m.nack(WS, lease_of(mail))
        clock.advance(50)
    assert deliveries == 5
    assert m.dead_letters(WS).total == 1


def test_55_the_tenth_comes_after_the_ninth_and_nothing_begins_anew_after_a_restart(tmp_path: Path) -> None:
    for begin in (0, 12, 24):
        with NativeSessionManager(tmp_path) as m:
            for number in range(begin, begin + 12):
                m.send(WS, BOB, number)
    with NativeSessionManager(tmp_path) as m:
        positions = [mail.position for mail in m.list_mail(WS)]
        assert positions == sorted(set(positions))
        found = []
        while (mail := m.receive(WS, BOB)) is not None:
            found.append(mail.content)
            m.ack(WS, lease_of(mail))
    assert found == list(range(36))


def test_56_what_was_handed_out_and_never_answered_is_handed_out_again(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    m.send(WS, BOB, "x")
    received(m, lease=5)
    clock.advance(5_000)
    assert received(m, lease=5).attempts == 2


def test_57_a_message_that_comes_twice_can_be_told_by_its_id(m: NativeSessionManager, clock: ManualClock) -> None:
    sent = m.send(WS, BOB, "x", metadata={"n": 1})
    first = received(m, lease=1)
    clock.advance(1_000)
    again = received(m)
    assert first.id == again.id == sent.id
    assert lease_of(first) != lease_of(again)


def test_57_waiting_can_be_stopped(m: NativeSessionManager) -> None:
    assert m.receive(WS, BOB, wait=0.05) is None


def test_60_type_sender_and_priority_are_what_was_sent(m: NativeSessionManager) -> None:
    for priority in PRIORITIES:
        m.send(WS, priority, "x", type="task.delegated", sender="a", priority=priority, metadata={"k": 1})
        stored = dump(there(m.receive(WS, priority)))
        told = [stored[name] for name in ("type", "sender", "priority", "metadata")]
        assert told == ["task.delegated", "a", priority, {"k": 1}]


def test_61_what_is_routed_nowhere_is_said_to_be(m: NativeSessionManager) -> None:
    with pytest.raises(NoRouteError):
        m.publish(WS, "x")
