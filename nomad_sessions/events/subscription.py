"""What a subscriber holds: its place in the log of each workspace that it watches, and how it is told.

Invariant: from where it began, a subscription gives every event that its filter lets through, in the order of seq
within a workspace, each once; it is never ahead of the log, and who is slow is late, not left out. Verified by
`tests/unit/test_subscribe.py` and `tests/processes/test_subscribers.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from nomad_sessions.errors import EventsPrunedError, InvalidInputError, NomadSessionsError
from nomad_sessions.events.feed import Feed
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.models import Event

if TYPE_CHECKING:
    from nomad_sessions.events.cursors import Cursor
    from nomad_sessions.events.hub import Hub

__all__ = ["Subscription"]

_LOG = logging.getLogger("nomad_sessions")


class Subscription:
    """Events as they come: `for event in subscription`, `async for`, or `next(timeout=)`; `close()` ends it.

    One consumer at a time. Nothing is lost by being slow: what is no longer at hand is read from the log; only when
    that has been pruned meanwhile, `EventsPrunedError` says so, once, and the subscription goes on with what is there.
    """

    def __init__(
        self,
        hub: Hub,
        wanted: EventFilter,
        workspace_id: str | None,
        since: int | None,
        cursor: Cursor | None = None,
    ) -> None:
        self.filter = wanted
        self._hub = hub
        self._all = workspace_id is None
        self._cursor = cursor
        self._feeds: dict[str, Feed] = {}
        self._at: dict[str, int] = {}
        self._logs: dict[str, Iterator[list[Event]]] = {}
        self._ready: deque[Event] = deque()
        self._given: dict[str, Event] = {}
        self._moved: set[str] = set()
        self._unreadable: set[str] = set()
        self._condition = threading.Condition()
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._closed = False
        self._begun = False
        hub.add(self)
        try:
            if workspace_id is not None:
                self._begin(workspace_id, since)
            for each in hub.workspaces() if self._all else ():
                self._begin_if_readable(each, since)
        except BaseException:
            hub.remove(self)
            raise
        self._begun = True

    # For the hub

    def look_for_workspaces(self) -> None:
        """Begins to watch those that are new; all of their events then, for they were made since."""
        if not self._all or not self._begun:
            return
        for each in self._hub.workspaces():
            if each not in self._feeds:
                self._begin_if_readable(each, 0)

    def notify(self, moved: set[str]) -> None:
        """Something happened in these workspaces."""
        with self._condition:
            self._moved |= moved & self._feeds.keys()
            self._condition.notify_all()
            sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            with contextlib.suppress(RuntimeError):  # Its loop is closed: nobody waits there any more.
                loop.call_soon_threadsafe(_wake, future)

    def _begin_if_readable(self, workspace_id: str, since: int | None) -> None:
        """One workspace that cannot be read hides no other: it is watched from when it can be."""
        try:
            self._begin(workspace_id, since)
        except (NomadSessionsError, OSError) as error:
            if workspace_id not in self._unreadable:
                _LOG.warning("%s: its events cannot be read: %s", workspace_id, error)
            self._unreadable.add(workspace_id)

    def _begin(self, workspace_id: str, since: int | None) -> None:
        feed = self._hub.feed(workspace_id)
        with self._condition:
            self._feeds[workspace_id] = feed
            self._at[workspace_id] = feed.seq if since is None else since
        self.notify({workspace_id})

    # Taking

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event, waited for; None when `timeout` seconds have passed without one, or at the end.

        Raises `EventsPrunedError`, and what reading a workspace does.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._closed:
            if self._ready or self._fill():
                return self._give()
            with self._condition:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return None
                if not self._moved and not self._closed:
                    self._condition.wait(left)
        return None

    def __iter__(self) -> Iterator[Event]:
        """Every event, until the subscription is closed."""
        while (event := self.next()) is not None:
            yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The same for asyncio: files are read on another thread, and cancelling loses nothing."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            there = bool(self._ready) or await loop.run_in_executor(None, self._fill)
            if there:
                yield self._give()
                continue
            future = loop.create_future()
            with self._condition:
                if self._moved or self._closed:
                    continue
                self._sleepers.append((loop, future))
            await future

    def at_hand(self) -> list[Event]:
        """Those that are there already, without a look for more."""
        return [self._give() for _ in range(len(self._ready))]

    def _give(self) -> Event:
        event = self._ready.popleft()
        self._given[event.workspace_id] = event
        return event

    def _fill(self) -> bool:
        """Makes the next few events ready; False when there are none."""
        while not self._ready:
            with self._condition:
                if not self._moved or self._closed:
                    return False
                workspace_id = self._moved.pop()
            more = True
            try:
                at = self._at[workspace_id]
                events = self._events_of(workspace_id)
                try:
                    self._ready += [event for event in events if self.filter.matches(event, self._hub.is_of_task)]
                except BaseException:  # None of them was given: they come again.
                    self._at[workspace_id] = at
                    self._logs.pop(workspace_id, None)
                    raise
                more = bool(events) or workspace_id in self._logs
            finally:
                if more:
                    with self._condition:
                        self._moved.add(workspace_id)
        return True

    def _events_of(self, workspace_id: str) -> list[Event]:
        """The next events of a workspace, as they come: from what is at hand, else from the log."""
        feed, at = self._feeds[workspace_id], self._at[workspace_id]
        events = feed.after(at) if workspace_id not in self._logs else None
        if events is None:
            log = self._logs.get(workspace_id)
            if log is None:
                log = self._logs[workspace_id] = feed.from_log(at)
            try:
                events = next(log, [])
            except EventsPrunedError as error:
                self._at[workspace_id] = error.first - 1
                del self._logs[workspace_id]
                raise
            except BaseException:  # The next attempt begins with a reader of its own.
                del self._logs[workspace_id]
                raise
            if not events:  # It has caught up with the log: what comes now is in the feed.
                del self._logs[workspace_id]
                events = feed.after(at) or []
        if events:
            self._at[workspace_id] = events[-1].seq
        return events

    # The end, and what stays

    def ack(self, event: Event | None = None) -> None:
        """Says that this event, and all before it, have been dealt with; by default the last that was given.

        The cursor is durable on return, as the manager's durability says; it never goes back. Raises
        `InvalidInputError` without a cursor, and for an event that was not given yet.
        """
        if self._cursor is None:
            raise InvalidInputError(field="cursor", value=None, reason="this subscription has none")
        given = self._given.get(self._cursor.workspace_id)
        event = given if event is None else event
        if given is None or event is None or event.seq > given.seq:
            told = None if event is None else event.seq
            raise InvalidInputError(field="event", value=told, reason="was not given by this subscription")
        self._cursor.advance(event.seq, event.id)

    def close(self) -> None:
        """Ends it, also for who waits for the next event. May be called twice, and from a callback."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_wake, future)
        self._hub.remove(self)
        if self._cursor is not None:
            self._cursor.close()

    def behind(self) -> list[tuple[str, str | None, int]]:
        """For each workspace: its id, the cursor's name, and how many events lie ahead, as far as was read."""
        cursor = self._cursor.name if self._cursor is not None else None
        with self._condition:
            places = [(feed, self._at[name]) for name, feed in self._feeds.items()]
        ready = len(self._ready)
        return [(feed.workspace_id, cursor, max(0, feed.seq - at) + ready) for feed, at in places]

    def after_fork(self) -> None:
        """In a forked child: it has ended here. The cursor's lock is the parent's."""
        self._condition = threading.Condition()
        self._closed = True

    @property
    def has_cursor(self) -> bool:
        """Whether `ack` moves anything."""
        return self._cursor is not None

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._closed

    def __enter__(self) -> Subscription:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends it."""
        self.close()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
