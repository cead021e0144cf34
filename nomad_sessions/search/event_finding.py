"""Questions to the events of one index: how many match a filter, and where a page of them lies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nomad_sessions.errors import JournalCorruptError
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.events.translation import event_of
from nomad_sessions.models import Event
from nomad_sessions.search.event_rows import AGENT_TASK, DAY, RECORDED, TOOL
from nomad_sessions.search.index import Index
from nomad_sessions.search.query import expression
from nomad_sessions.search.text import clean
from nomad_sessions.storage.codec import encode
from nomad_sessions.storage.segment import Segment
from nomad_sessions.workspace.archive import FOLDER
from nomad_sessions.workspace.state import WORKSPACE
from nomad_sessions.workspace.store import Workspace

__all__ = ["EventQuestion", "EventResults", "Place", "count_events", "find_events", "load_events"]

_PLACE = (
    "e.seq, e.time, e.message, (SELECT name FROM about WHERE number = e.about), "
    "e.segment, e.offset, e.length, e.archived"
)
_FEW = 16
_SPARSE = 50
_NEVER = 1 << 62


@dataclass(frozen=True)
class EventResults:
    """A page of events. `total` counts all that match; `next_offset` is where the next page begins, None on the last.
    `stale` says that another process was bringing the index up to date for too long, so that it may be behind."""

    events: tuple[Event, ...]
    total: int
    next_offset: int | None
    stale: bool = False


class Place(NamedTuple):
    """Where an event's record lies, and what a delta's does not say itself."""

    seq: int
    time: int
    message_id: str | None
    session_id: str
    segment: int
    offset: int
    length: int
    archived: int


class EventQuestion(NamedTuple):
    """What is asked: words that an event has (None: whatever it has), a filter, the sessions that have a task."""

    match: str | None
    wanted: EventFilter
    with_tasks: Collection[str]

    @classmethod
    def of(cls, query: str, wanted: EventFilter, with_tasks: Collection[str]) -> EventQuestion:
        """Raises `InvalidInputError` for a query that only says what not to find."""
        return cls(expression(query), wanted, with_tasks)


class _Terms:
    """Conditions on a row's kind and flags, which every table has, and on its session and task."""

    def __init__(self, index: Index, question: EventQuestion) -> None:
        wanted = question.wanted
        rows = index.connection.execute("SELECT DISTINCT kind, flags FROM daily").fetchall()
        names = dict(index.connection.execute("SELECT number, name FROM kind").fetchall())
        flags = [(RECORDED, wanted.recorded), (TOOL, wanted.has_tool)]
        sessions = _numbers_of(index, question.with_tasks) if wanted.is_agent_task is not None else []
        if not sessions:  # Then only what says itself that it is about a task.
            flags.append((AGENT_TASK, wanted.is_agent_task))
        self.pairs = [
            (kind, flag)
            for kind, flag in rows
            if wanted.names(names[kind]) and all(value in (None, bool(flag & each)) for each, value in flags)
        ]
        self.every = len(self.pairs) == len(rows)
        self.terms: list[str] = []
        self.values: list[Any] = []
        if not self.every:
            self.terms.append(f"(kind, flags) IN (VALUES {', '.join(map(str, self.pairs))})" if self.pairs else "0")
        self.anywhere = True
        if wanted.session_id is not None:
            self._narrow("about = (SELECT number FROM about WHERE name = ?)", clean(wanted.session_id))
        if sessions:
            term = f"(flags & {AGENT_TASK} OR about IN ({', '.join(map(str, sessions))}))"
            self._narrow(term if wanted.is_agent_task else f"NOT {term}")

    def _narrow(self, term: str, *values: str) -> None:
        self.anywhere = False
        self.terms.append(term)
        self.values += values

    def of_rows(self, question: EventQuestion, seqs: tuple[int, int] | None = None) -> tuple[str, list[Any]]:
        """The conditions on rows of `event`, with those that only they can be asked. With `seqs`, between which they
        lie, SQLite goes by those, and not by the index of times."""
        time = "time" if seqs is None else "+time"
        wanted = question.wanted
        only_rows = [
            ("message = ?", None if wanted.message_id is None else clean(wanted.message_id)),
            (f"{time} >= ?", wanted.after),
            (f"{time} < ?", wanted.before),
            ("seq IN (SELECT rowid FROM event_words WHERE event_words MATCH ?)", question.match),
        ]
        if seqs is not None:
            only_rows += [("seq >= ?", seqs[0]), ("seq <= ?", seqs[1])]
        given = [(term, value) for term, value in only_rows if value is not None]
        return _all([*self.terms, *(term for term, _ in given)]), [*self.values, *(value for _, value in given)]


def _numbers_of(index: Index, names: Collection[str]) -> list[int]:
    """The numbers that sessions have in the index, those that it knows."""
    query = "SELECT number FROM about WHERE name IN (SELECT value FROM json_each(?))"
    named = encode([clean(each) for each in names]).decode()
    return [row[0] for row in index.connection.execute(query, (named,))]


