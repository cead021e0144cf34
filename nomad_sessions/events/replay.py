"""What happened, read from the log again: what was carried over to `events/`, and then the journal.

Invariant: events come in the order of seq (or the reverse of it), each once, and all that are kept between the two
ends; where some of them are not, it is said before the first is given. Verified by
`tests/unit/test_recorded_events.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.events.translation import event_of
from nomad_sessions.models import Event
from nomad_sessions.storage.segment import Entry
from nomad_sessions.workspace.archive import archived
from nomad_sessions.workspace.log import LogPosition, LogReader
from nomad_sessions.workspace.state import Body

if TYPE_CHECKING:
    from nomad_sessions.events.hub import Hub

__all__ = ["replay"]


def replay(
    hub: Hub,
    workspace_id: str,
    wanted: EventFilter,
    since: int | None,
    until: int | None,
    limit: int | None,
    *,
    newest_first: bool,
) -> Iterator[Event]:
    """The events of a workspace after a seq, up to another. Raises `EventsPrunedError`."""
    log = hub.reader(workspace_id, LogPosition(0))
    goal = log.goal() if until is None else min(until, log.goal())
    firsts = log.segments()
    first = firsts[0] if firsts else log.goal() + 1
    if since is not None and since > log.goal():
        raise EventsPrunedError(path=log.folder, since=since, first=1)
    whole = since is not None and wanted.recorded is not True
    if whole and since is not None and since + 1 < first and since < goal:
        raise EventsPrunedError(path=log.folder, since=since, first=first)
    records = _Records(hub, workspace_id, firsts, since or 0, goal, whole=whole)
    found = records.newest_first() if newest_first else records.oldest_first()
    events = (event_of(workspace_id, record) for record in found)
    return islice((event for event in events if wanted.matches(event, hub.is_of_task)), limit)


class _Records:
    """The records between two seqs (the first exclusive), in the segments that begin with these; with `whole`, all of
    them or an error."""

    def __init__(self, hub: Hub, workspace_id: str, firsts: list[int], since: int, goal: int, *, whole: bool) -> None:
        self._hub = hub
        self._workspace_id = workspace_id
        self._firsts = firsts
        self._since = since
        self._goal = goal
        self._whole = whole

    def oldest_first(self) -> Iterator[Body]:
        yield from self._between(self._since, self._goal)

    def newest_first(self) -> Iterator[Body]:
        """A segment at a time."""
        upper = self._goal
        for first in reversed(self._firsts):
            lower = max(self._since, first - 1)
            if lower < upper:
                yield from reversed(list(self._between(lower, upper)))
                upper = lower
        reader = self._hub.reader(self._workspace_id, LogPosition(0))
        carried = archived(reader.fs, reader.folder, after=self._since)
        yield from (record for record in carried if record["seq"] <= min(upper, self._goal))

    def _between(self, after: int, goal: int) -> Iterator[Body]:
        if after >= goal:
            return
        reader = self._hub.reader(self._workspace_id, LogPosition(after))
        try:
            for entries in self._read(reader):
                for entry in entries:
                    if entry.record["seq"] > goal:
                        return
                    yield entry.record
                if reader.after >= goal:
                    return
        finally:
            reader.close()

    def _read(self, reader: LogReader) -> Iterator[Iterable[Entry]]:
        if not self._whole:
            yield from ([each.entry for each in batch] for batch in reader.kept())
            return
        while entries := reader.read():
            yield entries
