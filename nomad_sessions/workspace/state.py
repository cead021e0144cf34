"""What a session is after a change: `apply(session, record, ref, source) -> session`, without any I/O.

Invariant: the state of a session is a function of its base (a snapshot's record, or nothing) and the records that name
it, in the order of their seq; nothing else enters, no clock, no random number, no file. So every process that reads the
same bytes has the same state. Verified by `tests/properties/test_state_machine.py`.

A session's messages are held as places (file, offset, length), never as bodies; `body` reads one when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from nomad_sessions.workspace.bodies import Body, patch_all, text_kind
from nomad_sessions.workspace.rows import TABLES, apply_to

__all__ = [
    "RECORDED",
    "WORKSPACE",
    "Body",
    "MessageState",
    "Ref",
    "SessionState",
    "Source",
    "Span",
    "added",
    "added_at",
    "apply",
    "copy_message",
    "extended",
]

_new = tuple.__new__  # Half the time of the class's own call.
WORKSPACE = ""
"""The id under which the workspace's own fields, and messages that belong to no session, are kept."""

Span = tuple[bytes, int, int]
"""Bytes, and from where to where in them an object lies as JSON."""


class Source(Protocol):
    """Somewhere a record or a message's body can be read from."""

    def record(self, offset: int, length: int) -> dict[str, Any]:
        """The JSON object at this place."""
        ...

    def span(self, offset: int, length: int) -> Span | None:
        """The same as JSON that is not decoded, where it is at hand so; else None."""
        ...


class Ref(NamedTuple):
    """The place of a JSON object."""

    source: Source
    offset: int
    length: int

    def load(self) -> dict[str, Any]:
        """Reads it."""
        return self.source.record(self.offset, self.length)


class MessageState:
    """Where a message's body is: a base, patches in order, and, in a fork, the message's own id, its session's and that
    of the message it was copied from.

    `created` and `rev` are seqs; None means "as the snapshot says" (the table row, the body). `whole` is what a cache
    put together, `joined` how many patches are in that.
    """

    __slots__ = ("copied", "created", "joined", "patches", "ref", "rev", "shape", "whole")

    def __init__(
        self,
        ref: Ref,
        created: int | None = None,
        rev: int | None = None,
        patches: tuple[Ref, ...] | list[Ref] = (),
        copied: tuple[str, str, str] | None = None,
    ) -> None:
        self.ref = ref
        self.created = created
        self.rev = rev
        self.patches = patches
        self.copied = copied
        self.shape: list[str] | None = None
        self.whole: bytes | None = None
        self.joined = 0

    def body(self) -> Body:
        """The message as JSON: reads the base and each patch."""
        body: Body = self.ref.load()["message"]
        if self.copied is not None:
            body["id"], body["sessionId"], body["originId"] = self.copied
        return self.grown(body, 0)

    def grown(self, body: Body, joined: int) -> Body:
        """The message, of which the body with so many patches is at hand: reads the others."""
        patch_all(body, (ref.load() for ref in self.patches[joined:]))
        if self.rev is not None:
            body["rev"] = self.rev
        return body

    def json(self, before: bytes = b"") -> bytes | None:
        """The message as JSON, not decoded, where it lies somewhere whole, behind what shall stand before it; else
        None."""
        if self.patches or self.copied is not None or self.rev is None:
            return None
        source, offset, length = self.ref
        span = source.span(offset, length)
        return None if span is None else _message_in(span, self.rev, before)

    def copy(self) -> MessageState:
        """One that can be patched without this one noticing."""
        return MessageState(self.ref, self.created, self.rev, tuple(self.patches), self.copied)

    def parts(self) -> list[str]:
        """The types of its parts, in order, "" for one that takes no text. Read once; deltas keep it up to date."""
        if self.shape is None:
            self.shape = [text_kind(part) for part in self.body().get("parts") or ()]
        return self.shape

    def patched(self, record: Body, ref: Ref) -> MessageState:
        """This message after one more patch. Appends to the list that it already owns: a stream of n deltas is O(n)."""
        patches = self.patches if isinstance(self.patches, list) else list(self.patches)
        patches.append(ref)
        self.patches, self.rev = patches, record["seq"]
        if record["type"] != "message.delta":
            self.shape = None
        elif self.shape is not None and "new" in record:
            self.shape.append(text_kind(record["new"]))
        return self


class Run(Protocol):
    """The messages that a snapshot holds for a session. `ids` are all of them, in the order in which they lie there."""

    ids: list[str]

    def line(self, position: int) -> bytes:
        """The line of the message at this position."""
        ...

    def find(self, message_id: str) -> MessageState | None:
        """One message of the run."""
        ...


