"""A live copy of a session, made of events. Pure: no file, no clock.

Invariant: after `apply(event)` the copy equals what the store reads at the seq of that event; an event that it has had
changes nothing. It is the store's own `workspace/state.py` that applies them. Verified by
`tests/properties/test_replicas.py`.

| event | what it is applied as |
|---|---|
| `session.snapshot` | everything anew |
| `session.updated` | `session.updated`; with `kept` `session.reverted` |
| `session.deleted` | the same |
| `message.updated` | with `created` `message.added`, else `message.updated` |
| `message.part.delta` | `message.delta` |
| `message.removed` | `message.deleted` |

A `session.created`, an unrevert and what a merge brings do not say all that has changed: a snapshot has to come.
"""

from __future__ import annotations

from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import Event, Message, Session
from nomad_sessions.operations.reading import message_model, session_model
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.bodies import join_parts, patch
from nomad_sessions.workspace.state import RECORDED, Body, MessageState, Ref, SessionState, Span, apply

__all__ = ["SNAPSHOT", "SessionReplica", "tells_all"]

SNAPSHOT = "session.snapshot"
"""The type of the event that has a whole session: `session`, `messages`, `reverted`."""


class _Nowhere:
    """Where the records of a replica lie. Its messages are in memory: nothing is read from here."""

    def record(self, offset: int, length: int) -> dict[str, Any]:
        raise AssertionError("a replica's messages are held, not read")

    def span(self, offset: int, length: int) -> Span | None:
        return None


_NOWHERE = Ref(_Nowhere(), 0, 0)


class _Held(MessageState):
    """A message in memory, patched as it goes: a token costs the token, and not all that came before it."""

    __slots__ = ("_body", "_own", "_streamed")

    def __init__(self, body: Body, rev: int, *, own: bool) -> None:
        """`own` says that nobody else has the body; else it is copied before it is changed."""
        super().__init__(_NOWHERE, None, rev)
        self._body = body
        self._own = own
        self._streamed = False

    def patched(self, record: Body, ref: Ref) -> MessageState:
        if not self._own:
            self._body, self._own = decode(encode(self._body)), True
        self._streamed = patch(self._body, record, self._streamed)
        self.rev = record["seq"]
        return self

    def body(self) -> Body:
        body: Body = decode(encode(self._body))
        if self._streamed:
            join_parts(body)
        body["rev"] = self.rev
        return body


class SessionReplica:
    """A copy of one session that `apply` keeps equal to the store: `manager.follow_session` gives the events for it.

    Not for several threads at once: have the events delivered where the copy is read, to a window's thread say
    (`deliver=`). `seq` is that of the last event.
    """

    def __init__(self) -> None:
        self.seq = 0
        self._session_id: str | None = None
        self._state: SessionState | None = None

    @property
    def session(self) -> Session | None:
        """The session; None where there is none (any more)."""
        return session_model(self._state) if self._state is not None else None

    @property
    def message_ids(self) -> list[str]:
        """The ids of the visible messages, in order."""
        return list(self._state.order) if self._state is not None else []

    @property
    def messages(self) -> list[Message]:
        """The visible messages, in order. Cost: all of them; `message` gives one."""
        return [message for message in map(self.message, self.message_ids) if message is not None]

    def message(self, message_id: str) -> Message | None:
        """One message, visible or hidden by a revert, or None."""
        state = self._state.message(message_id) if self._state is not None else None
        return message_model(state.body()) if state is not None else None

    def apply(self, event: Event) -> None:
        """Takes in an event. One that it has had, or of another session, changes nothing.

        Raises `InvalidInputError` where a snapshot has to come first.
        """
        if event.type == SNAPSHOT:
            self._begin(event)
            return
        if self._session_id is None:
            raise InvalidInputError(field="event", value=event.type, reason=f"must be a {SNAPSHOT}, to begin with")
        if event.seq <= self.seq or event.session_id != self._session_id:
            return
        if not tells_all(event):
            raise InvalidInputError(field="event", value=event.type, reason="does not say all: follow the session anew")
        record = _record_of(event)
        self.seq = event.seq
        self._state = apply(self._state, record, _NOWHERE, lambda _: None)
        if record["type"] == "message.added" and self._state is not None:
            self._state.changed[record["messageId"]] = _Held(record["message"], event.seq, own=True)

    def _begin(self, event: Event) -> None:
        told = event.properties
        self.seq, self._session_id, self._state = event.seq, event.session_id, None
        if told["session"] is None:
            return
        fields: Body = dict(told["session"])
        rev = fields.pop("rev", 0)
        fields.pop("messageIds", None)
        self._state = state = SessionState(str(event.session_id), fields, 0, rev)
        for bodies, ids in ((told["messages"], state.order), (told["reverted"], state.hidden)):
            for body in bodies:
                state.changed[body["id"]] = _Held(body, body.get("rev", 0), own=False)
                ids.append(body["id"])


def tells_all(event: Event) -> bool:
    """Whether the event says all that it changed of its session."""
    told = event.properties
    if event.type == "message.updated" and "info" in told:
        return bool(event.recorded or told.get("created"))
    if event.type == "session.updated":
        return bool(event.recorded or not ("messageIds" in told or "revert" in told.get("unset", ())))
    return event.recorded or event.type != "session.created"


def _record_of(event: Event) -> Body:
    """The record that an event was made of, in a copy: the values of an event are shared by all who subscribe."""
    record: Body = {"seq": event.seq, "ts": event.timestamp, "sessionId": event.session_id, "type": RECORDED}
    kind = _KINDS.get(event.type)
    if event.recorded or kind is None:  # It changes nothing of the session.
        return record
    told: Body = decode(encode(event.properties))
    record |= {"type": kind, "messageId": event.message_id, **told}
    if kind == "message.delta":
        record["text"] = record.pop("delta")
    elif "info" in told:
        record |= {"type": "message.added", "message": record.pop("info")}
    elif "kept" in told:
        record["type"] = "session.reverted"
    return record


_KINDS = {
    "message.part.delta": "message.delta",
    "message.removed": "message.deleted",
    **{each: each for each in ("message.updated", "session.updated", "session.deleted")},
}
