"""From a view to models: each model is made from bytes or a copy, so that changing it changes nothing in the store.

Also the checks that every operation begins with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from nomad_sessions.errors import ConflictError, InvalidInputError, SessionNotFoundError
from nomad_sessions.models import Message, Session, validate
from nomad_sessions.operations.plain import text_of
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.places import Summary
from nomad_sessions.workspace.state import Body, MessageState, SessionState

__all__ = [
    "Looking",
    "Stamping",
    "check_new_id",
    "check_rev",
    "check_rev_type",
    "check_text",
    "listed_message",
    "listed_session",
    "message_model",
    "require_session",
    "session_model",
]

M = TypeVar("M", Message, Session)
MAX_ID = 512


class Looking(Protocol):
    """What an operation may ask: a view of a workspace, or a transaction's view over it."""

    def session(self, session_id: str) -> SessionState | None:
        """A session as it is."""
        ...

    def prepare(self, ids: Iterable[str]) -> None:
        """Says that these, of the `summaries`, will be asked for: forks of one another cost less so than singly."""
        ...

    def session_json(self, session_id: str) -> bytes | None:
        """A session as the snapshot has it, where nothing newer is known and nothing is loaded; else None."""
        ...

    def message(self, message_id: str) -> tuple[SessionState, MessageState] | None:
        """A message with its session."""
        ...

    def owners(self, ids: Collection[str]) -> dict[str, str]:
        """The ids of the sessions that have these messages, or had them last, by message; without those never seen."""
        ...

    def message_body(self, message_id: str) -> Body | None:
        """A message as JSON."""
        ...

    def message_json(self, state: MessageState) -> bytes:
        """A message as JSON, not decoded."""
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


def check_text(field: str, value: object) -> str:
    """A text or an id as the store has it, in the one spelling that it comes back from JSON in (see `text_of`): what is
    looked up, and what goes into a record, is this. Raises `InvalidInputError` for what is no str."""
    if not isinstance(value, str):
        raise InvalidInputError(field=field, value=value, reason="must be a str")
    return value if value.isascii() else text_of(value)


def check_new_id(identifier: str) -> None:
    """Raises `InvalidInputError` for an id that a caller may not give to something new."""
    if not 0 < len(identifier) <= MAX_ID:
        raise InvalidInputError(field="id", value=identifier, reason=f"must be 1 to {MAX_ID} characters long")
    try:
        identifier.encode()
    except UnicodeEncodeError:
        # The tables of a snapshot are sorted by id, and half a character has no place in an order of UTF-8.
        raise InvalidInputError(field="id", value=identifier, reason="must not hold lone surrogates") from None


def check_rev_type(if_rev: object) -> None:
    """Raises `InvalidInputError` for an `if_rev` that is no rev."""
    if if_rev is not None and (not isinstance(if_rev, int) or isinstance(if_rev, bool)):
        raise InvalidInputError(field="if_rev", value=if_rev, reason="must be the rev of the record, a whole number")


def check_rev(rev: int, expected: int | None, current: Any) -> None:
    """Raises `ConflictError` with the current record when a caller expected another version."""
    if expected is not None and rev != expected:
        raise ConflictError(current=current(), expected_rev=expected)


def require_session(view: Looking, session_id: str) -> SessionState:
    """The session, or `SessionNotFoundError`."""
    # The empty id is the workspace's own, which no call on sessions may touch.
    known = check_text("session_id", session_id)
    session = view.session(known) if known else None
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


def listed_session(view: Looking, session_id: str) -> Session | None:
    """A session for a list, as a model: straight from the snapshot's bytes where those are all there is to know."""
    raw = view.session_json(session_id)
    if raw is None:
        state = view.session(session_id)
        return session_model(state) if state is not None else None
    return _parsed(Session, raw)


def listed_message(view: Looking, state: MessageState) -> Message:
    """A message for a list, as a model: straight from the bytes, wherever they lie."""
    return _parsed(Message, view.message_json(state))


def _parsed(cls: type[M], raw: bytes) -> M:
    try:
        model: M = cls.__pydantic_validator__.validate_json(raw)
    except ValidationError:  # Lone surrogates, deep nesting: the codec reads what pydantic's parser refuses.
        return validate(cls, decode(raw))
    return model


def message_model(body: Body) -> Message:
    """A message body, read from the disk for this call, as a model."""
    return validate(Message, body)
