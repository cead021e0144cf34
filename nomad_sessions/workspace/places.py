"""Where records lie, and what lists need to know of a session: small values, in memory and in the seals' tables."""

from __future__ import annotations

from typing import Any, NamedTuple

from nomad_sessions.storage.codec import is_framed
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import Entry, Segment
from nomad_sessions.workspace.state import SessionState, Span, added_at

__all__ = ["Additions", "Ahead", "LazySegment", "Place", "Summary", "place_of", "placed", "trimmed"]


_LEAST_AHEAD = 8 << 10
_new = tuple.__new__  # Half the time of the class's own call.


class Place(NamedTuple):
    """Where a record lies: seq, first seq of its segment, byte offset, length.

    What needs no more than that to be applied says so in `kind`: "added" and "delta" with the message as `subject`,
    "fork" with the session that it copies. `time` (ms) is what an added message gives its session; 0 in a table, where
    the session's summary has the outcome.
    """

    seq: int
    segment: int
    offset: int
    length: int
    kind: str = ""
    subject: str = ""
    time: int = 0


class Additions(NamedTuple):
    """Records that add messages to one session, one after the other: the seq of the first, the id of the last, the time
    (ms) that they say, and of each its message's id and time and the length of its line."""

    session_id: str
    seq: int
    last_id: str
    time: int
    messages: list[str]
    times: list[int]
    lengths: list[int]

    @property
    def size(self) -> int:
        """The bytes of the lines."""
        return sum(self.lengths)

    def places(self, offset: int, segment: int) -> list[Place]:
        """The places of the records, of which the first lies at this offset."""
        made: list[Place] = []
        each = zip(range(self.seq, self.seq + len(self.messages)), self.lengths, self.messages, self.times, strict=True)
        for seq, length, message_id, time in each:
            made.append(_new(Place, (seq, segment, offset, length, "added", message_id, time)))
            offset += length
        return made


class Summary(NamedTuple):
    """What lists sort and filter by. Times in ms; `rev` and `created` are seqs; `visible`, `hidden` count messages."""

    id: str
    updated_at: int
    rev: int
    created: int
    created_at: int
    parent_id: str | None
    archived_at: int | None
    closed_at: int | None
    visible: int
    hidden: int

    @classmethod
    def of(cls, session: SessionState) -> Summary:
        """The summary of a session as it is."""
        get = session.fields.get
        return cls(
            session.id,
            get("updatedAt") or 0,
            session.rev,
            session.created,
            get("createdAt") or 0,
            get("parentId"),
            get("archivedAt"),
            get("closedAt"),
            len(session.order),
            len(session.hidden),
        )


class Ahead:
    """What of a journal was read ahead: for who reads much of it while nobody writes. Nothing, unless `most` (bytes)
    says how much at a time; then twice as much each time, as long as one record is read after the other. So of records
    that lie apart hardly more is read than they are long. Verified by `tests/unit/test_read_ahead.py`."""

    __slots__ = ("_data", "_end", "_segment", "_size", "_start", "most")

    def __init__(self) -> None:
        self.most = 0
        self._size = 0
        self._segment: Segment | None = None
        self._start = self._end = 0
        self._data = b""

    def span(self, segment: Segment, offset: int, length: int) -> Span:
        """The record at a known place of a segment. Raises `JournalCorruptError` when its bytes are not as written."""
        if not self.most:
            data, at = segment.fs.pread(segment.fd, length, offset), 0
        else:
            at = offset - self._start
            if segment is not self._segment or not 0 <= at <= len(self._data) - length:
                goes_on = segment is self._segment and offset == self._end
                self._size = min(self.most, max(_LEAST_AHEAD, 2 * self._size)) if goes_on else 0
                self._segment, self._start, at = segment, offset, 0
                self._data = segment.fs.pread(segment.fd, max(length, self._size), offset)
            self._end = offset + length
            data = self._data
        end = at + length
        if data[end - 1 : end] == b"\n":  # Else it is damaged, and a repair reads what stands before it.
            end -= 1
        if not is_framed(data, at, end):
            raise segment.damaged(offset, length)
        return data, at, end


class LazySegment:
    """A segment of the journal, opened when something in it is first read."""

    __slots__ = ("_ahead", "_first_seq", "_journal", "_segment")

    def __init__(self, journal: Journal, first_seq: int, ahead: Ahead) -> None:
        self._journal = journal
        self._first_seq = first_seq
        self._ahead = ahead
        self._segment: Segment | None = None

    def record(self, offset: int, length: int) -> dict[str, Any]:
        """The record at a known place."""
        return self._opened().record(offset, length)

    def span(self, offset: int, length: int) -> Span:
        """The same as JSON, not decoded."""
        return self._ahead.span(self._segment or self._opened(), offset, length)

    def _opened(self) -> Segment:
        if self._segment is None:
            self._segment = self._journal.segment(self._first_seq)
        return self._segment


def place_of(entry: Entry, segment: int) -> Place:
    """The place of a record (expanded, see `Live`) in the segment with this first seq."""
    record, offset, length = entry
    kind = record["type"]
    if kind == "message.added":
        row = record["seq"], segment, offset, length, "added", record["messageId"], added_at(record)
        return _new(Place, row)
    if kind == "message.delta":
        return Place(record["seq"], segment, offset, length, "delta", record["messageId"])
    if kind == "session.forked":
        return Place(record["seq"], segment, offset, length, "fork", record["sourceId"])
    return Place(record["seq"], segment, offset, length)


def placed(row: list[Any]) -> Place:
    """The place that a table row holds."""
    return _new(Place, row + _UNSAID[len(row) - 4 :])


_UNSAID = ["", "", 0]


def trimmed(place: Place) -> list[Any]:
    """As a table row holds it."""
    return list(place[: 6 if place.kind else 4])
