"""For tests of subscriptions: a workspace `ws` with a session `s`, messages for it, and what a subscriber gets."""

from __future__ import annotations

import time
from collections.abc import Callable

from nomad_sessions import EventsPrunedError, NativeSessionManager
from nomad_sessions.events import Subscription
from nomad_sessions.models import Event
from tests.support.there import there

__all__ = ["WS", "add", "everything", "take", "until"]

WS = "ws"


def add(m: NativeSessionManager, count: int, session: str = "s") -> list[int]:
    """Adds messages; the seq of each."""
    return [there(m.add_message(WS, session, role="user", content=str(n)).rev) for n in range(count)]


def take(subscription: Subscription, count: int) -> list[Event]:
    """The next so many events. Fails where one takes too long."""
    return [there(subscription.next(10)) for _ in range(count)]


def everything(subscription: Subscription, last: int) -> list[int]:
    """The seqs that come, up to and with the last one; 0 where the subscriber is told that something is missing."""
    seqs: list[int] = []
    while not seqs or seqs[-1] != last:
        try:
            seqs.append(there(subscription.next(10)).seq)
        except EventsPrunedError:
            seqs.append(0)
    return seqs


def until(condition: Callable[[], bool]) -> None:
    """Waits for it. Fails where it takes too long."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.002)