class SessionState:
    """A session: its fields (camelCase, without `messageIds` and `rev`), the order of its messages, their places.

    `order` is what is visible, `hidden` what a revert hid, `detached` what a foreign file had without naming it in
    `messageIds`. `changed` overlays `run`, None marking what is gone.
    """

    __slots__ = ("changed", "created", "detached", "fields", "hidden", "id", "order", "rev", "run", "settings")

    def __init__(self, identifier: str, fields: Body, created: int, rev: int, run: Run | None = None) -> None:
        self.id = identifier
        self.fields = fields
        self.created = created
        self.rev = rev
        self.run = run
        self.order: list[str] = []
        self.hidden: list[str] = []
        self.detached: list[str] = []
        self.changed: dict[str, MessageState | None] = {}
        self.settings: Body = {}

    def message(self, message_id: str) -> MessageState | None:
        """The state of one message of this session, visible or not."""
        if message_id in self.changed:
            return self.changed[message_id]
        return self.run.find(message_id) if self.run is not None else None

    def ids(self) -> list[str]:
        """All its messages, in the order in which a snapshot writes them."""
        return [*self.order, *self.hidden, *self.detached]

    def record(self) -> Body:
        """The session as JSON."""
        return {**self.fields, "messageIds": list(self.order), "rev": self.rev}

    def copy(self) -> SessionState:
        """One that can be changed without this one noticing; the places of messages are shared."""
        made = SessionState(self.id, dict(self.fields), self.created, self.rev, self.run)
        if self.id == WORKSPACE:  # Rows are put into their tables, and never changed.
            made.fields |= {
                key: dict(rows) for key in TABLES.values() if isinstance(rows := self.fields.get(key), dict)
            }
        made.order, made.hidden, made.detached = list(self.order), list(self.hidden), list(self.detached)
        made.changed = {key: state and state.copy() for key, state in self.changed.items()}
        made.settings = self.settings
        return made

    def drop(self, ids: Iterable[str]) -> None:
        """Forgets messages by id, from every list."""
        gone = set(ids)
        for name in ("order", "hidden", "detached"):
            held: list[str] = getattr(self, name)
            if len(gone) > 1:
                setattr(self, name, [each for each in held if each not in gone])
            elif (one := next(iter(gone), None)) in held:  # Many may go one by one: no Python code for each other.
                at = held.index(one)
                setattr(self, name, held[:at] + held[at + 1 :])
        for each in gone:
            self.changed[each] = None


def _message_in(span: Span, rev: int, before: bytes) -> bytes | None:
    """The message in a `message.added` record, as JSON with its `rev`, behind `before`; None where it is not the last
    thing in it, as we write it, which is without a `rev`. No quotation mark stands unescaped in a text, so what looks
    like a key before the message is one."""
    data, start, stop = span
    key = data.find(_MESSAGE, start, stop)
    begin, end = key + len(_MESSAGE), stop - 2
    if key < 0 or begin >= end or data[end:stop] != b"}}" or data.find(b'"type":"message.added"', start, key) < 0:
        return None
    return b"".join((before, b"{", data[begin:end], b',"rev":%d}' % rev))


def copy_message(source: MessageState, message_id: str, session_id: str, origin: str, seq: int) -> MessageState:
    """A fork's copy: the same places, its own id, session and history from here on."""
    return MessageState(source.ref, seq, seq, tuple(source.patches), (message_id, session_id, origin))


_MESSAGE = b',"message":{'
RECORDED = "event.recorded"
"""The type of a record that changes nothing: somebody told the store what happened. It is of no session's history."""


def apply(
    session: SessionState | None, record: Body, ref: Ref, source: Callable[[str], SessionState | None]
) -> SessionState | None:
    """The session after `record`, which lies at `ref`; None when the session is gone.

    Changes `session` in place where there is one. `source` gives the session that a fork copies, as it was just before
    the record. A record of a kind that this version does not know changes nothing (a later version may write it).
    """
    if record["type"] == "message.added":
        if session is not None:
            place = record["seq"], 0, ref.offset, ref.length, "added", record["messageId"], added_at(record)
            added(session, [place], ref.source)
        return session
    handler = _HANDLERS.get(record["type"])
    if handler is None:
        return session
    if handler in _CREATING:
        made: SessionState | None = handler(session, record, ref, source)
        return made
    if session is None:
        return None
    handler(session, record, ref, source)
    session.rev = record["seq"]
    return session


def _touch(session: SessionState, time: int) -> None:
    if time > (session.fields.get("updatedAt") or 0):
        session.fields["updatedAt"] = time