def count_events(index: Index, question: EventQuestion) -> int:
    """How many events match: from `tally`, or of a time from `daily`; rows are counted where those cannot tell."""
    terms, wanted = _Terms(index, question), question.wanted
    any_time = wanted.after is None and wanted.before is None
    if wanted.message_id is None and question.match is None:
        if any_time:
            return _number(index, f"SELECT sum(count) FROM tally WHERE {_all(terms.terms)}", terms.values)
        if terms.anywhere:
            return sum(_in_range(index, terms, *each) for each in _pieces(wanted.after, wanted.before))
    where, values = terms.of_rows(question)
    return _number(index, f"SELECT count(*) FROM event WHERE {where}", values)


def _pieces(after: int | None, before: int | None) -> list[tuple[bool, int, int]]:
    """A range of time as whole days, which `daily` has, and what is left at its ends."""
    begin, end = 0 if after is None else max(0, after), _NEVER if before is None else before
    first, last = -(-begin // DAY), end // DAY
    if first >= last:
        return [(False, begin, end)]
    return [(False, begin, first * DAY), (True, first, last), (False, last * DAY, end)]


def _in_range(index: Index, terms: _Terms, days: bool, begin: int, end: int) -> int:
    if begin >= end:
        return 0
    what, table, column = ("sum(count)", "daily", "day") if days else ("count(*)", "event", "time")
    where = _all([*terms.terms, f"{column} >= ? AND {column} < ?"])
    return _number(index, f"SELECT {what} FROM {table} WHERE {where}", [*terms.values, begin, end])


def _number(index: Index, query: str, values: Sequence[Any]) -> int:
    return int(index.connection.execute(query, values).fetchone()[0] or 0)


def _all(terms: Sequence[str]) -> str:
    return " AND ".join(terms) or "1"


def find_events(
    index: Index, question: EventQuestion, limit: int, offset: int, *, total: int, newest_first: bool
) -> list[Place]:
    """A page of the `total` events that match, in the order of seq."""
    terms = _Terms(index, question)
    where, values = terms.of_rows(question, _between(index, question.wanted, total))
    order = "DESC" if newest_first else "ASC"
    numbers = f"SELECT seq FROM event WHERE {where}"
    if not terms.every and terms.anywhere and len(terms.pairs) <= _FEW and question.match is None:
        # Rows of one kind and one set of flags lie in order: the first of each, instead of sorting all of them.
        one = (
            f"SELECT * FROM (SELECT seq FROM event WHERE kind = {{}} AND flags = {{}} AND {where} ORDER BY seq {order}"
        )
        pieces = [f"{one.format(*pair)} LIMIT {offset + limit})" for pair in terms.pairs]
        numbers, values = " UNION ALL ".join(pieces) or "SELECT seq FROM event WHERE 0", values * len(pieces)
    query = (
        f"SELECT {_PLACE} FROM (SELECT seq FROM ({numbers}) ORDER BY seq {order} LIMIT ? OFFSET ?) AS found "
        f"JOIN event e ON e.seq = found.seq ORDER BY e.seq {order}"
    )
    return [Place(*row) for row in index.connection.execute(query, [*values, limit, offset])]


def _between(index: Index, wanted: EventFilter, total: int) -> tuple[int, int] | None:
    """The seqs between which the events of a range of time lie, where there are many: a page is soon full when one goes
    by seq; going by the time, all of them would be sorted first."""
    if wanted.after is None and wanted.before is None:
        return None
    if total * _SPARSE < _number(index, "SELECT sum(count) FROM daily", ()):
        return None
    days = (wanted.after or 0) // DAY, (_NEVER if wanted.before is None else wanted.before) // DAY
    found = index.connection.execute("SELECT min(low), max(high) FROM daily WHERE day >= ? AND day <= ?", days)
    low, high = found.fetchone()
    return (low or 0, high or 0)


def load_events(workspace: Workspace, places: Sequence[Place]) -> list[Event]:
    """The events at these places. Raises `FileNotFoundError` where a segment went since, with the retention, and
    `JournalCorruptError` where another record lies there, or none."""
    name = workspace.folder.rpartition("/")[2]
    segments: dict[tuple[int, int], Segment] = {}
    events = []
    try:
        for place in places:
            key = (place.segment, place.archived)
            if key not in segments:
                folder = f"{workspace.folder}/{FOLDER if place.archived else 'journal'}"
                segments[key] = Segment.open(workspace.fs, folder, place.segment, writable=False)
            record = segments[key].record(place.offset, place.length)
            if record.get("seq") != place.seq:
                reason = f"there is no record {place.seq}"
                path = segments[key].path
                raise JournalCorruptError(path=path, offset=place.offset, length=place.length, reason=reason)
            if "type" not in record:
                record |= {"type": "message.delta", "messageId": place.message_id, "ts": place.time}
                record["sessionId"] = place.session_id or WORKSPACE
            events.append(event_of(name, record))
    finally:
        for segment in segments.values():
            segment.close()
    return events
