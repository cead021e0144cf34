"""From a view to models: each model is made from bytes or a copy, so that changing it changes nothing in the store."""

from __future__ import annotations

from typing import Any, Protocol

from nomad_sessions.errors import SessionNotFoundError
from nomad_sessions.models import Message, Session, validate
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.state import Body, MessageState, SessionState
from nomad_sessions.workspace.view import Summary

__all__ = ["Looking", "Stamping", "message_model", "require_session", "session_model"]


class Looking(Protocol):
    """What an operation may ask: a view of a workspace, or a transaction's view over it."""

    def session(self, session_id: str) -> SessionState | None:
        """A session as it is."""
        ...

    def message(self, message_id: str) -> tuple[SessionState, MessageState] | None:
        """A message with its session."""
        ...

    def message_body(self, message_id: str) -> Body | None:
        """A message as JSON."""
        ...

    def summaries(self) -> dict[str, Summary]:
        """What lists sort and filter by, by session id."""
        ...


class Stamping(Protocol):
    """The time of an operation, and new ids."""

    now: int

    def id(self) -> str:
        """A new id."""
        ...


def require_session(view: Looking, session_id: str) -> SessionState:
    """The session, or `SessionNotFoundError`."""
    session = view.session(session_id)
    if session is None:
        raise SessionNotFoundError(session_id=session_id)
    return session


def session_model(session: SessionState) -> Session:
    """A session as a model of its own."""
    fields: dict[str, Any] = {
        # Nested values are the view's own: they go out as copies.
        key: decode(encode(value)) if isinstance(value, dict | list) else value
        for key, value in session.fields.items()
    }
    fields["messageIds"] = list(session.order)
    fields["rev"] = session.rev
    return validate(Session, fields)


def message_model(body: Body) -> Message:
    """A message body, read from the disk for this call, as a model."""
    return validate(Message, body)
