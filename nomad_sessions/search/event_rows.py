"""What happened in a workspace, in `index.sqlite`: to be counted and listed by filters without reading the log.

Tables: `event` has a row for each event that is kept, and where its record lies: in the segment, or, where `archived`,
in the file of `events/`, with this first seq. `kind` and `about` number the types and the sessions. `tally` counts the
events by session, kind and flags, `daily` by day, kind and flags: a count reads one of them, and not the rows. `daily`
also says between which seqs they lie (`low`, `high`), or more than that. The words of `event_words` are looked up when
there is something to be looked for, and not before.

Invariant: when `catch_up_events` returns, there is a row for each event that the log has, and for no other, as they
were at one look that is not older than the call. Verified by `tests/unit/test_event_search.py`, against a replay, and
`tests/unit/test_search_pasts.py`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nomad_sessions.events.filters import concerns_task, has_tool
from nomad_sessions.events.translation import event_of
from nomad_sessions.models import Event
from nomad_sessions.search.index import Index
from nomad_sessions.search.past import Proof, Spot, holds
from nomad_sessions.search.text import clean
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.segment import name_of
from nomad_sessions.workspace.archive import FOLDER, archives, entries_of
from nomad_sessions.workspace.log import LogReader
from nomad_sessions.workspace.store import Workspace

__all__ = ["AGENT_TASK", "DAY", "RECORDED", "TOOL", "catch_up_events", "catch_up_words"]

RECORDED, TOOL, AGENT_TASK = 1, 2, 4
"""The flags of a row."""
DAY = 86_400_000
_GROUP = 20_000
_MOST_TEXT = 20_000
_CARRIED = 0  # No segment of the journal: these begin with seq 1.
_YOUNG = 2_000  # ms: a file system's clock may go by seconds.
_ADD = (
    "INSERT OR IGNORE INTO event (seq, time, kind, about, flags, message, segment, offset, length, archived) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TALLY = (
    "INSERT INTO tally (about, kind, flags, count) VALUES (?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET count = count + excluded.count"
)
_DAILY = (
    "INSERT INTO daily (day, kind, flags, count, low, high) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "count = count + excluded.count, low = min(low, excluded.low), high = max(high, excluded.high)"
)


class _Found(NamedTuple):
    """An event, the id of its record (a delta has none), and where that lies."""

    event: Event
    record_id: str | None
    segment: int
    offset: int
    length: int
    archived: bool


def log_of(workspace: Workspace, after: int) -> LogReader:
    """A reader of a workspace's log, from a seq on."""
    return LogReader(workspace.fs, workspace.folder, workspace.read, after)


def catch_up_events(workspace: Workspace, index: Index) -> None:
    """Makes the rows what the log is. Cost when nothing has changed: one look at the files; else what is new, the
    segment that it follows, and a group of rows for a transaction each, so that what was done stays done when this is
    interrupted. What is of another past than the log's is forgotten first.

    Raises what reading the log does, and `sqlite3.Error`.
    """
    while index.meta("event_state") != _State.of(workspace).text() and not _done(workspace, index):
        pass


class _State(NamedTuple):
    """What the workspace is at: its last seq and id, where the journal ends and begins, and the files of `events/`."""

    seq: int
    last: str
    end: tuple[int, int]
    first: int
    archives: dict[str, str] | str

    @classmethod
    def of(cls, workspace: Workspace) -> _State:
        archives = _archives(workspace)
        seq, last, end = workspace.read(
            lambda view: (view.journal.last_seq, view.last_id, (view.journal.live_first, view.journal.end))
        )
        return cls(seq, last, end, log_of(workspace, 0).first(), archives)

    def text(self) -> str:
        return encode(self).decode()


def _archives(workspace: Workspace) -> dict[str, str] | str:
    """What changes whenever a file of `events/` does: the folder's time, or, while that is so young that two changes
    may have the same, what each file is."""
    stat = workspace.fs.stat(f"{workspace.folder}/{FOLDER}")
    if stat is None or workspace.now() - stat.mtime_ns // 1_000_000 > _YOUNG:
        return "" if stat is None else f"{stat.ino} {stat.mtime_ns}"
    return _files(workspace)


def _files(workspace: Workspace) -> dict[str, str]:
    """The files of `events/`, by first seq: another file is another, whatever its name."""
    found = {}
    for first in archives(workspace.fs, workspace.folder):
        stat = workspace.fs.stat(f"{workspace.folder}/{FOLDER}/{name_of(first)}")
        if stat is not None:
            found[str(first)] = f"{stat.ino} {stat.size} {stat.mtime_ns}"
    return found


def _done(workspace: Workspace, index: Index) -> bool:
    """Adds the next rows, and once there are no more, brings the others up to date; whether it came to that. All in one
    transaction, the look at the log too: another process may have done it meanwhile, or have come further."""
    with index.changing():
        state, files = _State.of(workspace), _files(workspace)
        if not _is_same_past(workspace, index, state, files):
            index.forget_events()
        found: list[_Found] = []
        for each in _from(workspace, index.meta("event_seq")):
            found += each
            if len(found) >= _GROUP:
                break
        if found:
            _add(index, found)
            index.note(event_seq=found[-1].event.seq, event_proof=_proof(index, found))
        if len(found) >= _GROUP:
            return False
        _drop_pruned(workspace, index, state.first)
        index.note(event_state=state.text(), event_archives=encode(files).decode())
    return True


def _is_same_past(workspace: Workspace, index: Index, state: _State, files: dict[str, str]) -> bool:
    """Whether the rows are of the log that there is: it goes on from their last, and what they know of `events/` is as
    it was. Files are only added there, but by a repair, or by who puts back a copy."""
    try:
        known = dict(decode(index.meta("event_archives").encode()))
    except (ValueError, TypeError):  # Damaged.
        return False
    if any(files.get(first) != stamp for first, stamp in known.items()):
        return False
    proof = Proof.of(index.meta("event_proof"))
    if proof is None:
        return bool(index.meta("event_seq") == 0)
    return proof.last.seq <= state.seq and holds(workspace, proof)