def _created(session: SessionState | None, record: Body, ref: Ref, source: Any) -> SessionState:
    return SessionState(record["sessionId"], dict(record["session"]), record["seq"], record["seq"])


def _forked(session: SessionState | None, record: Body, ref: Ref, source: Any) -> SessionState:
    original: SessionState | None = source(record["sourceId"])
    made = SessionState(record["sessionId"], dict(record["session"]), record["seq"], record["seq"])
    for old, new in record["messageIds"]:
        state = original.message(old) if original is not None else None
        if state is not None:
            made.changed[new] = copy_message(state, new, made.id, old, record["seq"])
            made.order.append(new)
    return made


def _deleted(session: SessionState | None, record: Body, ref: Ref, source: Any) -> None:
    return None


def _updated(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    session.fields.update(record.get("set", {}))
    for key in record.get("unset", ()):
        session.fields.pop(key, None)
    if "messageIds" in record:
        _reorder(session, record["messageIds"])
    if "updatedAt" not in record.get("set", {}):
        _touch(session, record["ts"])


def _reorder(session: SessionState, order: list[str]) -> None:
    """Gives the visible messages this order. What it leaves out is kept, out of sight; nothing is lost by an order."""
    wanted = set(order)
    left = [each for each in session.order if each not in wanted]
    session.order = [each for each in order if session.message(each) is not None]
    session.hidden = [each for each in session.hidden if each not in wanted]
    session.detached = [each for each in [*session.detached, *left] if each not in wanted]


def _reverted(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    kept = record["kept"]
    session.hidden = session.order[kept:] + session.hidden
    session.order = session.order[:kept]
    session.fields["revert"] = record["revert"]
    _touch(session, record["ts"])


def _unreverted(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    session.order += session.hidden
    session.hidden = []
    session.fields.pop("revert", None)
    _touch(session, record["ts"])


def added(session: SessionState, places: Sequence[tuple[Any, ...]], source: Source) -> None:
    """What `message.added` records at these places (`Place`s) do to their session, one after the other, none read."""
    if session.hidden:  # The next message makes a revert final.
        session.drop(session.hidden)
    session.fields.pop("revert", None)
    for seq, _, offset, length, _, message_id, _ in places:
        session.changed[message_id] = MessageState(_new(Ref, (source, offset, length)), seq, seq)
    session.order += [place[5] for place in places]
    session.rev = places[-1][0]
    if times := [place[6] for place in places if place[6]]:
        _touch(session, max(times))


def added_at(record: Body) -> int:
    """The time that a `message.added` record gives to its session, in ms; 0 where it says that there is none."""
    return int(record["message"].get("updatedAt", record["ts"]) or 0)


def extended(session: SessionState, message_id: str, ref: Ref, seq: int) -> None:
    """What a `message.delta` record does, without reading it."""
    state = session.message(message_id)
    if state is not None:
        session.changed[message_id] = state = state.patched({"type": "message.delta", "seq": seq}, ref)
        state.shape = None
    session.rev = seq


def _merged(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    """A message as a foreign file has it: new or replaced; its place in the order comes with the session's record."""
    message_id = record["messageId"]
    known = session.message(message_id)
    created = record["seq"] if known is None else known.created
    session.changed[message_id] = MessageState(ref, created, record["seq"])
    if known is None:
        session.detached.append(message_id)


def _message_changed(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    message_id = record["messageId"]
    state = session.message(message_id)
    if state is not None:
        session.changed[message_id] = state.patched(record, ref)
    if record["type"] == "message.updated":
        _touch(session, record["ts"])


def _message_deleted(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    session.drop([record["messageId"]])
    _touch(session, record["ts"])


def _configured(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    session.settings = {**session.settings, **record["settings"]}


def _workspace_updated(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    session.fields.update(record.get("set", {}))
    for key in record.get("unset", ()):
        session.fields.pop(key, None)


def _row_changed(session: SessionState, record: Body, ref: Ref, source: Any) -> None:
    apply_to(session.fields, record)


_HANDLERS: dict[str, Callable[..., Any]] = {
    "session.created": _created,
    "session.forked": _forked,
    "session.deleted": _deleted,
    "session.updated": _updated,
    "session.reverted": _reverted,
    "session.unreverted": _unreverted,
    "message.merged": _merged,
    "message.updated": _message_changed,
    "message.delta": _message_changed,
    "message.deleted": _message_deleted,
    "workspace.configured": _configured,
    "workspace.updated": _workspace_updated,
    **{f"{kind}.{what}": _row_changed for kind in TABLES for what in ("created", "merged", "updated", "deleted")},
}
_CREATING = {_created, _forked, _deleted}
