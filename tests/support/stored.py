"""What is on the disk: read through a handle of its own, which knows nothing of what another holds in memory."""

from __future__ import annotations

from nomad_sessions import Message, NativeSessionManager, Page, Session
from tests.support.there import there

__all__ = ["stored_message", "stored_session", "whole"]

WS = "ws"


def stored_session(m: NativeSessionManager, session_id: str) -> Session:
    """One session; it must be what `m` shows."""
    with NativeSessionManager(m.data_dir) as other:
        found = there(other.get_session(WS, session_id))
    assert found == m.get_session(WS, session_id)
    return found


def stored_message(m: NativeSessionManager, message_id: str) -> Message:
    """One message; it must be what `m` shows."""
    with NativeSessionManager(m.data_dir) as other:
        found = there(other.get_message(WS, message_id))
    assert found == m.get_message(WS, message_id)
    return found


def whole(m: NativeSessionManager) -> list[tuple[Session, Page[Message]]]:
    """Every session with its messages, hidden ones too; the files must be sound."""
    with NativeSessionManager(m.data_dir) as other:
        assert other.check(WS).ok
        return [
            (each, other.get_session_messages(WS, each.id, include_reverted=True)) for each in other.list_sessions(WS)
        ]
