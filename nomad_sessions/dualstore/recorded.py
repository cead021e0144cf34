"""The recorded events of a workspace by their ids, which the log itself does not look up.

Invariant: an id that is asked for is compared with all that the log has at that moment. Verified by
`tests/unit/test_dualstore_events.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nomad_sessions.errors import EventsPrunedError, JournalCorruptError
from nomad_sessions.forking import Mutex
from nomad_sessions.storage.segment import Segment
from nomad_sessions.sync.changes import recorded
from nomad_sessions.sync.host import looked
from nomad_sessions.sync.target import Change
from nomad_sessions.workspace.archive import FOLDER
from nomad_sessions.workspace.log import LogReader
from nomad_sessions.workspace.state import RECORDED, Body

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["RecordedEvents"]


_JOURNAL = "journal"


class _Place(NamedTuple):
    """Where the record of an event lies: in a file of this folder, which begins with the seq `segment`."""

    seq: int
    folder: str
    segment: int
    offset: int
    length: int


class RecordedEvents:
    """Where each recorded event lies. Safe for several threads. Memory: some 300 bytes an event, once one was asked
    for."""

    def __init__(self, manager: NativeSessionManager, workspace_id: str) -> None:
        self._manager = manager
        self._ws = workspace_id
        self._mutex = Mutex()
        self._reader: LogReader | None = None
        self._places: dict[str, _Place] = {}

    def find(self, event_id: str) -> Change | None:
        """The event of this id, the last if there are several. Cost: what is new in the log, the first time all of
        it."""
        with self._mutex:
            return self._find(event_id)

    def record_once(self, event: Mapping[str, Any], check: Callable[[Change], None]) -> None:
        """Records an event, unless there is one of its id: that is given to `check`. Durable on return. Cost: as
        `find`."""
        with self._mutex:  # Of two threads with one id the second finds what the first has recorded.
            known = self._find(event["id"])
            if known is None:
                self._manager.record_events(self._ws, [event])
        if known is not None:
            check(known)

    def _find(self, event_id: str) -> Change | None:
        try:
            self._catch_up()
        except EventsPrunedError:  # It is another log now, of a workspace that was made anew or put back.
            self._forget()
            self._catch_up()
        place = self._places.get(event_id)
        return None if place is None else recorded(self._ws, self._at(place))

    def _catch_up(self) -> None:
        if self._reader is None:
            self._reader = self._from(0)
        for batch in self._reader.kept():
            for each in batch:
                record: Body = each.entry.record
                if record["type"] == RECORDED:
                    folder = FOLDER if each.archived else _JOURNAL
                    place = _Place(record["seq"], folder, each.segment, each.entry.offset, each.entry.length)
                    self._places[record["event"].get("id", record["id"])] = place

    def _at(self, place: _Place) -> Body:
        with contextlib.suppress(
            FileNotFoundError, JournalCorruptError
        ):  # It was carried over since: it is looked for.
            folder = self._manager.workspace(self._ws).folder
            segment = Segment.open(self._manager._fs, f"{folder}/{place.folder}", place.segment, writable=False)
            try:
                record = segment.record(place.offset, place.length)
            finally:
                segment.close()
            if record.get("seq") == place.seq:
                return record
        reader = self._from(place.seq - 1)
        try:
            records = (each.entry.record for batch in reader.kept() for each in batch)
            return next(each for each in records if each["seq"] == place.seq)
        finally:
            reader.close()

    def _from(self, after: int) -> LogReader:
        folder = self._manager.workspace(self._ws).folder
        return LogReader(self._manager._fs, folder, lambda look: looked(self._manager, self._ws, look), after)

    def _forget(self) -> None:
        reader, self._reader = self._reader, None
        self._places.clear()
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Gives files back; who asks again reads anew. May be called twice."""
        with self._mutex:
            self._forget()
