"""What a subscriber holds: its place in the log of each workspace that it watches, and how it is told.

Invariant: from where it began, a subscription gives every event that its filter lets through, in the order of seq
within a workspace, each once; it is never ahead of the log, and who is slow is late, not left out. What it cannot give,
it says. Verified by `tests/unit/test_subscribe.py`, `tests/unit/test_another_log.py` and
`tests/processes/test_subscribers.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from nomad_sessions.errors import EventsPrunedError, InvalidInputError, NomadSessionsError
from nomad_sessions.events.feed import Step
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.events.reading import Notice, Reading, own_copy
from nomad_sessions.models import Event
from nomad_sessions.workspace.log import LogPosition

if TYPE_CHECKING:
    from nomad_sessions.events.cursors import Cursor
    from nomad_sessions.events.hub import Hub

__all__ = ["Subscription"]

_LOG = logging.getLogger("nomad_sessions")
_PASSED = 1_000


_Given = tuple[Event, str]
"""An event, and the mark of its record."""


class Subscription:
    """Events as they come: `for event in subscription`, `async for`, or `next(timeout=)`; `close()` ends it.

    Nothing is lost by being slow: what is no longer at hand is read from the log. Only when that has been pruned
    meanwhile, or the log is another one (the workspace was deleted, or a backup put back), `EventsPrunedError` says so,
    once, and the subscription goes on with what is there. Each event is the subscriber's own. Safe for several threads,
    which share the events.
    """

    def __init__(
        self,
        hub: Hub,
        wanted: EventFilter,
        workspace_id: str | None,
        since: LogPosition | None,
        cursor: Cursor | None = None,
    ) -> None:
        self.filter = wanted
        self.watches_all = workspace_id is None
        self._hub = hub
        self._cursor = cursor
        self._readings: dict[str, Reading] = {}
        self._ready: deque[_Given | Notice] = deque()
        self._last: Event | None = None
        self._unacknowledged: dict[int, tuple[str, str]] = {}
        self._moved: dict[str, None] = {}  # In turn, so that a busy workspace does not hide the others.
        self._unreadable: dict[str, LogPosition | None] = {}
        self._taking = threading.Lock()
        self._condition = threading.Condition()
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._calling: int | None = None
        self._closed = False
        self._begun = False
        hub.add(self)
        try:
            if workspace_id is not None:
                self._begin(workspace_id, since)
            for each in hub.workspaces() if self.watches_all else ():
                self._begin_if_readable(each, since)
        except BaseException:
            hub.remove(self)
            raise
        self._begun = True

    # For the hub

    def look_for_workspaces(self, there: Collection[str]) -> None:
        """Begins to watch those that are new, all of their events then, for they were made since; and those that could
        not be read before. Those that are gone are forgotten, once that was told."""
        if not self.watches_all or not self._begun:
            return
        for each in there:
            if each not in self._readings:
                self._begin_if_readable(each, self._unreadable.get(each, LogPosition(0)))
        with self._condition:
            for name in self._readings.keys() - set(there):
                reading = self._readings[name]
                if reading.position.seq == 0 == reading.feed.position.seq and reading.log is None:
                    del self._readings[name]
                    self._moved.pop(name, None)

    def misses(self, there: Collection[str]) -> bool:
        """Whether it has to look for workspaces: some are new, or gone."""
        return self.watches_all and self._begun and self._readings.keys() != set(there)

    def watched(self) -> set[str]:
        """The workspaces of which it has the feed."""
        # Without the condition, in one call of C: who asks holds the lock that `close` takes, and a handler of a signal
        # may close while its thread has the condition.
        return set(self._readings.copy())

    def notify(self, moved: Collection[str]) -> None:
        """Something happened in these workspaces."""
        with self._condition:
            self._moved |= dict.fromkeys(each for each in moved if each in self._readings)
            self._wake()

    def _wake(self) -> None:
        self._condition.notify_all()
        sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            with contextlib.suppress(RuntimeError):  # Its loop is closed: nobody waits there any more.
                loop.call_soon_threadsafe(_wake, future)

    def _begin_if_readable(self, workspace_id: str, since: LogPosition | None) -> None:
        """One workspace that cannot be read hides no other: it is watched from when it can be."""
        try:
            self._begin(workspace_id, since)
        except (NomadSessionsError, OSError) as error:
            if workspace_id not in self._unreadable:
                _LOG.warning("%s: its events cannot be read: %s", workspace_id, error)
            self._unreadable[workspace_id] = since
        else:
            self._unreadable.pop(workspace_id, None)

    def _begin(self, workspace_id: str, since: LogPosition | None) -> None:
        feed = self._hub.feed(workspace_id)
        # Now is where the log is, and not how far the feed has read it.
        begin = self._hub.end(workspace_id) if since is None else since
        with self._condition:
            if workspace_id in self._readings:
                return
            reading = Reading(feed, begin, None if self.filter.recorded else 0)
            self._readings[workspace_id] = reading
        reading.feed = self._hub.feed(workspace_id)  # That one was nobody's till now, and may have been dropped.
        self.notify({workspace_id})

    # Taking

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event, waited for; None when `timeout` seconds have passed without one, or at the end.

        Raises `EventsPrunedError`, `InvalidInputError`, and what reading a workspace does.
        """
        if timeout is not None:
            _check_seconds(timeout)
            timeout = min(timeout, threading.TIMEOUT_MAX)
        until = None if timeout is None else time.monotonic() + timeout
        while self.wait(None if until is None else until - time.monotonic()):
            event = self.take()
            if event is not None:  # Else another thread has it.
                return event
        return None

    def wait(self, timeout: float | None) -> bool:
        """Waits until there is an event to `take`; False when there is none after so many seconds, or at the end."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self._closed:
            if self._fill():
                return True
            with self._condition:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if not self._moved and not self._closed:
                    self._condition.wait(left)
        return False

    def take(self) -> Event | None:
        """The next of those that are there already, without a look for more; None where there is none.

        Raises `EventsPrunedError` where what comes next is not what followed.
        """
        with self._taking:
            if not self._ready or self._closed:
                return None
            found = self._ready.popleft()
            if isinstance(found, Notice):
                if found.another and self._cursor is not None:
                    self._cursor.begin_anew()
                    self._unacknowledged.clear()
                    self._last = None
                raise found.error
            event, mark = found
            self._last = event
            if self._cursor is not None:
                self._unacknowledged[event.seq] = (event.id, mark)
            return event

    def at_hand(self) -> list[Event]:
        """All of those, up to where something is missing."""
        events = []
        while self._ready and not isinstance(self._ready[0], Notice) and (event := self.take()) is not None:
            events.append(event)
        return events

    def __iter__(self) -> Iterator[Event]:
        """Every event, until the subscription is closed."""
        while (event := self.next()) is not None:
            yield event

    def __aiter__(self) -> Subscription:
        """The same for asyncio: files are read on another thread, and cancelling loses nothing."""
        return self

    async def __anext__(self) -> Event:
        loop = asyncio.get_running_loop()
        while not self._closed:
            if bool(self._ready) or await loop.run_in_executor(None, self._fill):
                event = self.take()
                if event is not None:
                    return event
                continue
            sleeper = loop, loop.create_future()
            with self._condition:
                if self._moved or self._closed:
                    continue
                self._sleepers.append(sleeper)
            try:
                await sleeper[1]
            finally:
                with self._condition, contextlib.suppress(ValueError):
                    self._sleepers.remove(sleeper)
        raise StopAsyncIteration

    def _fill(self) -> bool:
        """Makes the next few events ready; False when there are none."""
        with self._taking:
            while not self._ready and not self._closed:
                with self._condition:
                    if not self._moved:
                        return False
                    workspace_id = next(iter(self._moved))
                    del self._moved[workspace_id]
                more = True
                try:
                    more = self._read_on(workspace_id)
                finally:
                    if more:
                        with self._condition:
                            self._moved[workspace_id] = None
            return not self._closed

    def _read_on(self, workspace_id: str) -> bool:
        """Makes the next few events of a workspace ready; whether there may be more."""
        reading = self._readings.get(workspace_id)
        if reading is None:  # It was deleted, and that was told.
            return False
        try:
            step = self._step(reading)
        except EventsPrunedError as error:
            self._ready.append(Notice(error, reading.go_on(error)))
            return True
        is_of_task = self._hub.is_of_task
        try:
            given = zip(step.events, step.marks, strict=True)
            wanted = [(own_copy(event), mark) for event, mark in given if self.filter.matches(event, is_of_task)]
        except BaseException:  # None of them was given: they come again.
            reading.log = None
            raise
        reading.position = step.position
        self._ready += wanted
        self._pass_over(_PASSED)
        return bool(step.events) or reading.log is not None

    def _pass_over(self, least: int) -> None:
        """Moves the cursor over events that the filter turned away, where they are many and nothing else is due: so
        that the retention does not overtake who has read everything."""
        cursor = self._cursor
        if cursor is None or cursor.position is None or self._ready or self._unacknowledged:
            return
        position = self._readings[cursor.workspace_id].position
        if position.seq - cursor.position.seq >= least:
            try:
                cursor.advance(*position)
            except (NomadSessionsError, OSError) as error:  # It is only late then.
                _LOG.warning("%s: the cursor %s stays where it was: %s", cursor.workspace_id, cursor.name, error)

    def _step(self, reading: Reading) -> Step:
        return reading.step()

    # The end, and what stays

    def ack(self, event: Event | None = None) -> None:
        """Says that this event, and all before it, have been dealt with; by default the last that was given.

        The cursor is durable on return, as the manager's durability says; it never goes back. Raises
        `InvalidInputError` without a cursor, and for an event that was not given yet; `SubscriptionClosedError` after
        the end, in a forked child, and where the workspace or the cursor was deleted; and what writing does.
        """
        if self._cursor is None:
            raise InvalidInputError(field="cursor", value=None, reason="this subscription has none")
        if event is not None and not isinstance(event, Event):
            raise InvalidInputError(field="event", value=event, reason="must be an Event, or None for the last")
        event = self._last if event is None else event
        cursor = self._cursor
        if event is None or event.workspace_id != cursor.workspace_id:
            raise _not_given(event)
        name, mark = self._unacknowledged.get(event.seq, (None, ""))
        if name != event.id:
            if cursor.position is not None and event.seq <= cursor.position.seq:
                return  # It was, before.
            raise _not_given(event)
        cursor.advance(event.seq, mark)
        for seq in [each for each in tuple(self._unacknowledged) if each <= event.seq]:
            self._unacknowledged.pop(seq, None)

    def close(self) -> None:
        """Ends it, also for who waits for the next event. May be called twice, and from a callback."""
        with self._condition:
            self._closed = True
            self._wake()
        self._hub.remove(self)
        if self._cursor is not None and self._calling != threading.get_ident():
            if self._cursor.held:
                self._pass_over(1)
            self._cursor.close()

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Around a callback: one that ends its own subscription has the cursor until its event is acknowledged."""
        self._calling = threading.get_ident()
        try:
            yield
        finally:
            self._calling = None
            if self._closed and self._cursor is not None:
                self._cursor.close()

    def behind(self) -> list[tuple[str, str | None, int]]:
        """For each workspace: its id, the cursor's name, and how many events lie ahead, as far as was read."""
        cursor = self._cursor.name if self._cursor is not None else None
        with self._condition:
            readings = list(self._readings.items())
        first: dict[str, int] = {}
        for found in tuple(self._ready):
            if not isinstance(found, Notice):
                first.setdefault(found[0].workspace_id, found[0].seq)
        counts = []
        for name, reading in readings:
            done = first[name] - 1 if name in first else reading.position.seq
            counts.append((name, cursor, max(0, reading.feed.position.seq - done)))
        return counts

    def after_fork(self) -> None:
        """In a forked child: it has ended here. The cursor's lock is the parent's."""
        self._condition = threading.Condition()
        self._taking = threading.Lock()
        self._closed = True
        if self._cursor is not None:
            self._cursor.after_fork()

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


def _check_seconds(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InvalidInputError(field="timeout", value=value, reason="must be seconds, or None")


def _not_given(event: Event | None) -> InvalidInputError:
    told = None if event is None else event.seq
    return InvalidInputError(field="event", value=told, reason="was not given by this subscription")


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
