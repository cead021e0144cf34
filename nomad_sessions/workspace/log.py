"""The journal as a log: every record after a seq, in order, for one who keeps a place of his own in it.

Invariant: records come in the order of their seqs, each once, and none that the workspace's view has not vouched for: a
torn tail, or half of a group, is never given. Reading takes no lock, and holds up neither writers nor other readers.
Verified by `tests/unit/test_subscribe.py` and `tests/processes/test_subscribers.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from nomad_sessions.errors import EventsPrunedError, JournalGapError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import Entry, Segment
from nomad_sessions.workspace.archive import archives, entries_of
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.view import View

__all__ = ["Located", "LogPosition", "LogReader", "Look", "agree", "mark_after"]

Look = Callable[[Callable[[View], Any]], Any]
"""Asks the workspace's newest view."""

_RETRIES = 4
_KNOWN = 10_000
_BEGINNING = 40


class Located(NamedTuple):
    """A record of the log, and where it lies: in the segment or, where `archived`, the file of `events/`, with this
    first seq."""

    entry: Entry
    segment: int
    archived: bool


class LogPosition(NamedTuple):
    """A place in a log: a seq, and the mark of what lies there, "" where it is not known.

    A mark is the id of the last record that has one; where deltas follow it, which have none, `~` and a checksum of
    what they say, or `~?` where that is not known. By it a log is told from one that took its place: of a workspace
    that was deleted and made anew, or a backup that was put back.
    """

    seq: int
    mark: str = ""


def mark_after(mark: str, record: Body) -> str:
    """The mark of a record, which follows one with this mark."""
    if "id" in record:
        return str(record["id"])
    name, _, chain = mark.partition("~")
    if not name or chain == "?":
        return mark
    said = repr((record.get("text"), record.get("part"), record.get("new"))).encode("utf-8", "surrogatepass")
    return f"{name}~{zlib.crc32(said, int(chain or '0', 16)):08x}"


def end_of(view: View) -> LogPosition:
    """Where the log of a view ends."""
    seq, name = view.journal.last_seq, view.last_id
    return LogPosition(seq, name if view.named_at == seq or not name else f"{name}~?")


def agree(one: str, other: str) -> bool:
    """Whether two marks may be of the same record, as far as they are known."""
    (name, _, chain), (other_name, _, other_chain) = one.partition("~"), other.partition("~")
    if not name or not other_name:
        return True
    return name == other_name and ("?" in (chain, other_chain) or chain == other_chain)


class _Line(NamedTuple):
    """Where the last record lies that was looked at, its seq, and how its line begins: with its checksum and seq."""

    offset: int
    length: int
    seq: int
    beginning: bytes