def _proof(index: Index, found: list[_Found]) -> str:
    """The proof of the log up to the last of these."""
    last = _spot(found[-1])
    for each in reversed(found):
        if each.record_id is not None and (not each.archived or each is found[-1]):
            return Proof(last, _spot(each), each.record_id).text()
    known = Proof.of(index.meta("event_proof"))
    if known is None or known.named.segment == _CARRIED:
        known = Proof(last, last, None)
    return known._replace(last=last).text()


def _spot(found: _Found) -> Spot:
    return Spot(found.event.seq, _CARRIED if found.archived else found.segment, found.offset, found.length)


def _from(workspace: Workspace, after: int) -> Iterator[list[_Found]]:
    """The events after a seq: of those that the journal no longer has, the recorded ones."""
    name = workspace.folder.rpartition("/")[2]
    log = log_of(workspace, after)
    try:
        for batch in log.kept():
            yield [
                _Found(
                    event_of(name, each.entry.record),
                    each.entry.record.get("id"),
                    each.segment,
                    each.entry.offset,
                    each.entry.length,
                    each.archived,
                )
                for each in batch
            ]
    finally:
        log.close()


def _add(index: Index, found: Iterable[_Found]) -> None:
    kinds, abouts = _Numbers(index, "kind"), _Numbers(index, "about")
    rows = []
    tally: Counter[tuple[int, int, int]] = Counter()
    daily: dict[tuple[int, int, int], list[int]] = {}
    for event, _, *place in found:
        flags = RECORDED * event.recorded | TOOL * has_tool(event) | AGENT_TASK * concerns_task(event)
        kind, about = kinds.of(event.type), abouts.of(clean(event.session_id or ""))
        message = None if event.message_id is None else clean(event.message_id)
        rows.append((event.seq, event.timestamp, kind, about, flags, message, *place))
        tally[about, kind, flags] += 1
        daily.setdefault((event.timestamp // DAY, kind, flags), []).append(event.seq)
    index.connection.executemany(_ADD, rows)
    index.connection.executemany(_TALLY, ((*key, count) for key, count in tally.items()))
    days = ((*key, len(seqs), seqs[0], seqs[-1]) for key, seqs in daily.items())
    index.connection.executemany(_DAILY, days)


class _Numbers:
    """The numbers of names in a table, given when they are first asked for. For one transaction."""

    def __init__(self, index: Index, table: str) -> None:
        self._connection = index.connection
        self._table = table
        self._known: dict[str, int] = dict(self._connection.execute(f"SELECT name, number FROM {table}").fetchall())

    def of(self, name: str) -> int:
        if name not in self._known:
            done = self._connection.execute(f"INSERT INTO {self._table} (name) VALUES (?)", (name,))
            self._known[name] = int(done.lastrowid or 0)
        return self._known[name]


def _drop_pruned(workspace: Workspace, index: Index, first: int) -> None:
    """Notes where the recorded events are that went with the journal's retention, and takes out what went for good."""
    if first <= index.meta("event_first"):
        return
    execute = index.connection.execute
    gone = "seq < ? AND archived = 0"
    moved = execute(f"SELECT DISTINCT segment FROM event WHERE {gone} AND flags & {RECORDED}", (first,)).fetchall()
    for (number,) in moved:
        with contextlib.suppress(FileNotFoundError):  # None of them was carried over: a repair may have dropped them.
            entries = entries_of(workspace.fs, workspace.folder, number)
            places = [(each.offset, each.length, each.record["seq"]) for each in entries]
            query = "UPDATE event SET offset = ?, length = ?, archived = 1 WHERE seq = ?"
            index.connection.executemany(query, places)
    counts = (("tally", "about", "", _TALLY), ("daily", f"time / {DAY}", ", min(seq), max(seq)", _DAILY))
    for table, key, more, query in counts:
        counted = f"SELECT {key}, kind, flags, -count(*){more} FROM event WHERE {gone} GROUP BY 1, 2, 3"
        index.connection.executemany(query, execute(counted, (first,)).fetchall())
        execute(f"DELETE FROM {table} WHERE count = 0")
    execute(f"DELETE FROM event WHERE {gone}", (first,))
    index.note(event_first=first)


def catch_up_words(workspace: Workspace, index: Index) -> None:
    """Makes the words of all events findable, those of `catch_up_events`. Cost: what is new, read once more."""
    while index.meta("event_words") < index.meta("event_seq"):
        with index.changing():
            after, number = index.meta("event_words"), 0
            for number, event in enumerate(_events(workspace, after), 1):
                row = (event.seq, _text(event))
                index.connection.execute("INSERT INTO event_words (rowid, text) VALUES (?, ?)", row)
                index.note(event_words=event.seq)
                if number == _GROUP:
                    break
            if number < _GROUP:
                index.note(event_words=max(index.meta("event_seq"), index.meta("event_words")))


def _events(workspace: Workspace, after: int) -> Iterator[Event]:
    for batch in _from(workspace, after):
        yield from (found.event for found in batch)


def _text(event: Event) -> str:
    """What is searched of an event: its type, and every text in it, up to a length."""
    texts = [event.type, event.session_id or "", event.message_id or ""]
    size = 0
    pending: list[Any] = [event.properties]
    while pending and size < _MOST_TEXT:
        value = pending.pop()
        if isinstance(value, str):
            texts.append(value[: _MOST_TEXT - size])
            size += len(value)
        elif isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return clean(" ".join(texts))
