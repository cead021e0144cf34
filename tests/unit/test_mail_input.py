"""What is asked of the mailbox: lists with true totals, and bad input that is refused by name."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidCursorError, InvalidInputError, NativeSessionManager, SendOptions
from nomad_sessions.mail import asking
from tests.support.mail import BOB, WS, received
from tests.support.there import there

from .conftest import START


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
    assert m.mail_counts(WS) == (8, 1, 0, 2, START, 0)
    assert m.mail_counts(WS, "nobody") == (0, 0, 0, 0, None, 0)
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
    ("recipient", lambda m: m.list_mail(WS, "")),
    ("recipient", lambda m: m.list_mail(WS, 5)),  # type: ignore[arg-type]
    ("recipient", lambda m: m.mail_counts(WS, ["a"])),  # type: ignore[arg-type]
    ("status", lambda m: m.list_mail(WS, status=["dead"])),  # type: ignore[arg-type]
    ("priority", lambda m: m.send(WS, BOB, 1, priority=3)),  # type: ignore[arg-type]
    ("priority", lambda m: m.publish(WS, 1, priority=["low"])),  # type: ignore[arg-type]
    ("priority", lambda m: m.explain_route(WS, priority=3)),  # type: ignore[arg-type]
    ("sender", lambda m: m.explain_route(WS, sender="")),
    ("type", lambda m: m.send(WS, BOB, 1, type=5)),  # type: ignore[arg-type]
    ("key", lambda m: m.send(WS, BOB, 1, key=b"k")),  # type: ignore[arg-type]
    ("on_expiry", lambda m: m.send(WS, BOB, 1, on_expiry=["drop"])),  # type: ignore[arg-type]
    ("ttl", lambda m: m.send(WS, BOB, 1, ttl="60")),  # type: ignore[arg-type]
    ("max_attempts", lambda m: m.send(WS, BOB, 1, max_attempts=True)),
    ("max_attempts", lambda m: m.send(WS, BOB, 1, max_attempts=10**400)),
    ("backoff", lambda m: m.send(WS, BOB, 1, backoff="x")),  # type: ignore[arg-type]
    ("backoff", lambda m: m.send(WS, BOB, 1, backoff=10**400)),
    ("lease", lambda m: m.receive(WS, BOB, lease="x")),  # type: ignore[arg-type]
    ("lease", lambda m: m.receive(WS, BOB, lease=None)),  # type: ignore[arg-type]
    ("wait", lambda m: m.receive(WS, BOB, wait="x")),  # type: ignore[arg-type]
    ("ordered", lambda m: m.receive(WS, BOB, ordered="no")),  # type: ignore[arg-type]
    ("ordered", lambda m: m.peek(WS, BOB, ordered=0)),  # type: ignore[arg-type]
    ("retry", lambda m: m.nack(WS, "l", retry="no")),  # type: ignore[arg-type]
    ("retry", lambda m: m.nack(WS, "l", retry=0)),  # type: ignore[arg-type]
    ("delay", lambda m: m.nack(WS, "l", delay="x")),  # type: ignore[arg-type]
    ("seconds", lambda m: m.extend(WS, "l", "x")),  # type: ignore[arg-type]
    ("lease_id", lambda m: m.extend(WS, "", 1)),
    ("mail_id", lambda m: m.discard(WS, None)),  # type: ignore[arg-type]
    ("rules[0].proceed", lambda m: m.set_mail_rules(WS, [{"to": ["a"], "proceed": "no"}])),
    ("rules[0].to", lambda m: m.set_mail_rules(WS, [{"to": "a"}])),
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


def test_an_option_that_there_is_none_is_no_option_of_send(m: NativeSessionManager) -> None:
    with pytest.raises(TypeError, match="prio"):
        m.send(WS, BOB, 1, prio="high")  # type: ignore[call-arg]
    assert not (Path(m.data_dir) / WS).exists()


def test_the_options_of_sending_are_those_that_have_a_default() -> None:
    parameters = inspect.signature(asking.outgoing).parameters.values()
    assert set(SendOptions.__annotations__) == {each.name for each in parameters if each.default is not each.empty}


SPLIT, WHOLE = "Zo\ud83d\ude00", "Zo\U0001f600"  # As JavaScript's strings have it, and as everybody's.


@pytest.mark.parametrize("asked", [SPLIT, WHOLE])
@pytest.mark.parametrize("sent", [SPLIT, WHOLE])
def test_a_name_is_one_name_in_whichever_way_its_characters_are_spelt(
    m: NativeSessionManager, sent: str, asked: str
) -> None:
    m.set_mail_rules(WS, [{"to": [sent], "types": [sent], "senders": [sent], "metadata": {sent: sent}}])
    one = m.send(WS, sent, 1, key=sent)
    assert m.send(WS, asked, 2, key=asked) == one
    (other,) = m.publish(WS, 3, type=asked, sender=asked, metadata={asked: asked})
    assert other.recipient == WHOLE
    assert m.explain_route(WS, type=asked, sender=asked, metadata={asked: asked})[0].matched
    assert [each.id for each in m.list_mail(WS, asked)] == [one.id, other.id]
    assert m.mail_counts(WS, asked).queued == 2
    assert there(m.peek(WS, asked)).id == one.id
    assert received(m, asked).id == one.id
    assert m.mail_counts(WS, asked).leased == 1
    m.discard(WS, other.id)
    assert m.mail_counts(WS)[:2] == (0, 1)


def test_who_waits_under_the_other_spelling_of_a_name_is_woken(m: NativeSessionManager) -> None:
    def send() -> None:
        m.send(WS, WHOLE, "x")

    threading.Timer(0.1, send).start()
    began = time.monotonic()
    assert received(m, SPLIT, wait=20).content == "x"
    assert time.monotonic() - began < 10
