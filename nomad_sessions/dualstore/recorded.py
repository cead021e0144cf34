"""The recorded events of a workspace by their ids, which the log itself does not look up.

Invariant: an id that is asked for is compared with all that the log has at that moment. Verified by
`tests/unit/test_dualstore_events.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.forking import Mutex
from nomad_sessions.sync.changes import recorded
from nomad_sessions.sync.host import looked
from nomad_sessions.sync.target import Change
from nomad_sessions.workspace.log import LogReader
from nomad_sessions.workspace.state import RECORDED, Body

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["RecordedEvents"]


class RecordedEvents:
    """Where each recorded event lies. Safe for several threads. Memory: some 200 bytes an event, once one was asked
    for."""

    def __init__(self, manager: NativeSessionManager, workspace_id: str) -> None:
        self._manager = manager
        self._ws = workspace_id
        self._mutex = Mutex()
        self._reader: LogReader | None = None
        self._seqs: dict[str, int] = {}

    def find(self, event_id: str) -> Change | None:
        """The event of this id, the last if there are several. Cost: what is new in the log, the first time all of it;
        and where there is one, the segment that it lies in."""
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
        seq = self._seqs.get(event_id)
        return None if seq is None else self._at(seq)

    def _catch_up(self) -> None:
        if self._reader is None:
            self._reader = self._from(0)
        for batch in self._reader.kept():
            for each in batch:
                record: Body = each.entry.record
                if record["type"] == RECORDED:
                    self._seqs[record["event"].get("id", record["id"])] = record["seq"]

    def _at(self, seq: int) -> Change:
        reader = self._from(seq - 1)
        try:
            records = (each.entry.record for batch in reader.kept() for each in batch)
            return recorded(self._ws, next(each for each in records if each["seq"] == seq))
        finally:
            reader.close()

    def _from(self, after: int) -> LogReader:
        folder = self._manager.workspace(self._ws).folder
        return LogReader(self._manager._fs, folder, lambda look: looked(self._manager, self._ws, look), after)

    def _forget(self) -> None:
        reader, self._reader = self._reader, None
        self._seqs.clear()
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Gives files back; who asks again reads anew. May be called twice."""
        with self._mutex:
            self._forget()
