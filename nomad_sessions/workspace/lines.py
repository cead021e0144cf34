"""From changes to journal lines: what an operation decides becomes records with seq, id and time, and those lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.ids import IdSource
from nomad_sessions.storage.codec import decode, encode, frame
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.view import View

__all__ = ["Operation", "Stamp", "Written", "lines_of"]

T = TypeVar("T")


class Written(dict[str, Any]):
    """A message to be added, with its JSON at hand: it is not encoded again."""

    __slots__ = ("json",)

    def __init__(self, fields: Body, json: bytes) -> None:
        super().__init__(fields)
        self.json = json


class Stamp:
    """What an operation may ask for beside the view: the time (ms) and new ids, each greater than any in the store."""

    def __init__(self, ids: IdSource, now: int) -> None:
        self._ids = ids
        self.now = now

    def id(self) -> str:
        """A new id."""
        return self._ids.next(self.now)


Operation = Callable[[Any, Any], tuple[list[Body], Callable[[Any], T]]]
"""`operation(view, stamp) -> (changes, result)`: decides what to change; `result(view)` is asked after it is applied.
It may run more than once, against a fresher view, and must not have effects of its own."""


def lines_of(view: View, changes: list[Body], stamp: Stamp) -> tuple[list[bytes], list[Body]]:
    """The lines of one atomic group, and its records as the view keeps them.

    Raises `InvalidInputError` for a value that JSON has not.
    """
    lines, records = [], []
    until = view.seq + len(changes)
    for seq, change in enumerate(changes, view.seq + 1):
        if change["type"] == "message.delta" and len(changes) == 1:
            record = _delta(view, seq, change)
        else:
            record = {"seq": seq, "id": stamp.id(), "ts": stamp.now, "durable": view.journal.durable}
            if len(changes) > 1:
                record["until"] = until
            record |= change  # A message comes last: so its JSON is found in the line without decoding it.
        try:
            body = _encoded(record)
        except ValueError as error:
            raise InvalidInputError(field="value", value=change, reason=str(error)) from error
        lines.append(frame(body))
        # The caller keeps what it handed in, and may change it: what the view keeps comes from the bytes.
        records.append(record if change["type"] == "message.added" else decode(body))
    return lines, records


def _encoded(record: Body) -> bytes:
    message = record.get("message")
    if type(message) is not Written:
        return encode(record)
    head = encode({key: value for key, value in record.items() if key != "message"})
    return b'%b,"message":%b}' % (head[:-1], message.json)


def _delta(view: View, seq: int, change: Body) -> Body:
    """A delta as the journal holds it: a stream is mostly envelope otherwise. See `Live.expand`."""
    head = view.live.head(change["messageId"])
    record: Body = {"seq": seq, "delta": change["messageId"]} if head is None else {"seq": seq, "to": head}
    journal = view.journal
    if journal.durable > journal.told:
        # Without it damage to what a stream has synced would pass for its unsynced tail.
        record["durable"] = journal.told = journal.durable
    return record | {key: value for key, value in change.items() if key in ("text", "part", "new")}