class LogReader:
    """Reads on from a seq. Not for several threads at once.

    `after` is the seq of the last record that was given, and `mark` its mark; `folder` the workspace's. Deltas, which
    name their message and session once in a segment, are completed; where they say no `ts` it is that of the record
    before them (0 where reading begins with a segment of an older version which begins with them).
    """

    def __init__(self, fs: FileSystem, folder: str, look: Look, after: int, mark: str = "") -> None:
        self.after = after
        self.mark = mark
        self.fs = fs
        self.folder = folder
        self._look = look
        self._known = not mark
        self._segment: Segment | None = None
        self._last: _Line | None = None
        self._targets: dict[int, str] = {}
        self._owners: dict[str, str] = {}
        self._time = 0

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def goal(self) -> int:
        """The seq that the log is at. What another program wrote into `sessions.json` is in it once it is merged for
        good, by the next who writes."""
        return int(self._look(lambda view: view.journal.last_seq))

    def lags(self) -> bool:
        """Whether another program wrote something that is to be merged."""
        return bool(self._look(lambda view: view.seq > view.journal.last_seq))

    def go_to_end(self) -> None:
        """From now on reads what comes, in whichever log there is."""
        self.close()
        self.after, self.mark = self.end()
        self._known = True

    def end(self) -> LogPosition:
        """Where the log is."""
        position: LogPosition = self._look(end_of)
        return position

    def read(self) -> list[Entry]:
        """The next records, those of one segment at most; none when there is nothing new.

        Raises `EventsPrunedError` where they are no longer kept, or, with a `first` that is not above `after`, where
        the log is another one; and what reading it does. Cost when nothing happened: one look at the files; else the
        bytes that are new, and once those before them in the segment.
        """
        goal = self.goal()
        if goal < self.after:
            raise self._another()
        self._look_whether_replaced()
        if not self._known and self.first() > self.after:
            self._known = True  # There is nothing left to tell it by.
        records: list[Entry] = []
        stuck = 0
        while (self.after < goal or not self._known) and not records:
            segment = self._segment or self._open()
            before = self.after
            records = self._scan(segment, goal)
            self._known = True
            if self.after == before < goal:
                # All of it is known: what is new lies in the next one, or in another of its name.
                self.close()
                stuck += 1
                if stuck > _RETRIES:
                    self._gap(segment.path, goal)
        return records

    def _look_whether_replaced(self) -> None:
        """Lets go of a segment that is not what it was: what follows is read from its successor, if that is of the same
        log. One that went with the retention is read to its end."""
        segment, last = self._segment, self._last
        if segment is None:
            return
        there = self.fs.stat(segment.path)
        replaced = there is not None and (there.dev, there.ino) != segment.identity
        # Or written over in place, as `cp` puts a backup back.
        if replaced or (last is not None and self._beginning(segment, last.offset, last.length) != last.beginning):
            self.close()
            self._known = False

    def _scan(self, segment: Segment, goal: int) -> list[Entry]:
        """The records of a segment after `after`, up to a seq; from its beginning the first time."""
        anew = self._last is None
        begin = (0, None) if self._last is None else (self._last.offset + self._last.length, self._last.seq + 1)
        records: list[Entry] = []
        mark, last = "", None
        for entry in segment.scan(*begin).entries:
            record = entry.record
            if record["seq"] > goal:
                break
            last = entry
            self._complete(record)
            if record["seq"] <= self.after:
                mark = mark_after(mark, record)
                continue
            if anew and not records:
                self._compare(mark)
            self.after = record["seq"]
            self.mark = mark_after(self.mark, record)
            records.append(entry)
        if anew and not records:
            self._compare(mark)
        if last is not None:
            beginning = self._beginning(segment, last.offset, last.length)
            self._last = _Line(last.offset, last.length, last.record["seq"], beginning)
        return records

    def _beginning(self, segment: Segment, offset: int, length: int) -> bytes:
        return self.fs.pread(segment.fd, min(length, _BEGINNING), offset)

    def _compare(self, mark: str) -> None:
        """Raises where the log has another record in the place of the one that was given last; `mark` is its."""
        if not agree(mark, self.mark):
            raise self._another()
        if mark and not mark.endswith("?"):
            self.mark = mark

    def _another(self) -> EventsPrunedError:
        self.close()
        return EventsPrunedError(path=self.folder, since=self.after, first=1)

    def kept(self, told: int | None = None) -> Iterator[list[Located]]:
        """What is still kept, up to where the log is now, a list at a time: of what the journal no longer has, the
        recorded events, also of what goes while this reads.

        Raises what `read` does, but for what was pruned before the seq `told`, or, with None, whatever was.
        """
        while True:
            try:
                entries = self.read()
            except EventsPrunedError as error:
                if error.first <= self.after or (told is not None and error.first > told):
                    raise
                for number in archives(self.fs, self.folder):
                    carried = entries_of(self.fs, self.folder, number)
                    found = [each for each in carried if self.after < each.record["seq"] < error.first]
                    yield [Located(each, number, archived=True) for each in found]
                self.after, self.mark = error.first - 1, ""
                continue
            if not entries:
                return
            yield [Located(each, self._first(), archived=False) for each in entries]

    def _first(self) -> int:
        """The first seq of the segment that was read last."""
        assert self._segment is not None, "its records were just read"
        return self._segment.first_seq

    def _gap(self, path: str, goal: int) -> None:
        """The journal ends before the workspace does: with a snapshot from elsewhere, put here, it goes on after that;
        else something is missing."""
        first = next((each for each in self.segments() if each > self.after + 1), goal + 1)
        if self._look(lambda view: view.floor) >= first - 1:
            raise EventsPrunedError(path=self.folder, since=self.after, first=first)
        raise JournalGapError(path=path, expected_seq=self.after + 1, found_seq=goal)

    def _open(self) -> Segment:
        """The segment that holds the next record, or, where it is to be told whether it is our log, the last one."""
        for _ in range(_RETRIES):
            first = self._first_at(self.after + 1 if self._known else self.after)
            try:
                self._segment = Segment.open(self.fs, f"{self.folder}/journal", first, writable=False)
            except FileNotFoundError:  # Pruned, or folded and pruned, since we looked.
                continue
            self._last = None
            self._targets.clear()
            return self._segment
        raise EventsPrunedError(path=self.folder, since=self.after, first=self.goal() + 1)

    def first(self) -> int:
        """The seq of the first record that is kept; where none is, of the next one that there will be."""
        firsts = self.segments()
        return firsts[0] if firsts else self.goal() + 1

    def segments(self) -> list[int]:
        """The first seq of each segment that there is."""
        return Journal(self.fs, self.folder).first_seqs()

    def _first_at(self, seq: int) -> int:
        """The first seq of the segment that has this one."""
        below = [first for first in self.segments() if first <= seq]
        if not below:
            raise EventsPrunedError(path=self.folder, since=self.after, first=self.first())
        return below[-1]

    def _complete(self, record: Body) -> None:
        self._time = record.setdefault("ts", self._time)
        if "type" in record:
            if record["type"] in ("message.added", "message.merged"):
                self._know(record["messageId"], record["sessionId"])
            return
        message_id = record.get("delta")
        if message_id is None:
            message_id = self._targets[record["to"]]
        else:
            self._targets[record["seq"]] = message_id
        owner = record.get("sessionId") or self._owners.get(message_id)
        if owner is None:  # Of an older journal, whose deltas did not say it.
            owner = self._look(lambda view: view.owner(message_id)) or WORKSPACE
        if owner != WORKSPACE:
            self._know(message_id, owner)
        record |= {"type": "message.delta", "messageId": message_id, "sessionId": owner}

    def _know(self, message_id: str, session_id: str) -> None:
        if len(self._owners) >= _KNOWN:
            self._owners.clear()
        self._owners[message_id] = session_id
