"""From changes to journal lines: what an operation decides becomes records with seq, id and time, and those lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.ids import IdSource
from nomad_sessions.storage.codec import decode, encode, encode_names, frame, frame_parts
from nomad_sessions.storage.segment import Entry
from nomad_sessions.workspace.places import Additions
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.view import View

__all__ = ["PIECE_BYTES", "Group", "Operation", "Stamp", "Written"]

T = TypeVar("T")
_new = tuple.__new__  # Half the time of the class's own call.
PIECE_BYTES = 1 << 20
_COARSE = 1_000
"""How far, in ms, a delta may lie from the time that the records before it say without saying its own."""


class Written(dict[str, Any]):
    """A message to be added, with its JSON at hand, as `begin` and `rest`: it is not encoded again. As a dict it has
    its id and its times, which is all that a commit looks at."""

    __slots__ = ("_begin", "_rest")

    def __init__(self, fields: Mapping[str, Any], begin: bytes, rest: bytes) -> None:
        self["id"], self["createdAt"], self["updatedAt"] = fields["id"], fields["createdAt"], fields["updatedAt"]
        self._begin = begin
        self._rest = rest

    @property
    def size(self) -> int:
        """The bytes of its JSON."""
        return len(self._begin) + len(self._rest)

    def json(self) -> tuple[bytes, bytes]:
        """Its JSON, in two pieces."""
        return self._begin, self._rest


class Stamp:
    """What an operation may ask for beside the view: the time (ms) and new ids, each greater than any in the store."""

    def __init__(self, ids: IdSource, now: int) -> None:
        self._ids = ids
        self.now = now

    def id(self) -> str:
        """A new id."""
        return self._ids.next(self.now)

    def ids(self, count: int) -> list[str]:
        """New ids, each greater than the one before it."""
        return self._ids.several(count, self.now)

    def leap(self) -> None:
        """Says that it is asked without the lock: its ids are to be such as nobody else draws meanwhile."""
        self._ids.leap()


Operation = Callable[[Any, Any], tuple[list[Body], Callable[[Any], T]]]
"""`operation(view, stamp) -> (changes, result)`: decides what to change; `result(view)` is asked after it is applied.
It may run more than once, against a fresher view, and must not have effects of its own."""


class Group:
    """One atomic group: gives its lines in pieces, as they are to be written, so that no more than one is in memory.

    The first piece, which is all of a group that is not large, is made at once. Raises `InvalidInputError` for a value
    that JSON has not.
    """

    def __init__(self, view: View, changes: list[Body], stamp: Stamp) -> None:
        self._view = view
        self._made: list[tuple[Body, int] | Additions] = []
        self._pieces = self._cut(changes, stamp)
        self._first = next(self._pieces)

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        self._first = b""
        yield from self._pieces

    def apply(self, offset: int) -> None:
        """Applies the group to its view. Once all pieces have been given, and lie from this offset on in the live
        segment."""
        segment = self._view.journal.live_first
        for made in self._made:
            if isinstance(made, Additions):
                self._view.absorb_additions(made, offset, segment)
                offset += made.size
            else:
                record, length = made
                self._view.absorb(_new(Entry, (record, offset, length)), segment)
                offset += length

    def _cut(self, changes: list[Body], stamp: Stamp) -> Iterator[bytes]:
        lines: list[bytes] = []
        size = 0
        for line in self._lines(changes, stamp):
            lines.append(line)
            size += len(line)
            if size >= PIECE_BYTES:
                yield b"".join(lines)
                lines, size = [], 0
        if lines:
            yield b"".join(lines)

    def _lines(self, changes: list[Body], stamp: Stamp) -> Iterator[bytes]:
        view, first = self._view, self._view.seq + 1
        told: Body = {"ts": stamp.now, "durable": view.journal.durable}
        if len(changes) > 1:
            told["until"] = view.seq + len(changes)
        at = 0
        while at < len(changes):
            written = _written(changes, at)
            if written:
                yield from self._additions(changes[at]["sessionId"], written, told, first + at, stamp)
                at += len(written)
                continue
            change = changes[at]
            if change["type"] == "message.delta" and len(changes) == 1:
                record = _delta(view, first, change, stamp)
            else:  # A message comes last: so its JSON is found in the line without decoding it.
                record = {"seq": first + at, "id": stamp.id(), **told, **change}
            try:
                body = encode(record)
            except ValueError as error:
                raise InvalidInputError(field="value", value=change, reason=str(error)) from error
            line = frame(body)
            # The caller keeps what it handed in, and may change it: what the view keeps comes from the bytes.
            self._made.append((record if change["type"] == "message.added" else decode(body), len(line)))
            yield line
            at += 1

    def _additions(
        self, session_id: str, messages: Sequence[Written], told: Body, seq: int, stamp: Stamp
    ) -> Iterator[bytes]:
        """The lines of records that add these messages to one session, from this seq on. What the records have in
        common is encoded once; a message is the last thing in its record."""
        common = encode({**told, "type": "message.added", "sessionId": session_id}, finite=True)[1:-1].decode()
        ids, lengths = stamp.ids(len(messages)), list[int]()
        own = [message["id"] for message in messages]
        times = [message["updatedAt"] for message in messages]
        self._made.append(Additions(session_id, seq, ids[-1], told["ts"], own, times, lengths))
        for message, id, name in zip(messages, ids, encode_names(own), strict=True):
            begin, rest = message.json()
            head = f'"seq":{seq},"id":"{id}",{common},"messageId":{name},"message":'.encode()
            line = frame_parts(head + begin, rest, b"}")
            lengths.append(len(line))
            yield line
            seq += 1


def _written(changes: list[Body], start: int) -> list[Written]:
    """The messages that one change after the other, from this one on, adds to one session, with their JSON at hand."""
    messages: list[Written] = []
    session_id = changes[start]["sessionId"]
    for number in range(start, len(changes)):
        change = changes[number]
        message = change.get("message")
        if not isinstance(message, Written) or (change["type"], change["sessionId"]) != ("message.added", session_id):
            break
        messages.append(message)
    return messages


def _delta(view: View, seq: int, change: Body, stamp: Stamp) -> Body:
    """A delta as the journal holds it: a stream is mostly envelope otherwise. See `Live.expand`."""
    head = view.live.head(change["messageId"])
    record: Body = {"seq": seq}
    if head is None:
        # Whoever begins to read with this segment knows from it whose the message is, and when it was.
        record |= {"id": stamp.id(), "ts": stamp.now, "delta": change["messageId"], "sessionId": change["sessionId"]}
    else:
        record["to"] = head
        if abs(stamp.now - view.live.time) >= _COARSE:
            record["ts"] = stamp.now
    journal = view.journal
    if journal.durable > journal.told:
        # Without it damage to what a stream has synced would pass for its unsynced tail.
        record["durable"] = journal.told = journal.durable
    return record | {key: value for key, value in change.items() if key in ("text", "part", "new")}
