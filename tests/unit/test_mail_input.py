"""What is asked of the mailbox: lists with true totals, and bad input that is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nomad_sessions import InvalidCursorError, InvalidInputError, NativeSessionManager
from tests.support.mail import BOB, WS, received

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
