"""The newest entries that pass a filter, without reading those that are too old to be among them.

Verified by `tests/unit/test_dualstore_recent.py`, against sorting everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from nomad_sessions.dualstore.entries import Entry, event_entry, message_entry, session_entry
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.models import Session
from nomad_sessions.search import Searcher

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Batch", "newest", "recent_events", "recent_messages", "recent_sessions"]

_SESSIONS = 100
_EVENTS = 1_000
_MINUTE = 60_000


class Batch(NamedTuple):
    """Entries to be read; neither they nor those of later batches are newer than `at_most` (ms)."""

    at_most: int
    read: Callable[[], Iterable[Entry]]


def newest(batches: Iterable[Batch], limit: int, passes: Callable[[Entry], bool]) -> list[Entry]:
    """The newest that pass, the newest first, equals as they came; reads no batch that can have none of them."""
    best: list[Entry] = []
    for batch in batches:
        if len(best) == limit and best[-1].timestamp >= batch.at_most:
            break
        best = sorted([*best, *filter(passes, batch.read())], key=lambda entry: -entry.timestamp)[:limit]
    return best


def recent_sessions(manager: NativeSessionManager, workspace_id: str) -> Iterator[Batch]:
    """All sessions, by their last change."""
    for page in _sessions(manager, workspace_id):
        yield Batch(page[0].updated_at, partial(map, session_entry, page))


def recent_messages(manager: NativeSessionManager, workspace_id: str) -> Iterator[Batch]:
    """All visible messages, a session at a time: none is taken to be newer than the last change of its session."""
    for session in (each for page in _sessions(manager, workspace_id) for each in page):

        def read(session_id: str = session.id) -> Iterable[Entry]:
            return map(message_entry, manager.get_session_messages(workspace_id, session_id))

        yield Batch(session.updated_at, read)


def _sessions(manager: NativeSessionManager, workspace_id: str) -> Iterator[list[Session]]:
    cursor: str | None = None
    while True:
        page = manager.list_sessions(workspace_id, limit=_SESSIONS, cursor=cursor)
        if page:
            yield list(page)
        cursor = page.next_cursor
        if cursor is None:
            return


def recent_events(searcher: Searcher, workspace_id: str) -> Iterator[Batch]:
    """All recorded events, through the index: a span of time after the other, the newest first, as long as it may be to
    have no more than some."""
    until, length = int(time.time() * 1000), _MINUTE
    yield _span(searcher, workspace_id, until, None)
    left = _count(searcher, workspace_id, None, until)
    while left > 0:
        while (found := _count(searcher, workspace_id, until - length, until)) > _EVENTS and length > 1:
            length //= 2
        if found:
            yield _span(searcher, workspace_id, until - length, until)
        until, left = until - length, left - found
        length *= 1 if found > _EVENTS // 8 else 4


def _count(searcher: Searcher, workspace_id: str, since: int | None, until: int | None) -> int:
    wanted = EventFilter(recorded=True, after=since, before=until)
    return searcher.events(workspace_id, wanted, limit=1).total


def _span(searcher: Searcher, workspace_id: str, since: int, until: int | None) -> Batch:
    def read() -> Iterator[Entry]:
        wanted = EventFilter(recorded=True, after=since, before=until)
        offset: int | None = 0
        while offset is not None:
            page = searcher.events(workspace_id, wanted, limit=_EVENTS, offset=offset)
            yield from map(event_entry, page.events)
            offset = page.next_offset

    return Batch((1 << 63) if until is None else until - 1, read)
