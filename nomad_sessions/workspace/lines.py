"""From changes to journal lines: what an operation decides becomes records with seq, id and time, and those lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.ids import IdSource
from nomad_sessions.storage.codec import Buffer, decode, encode, encode_name, frame, frame_parts
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.view import View

__all__ = ["PIECE_BYTES", "Group", "Operation", "Stamp", "Written"]

T = TypeVar("T")
PIECE_BYTES = 1 << 20
_COARSE = 1_000
"""How far, in ms, a delta may lie from the time that the records before it say without saying its own."""


class Written(dict[str, Any]):
    """A message to be added, with its JSON at hand, as `begin` and `rest`: it is not encoded again. As a dict it has
    its id and its times, which is all that a commit looks at."""

    __slots__ = ("_begin", "_rest")

    def __init__(self, fields: Mapping[str, Any], begin: bytes, rest: Buffer) -> None:
        self["id"], self["createdAt"], self["updatedAt"] = fields["id"], fields["createdAt"], fields["updatedAt"]
        self._begin = begin
        self._rest = rest

    def json(self) -> tuple[bytes, Buffer]:
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

    def leap(self) -> None:
        """Says that it is asked without the lock: its ids are to be such as nobody else draws meanwhile."""
        self._ids.leap()


Operation = Callable[[Any, Any], tuple[list[Body], Callable[[Any], T]]]
"""`operation(view, stamp) -> (changes, result)`: decides what to change; `result(view)` is asked after it is applied.
It may run more than once, against a fresher view, and must not have effects of its own."""


class Group:
    """One atomic group: gives its lines in pieces, as they are to be written, so that no more than one is in memory.

    `records` are the group's as the view keeps them, `lengths` those of its lines; both are whole when all pieces have
    been given. The first piece, which is all of a group that is not large, is made at once. Raises `InvalidInputError`
    for a value that JSON has not.
    """

    def __init__(self, view: View, changes: list[Body], stamp: Stamp) -> None:
        self.records: list[Body] = []
        self.lengths: list[int] = []
        self._pieces = self._cut(view, changes, stamp)
        self._first = next(self._pieces)

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        self._first = b""
        yield from self._pieces

    def _cut(self, view: View, changes: list[Body], stamp: Stamp) -> Iterator[bytes]:
        lines: list[bytes] = []
        size = 0
        for line in self._lines(view, changes, stamp):
            self.lengths.append(len(line))
            lines.append(line)
            size += len(line)
            if size >= PIECE_BYTES:
                yield b"".join(lines)
                lines, size = [], 0
        if lines:
            yield b"".join(lines)

    def _lines(self, view: View, changes: list[Body], stamp: Stamp) -> Iterator[bytes]:
        envelope = _Envelope()
        told: Body = {"ts": stamp.now, "durable": view.journal.durable}
        if len(changes) > 1:
            told["until"] = view.seq + len(changes)
        for seq, change in enumerate(changes, view.seq + 1):
            if change["type"] == "message.delta" and len(changes) == 1:
                record = _delta(view, seq, change, stamp)
            else:  # A message comes last: so its JSON is found in the line without decoding it.
                record = {"seq": seq, "id": stamp.id(), **told, **change}
            message = record.get("message")
            if isinstance(message, Written):
                self.records.append(record)
                yield envelope.line(record, message)
                continue
            try:
                body = encode(record)
            except ValueError as error:
                raise InvalidInputError(field="value", value=change, reason=str(error)) from error
            # The caller keeps what it handed in, and may change it: what the view keeps comes from the bytes.
            self.records.append(record if change["type"] == "message.added" else decode(body))
            yield frame(body)


class _Envelope:
    """Lines of records that are a message and nothing else, whose JSON is at hand. What such records of one group and
    one session have in common is encoded once."""

    def __init__(self) -> None:
        self._of: tuple[str, str] | None = None
        self._common = b""

    def line(self, record: Body, message: Written) -> bytes:
        """The line of a record, in which the message is the last thing."""
        of = record["type"], record["sessionId"]
        if of != self._of:
            common = {key: value for key, value in record.items() if key not in _OWN}
            self._of, self._common = of, encode(common, finite=True)[1:-1]
        begin, rest = message.json()
        own = (record["seq"], record["id"].encode(), self._common, encode_name(record["messageId"]), begin)
        return frame_parts(b'"seq":%d,"id":"%b",%b,"messageId":%b,"message":%b' % own, rest, b"}")


_OWN = ("seq", "id", "messageId", "message")


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
