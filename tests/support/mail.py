"""Receiving, for tests of the mailbox."""

from __future__ import annotations

from typing import Any

from nomad_sessions import Mail, NativeSessionManager
from tests.support.there import there

__all__ = ["BOB", "HOUR", "WS", "contents", "lease_of", "received"]

WS, BOB = "ws", "bob"
HOUR = 3_600_000


def received(m: NativeSessionManager, recipient: str = BOB, **options: Any) -> Mail:
    """The next message, which has to be there."""
    return there(m.receive(WS, recipient, **options))


def lease_of(mail: Mail) -> str:
    """The id of its lease."""
    return there(mail.lease).id


def contents(m: NativeSessionManager, recipient: str = BOB) -> list[Any]:
    """Receives and acknowledges everything that can be had."""
    found = []
    while (mail := m.receive(WS, recipient)) is not None:
        found.append(mail.content)
        m.ack(WS, lease_of(mail))
    return found
