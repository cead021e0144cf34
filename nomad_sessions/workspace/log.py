"""The journal as a log: every record after a seq, in order, for one who keeps a place of his own in it.

Invariant: records come in the order of their seqs, each once, and none that the workspace's view has not vouched for: a
torn tail, or half of a group, is never given. Reading takes no lock, and holds up neither writers nor other readers.
Verified by `tests/unit/test_subscribe.py` and `tests/processes/test_subscribers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from nomad_sessions.errors import EventsPrunedError, JournalGapError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import Entry, Segment
from nomad_sessions.workspace.archive import archives, entries_of
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.view import View

__all__ = ["Located", "LogReader", "Look"]

Look = Callable[[Callable[[View], Any]], Any]
"""Asks the workspace's newest view."""

_RETRIES = 4
_KNOWN = 10_000


class Located(NamedTuple):
    """A record of the log, and where it lies: in the segment or, where `archived`, the file of `events/`, with this
    first seq."""

    entry: Entry
    segment: int
    archived: bool


class LogReader:
    """Reads on from a seq. Not for several threads at once.

    `after` is the seq of the last record that was given, `folder` the workspace's. Deltas, which name their message and
    session once in a segment, are completed; their `ts` is that of the record before them.
    """

    def __init__(self, fs: FileSystem, folder: str, look: Look, after: int) -> None:
        self.after = after
        self.fs = fs
        self.folder = folder
        self._look = look
        self._segment: Segment | None = None
        self._offset = 0
        self._next = 0
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

    def read(self) -> list[Entry]:
        """The next records, those of one segment at most; none when there is nothing new.

        Raises `EventsPrunedError` where they are no longer kept or the workspace began anew, and what reading it does.
        Cost when nothing happened: one look at the files; else the bytes that are new, and once those before them in
        the segment.
        """
        goal = self.goal()
        if goal < self.after:
            raise EventsPrunedError(path=self.folder, since=self.after, first=1)
        records: list[Entry] = []
        stuck = 0
        while self.after < goal and not records:
            segment = self._segment or self._open()
            before = self.after
            for entry in segment.scan(self._offset, self._next or None).entries:
                record = entry.record
                if record["seq"] > goal:
                    break
                self._offset, self._next = entry.offset + entry.length, record["seq"] + 1
                self._complete(record)
                if record["seq"] > self.after:
                    self.after = record["seq"]
                    records.append(entry)
            if self.after == before:  # All of it is known: what is new lies in the next one, or in another of its name.
                self.close()
                stuck += 1
                if stuck > _RETRIES:
                    self._gap(segment.path, goal)
        return records

    def kept(self) -> Iterator[list[Located]]:
        """What is still kept, up to where the log is now, a list at a time: of what the journal no longer has, the
        recorded events, also of what goes while this reads. Raises what `read` does, but for what was pruned."""
        while True:
            try:
                entries = self.read()
            except EventsPrunedError as error:
                if error.first <= self.after:
                    raise
                for number in archives(self.fs, self.folder):
                    carried = entries_of(self.fs, self.folder, number)
                    found = [each for each in carried if self.after < each.record["seq"] < error.first]
                    yield [Located(each, number, archived=True) for each in found]
                self.after = error.first - 1
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
        """The segment that holds the next record."""
        for _ in range(_RETRIES):
            first = self._first_at(self.after + 1)
            try:
                self._segment = Segment.open(self.fs, f"{self.folder}/journal", first, writable=False)
            except FileNotFoundError:  # Pruned, or folded and pruned, since we looked.
                continue
            self._offset = self._next = 0
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
        if "type" in record:
            self._time = record.get("ts", self._time)
            if record["type"] in ("message.added", "message.merged"):
                self._know(record["messageId"], record["sessionId"])
            return
        message_id = record.get("delta")
        if message_id is None:
            message_id = self._targets[record["to"]]
        else:
            self._targets[record["seq"]] = message_id
        owner = self._owners.get(message_id)
        if owner is None:
            owner = self._look(lambda view: view.owner(message_id)) or WORKSPACE
            self._know(message_id, owner)
        record |= {"type": "message.delta", "messageId": message_id, "sessionId": owner, "ts": self._time}

    def _know(self, message_id: str, session_id: str) -> None:
        if len(self._owners) >= _KNOWN:
            self._owners.clear()
        self._owners[message_id] = session_id
