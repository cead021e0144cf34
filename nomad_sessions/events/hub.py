"""What wakes the subscribers of a process: its own commits, the file system's word of others', and the clock.

A wake-up says nothing but "look": what happened is read from the log. So one that is lost, doubled or late changes
nothing but the moment at which an event arrives. Verified by `tests/unit/test_subscribe.py`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nomad_sessions.errors import (
    LockTimeoutError,
    NomadSessionsError,
    StoreClosedError,
    StoreReadOnlyError,
)
from nomad_sessions.events.cursors import Cursor
from nomad_sessions.events.feed import Feed
from nomad_sessions.events.watching import Watcher
from nomad_sessions.models import Event
from nomad_sessions.workspace.log import LogPosition, LogReader
from nomad_sessions.workspace.resting import AWAKE
from nomad_sessions.workspace.rows import TABLES, rows_in, sessions_in
from nomad_sessions.workspace.state import WORKSPACE
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

if TYPE_CHECKING:
    from nomad_sessions.events.subscription import Subscription
    from nomad_sessions.events_api import EventCalls

__all__ = ["POLL_EVERY", "Hub", "take_over"]

_LOG = logging.getLogger("nomad_sessions")
POLL_EVERY = 0.25
"""Seconds between two looks at everything, whether anybody says that something happened or not."""
_AGAIN = 2.0
"""Seconds between two attempts with a workspace that cannot be read."""
_PAUSE = 0.001
"""Seconds between two looks while events come: what comes meanwhile is read at once, and writers get on."""


class _Tasks(NamedTuple):
    """The sessions that have a task, as a view had them at a rev of the workspace's own fields."""

    rev: int
    view: weakref.ref[View]
    sessions: frozenset[str]


class Hub:
    """The feeds of a manager's workspaces, and a thread that reads them on while there are subscriptions."""

    def __init__(self, manager: EventCalls) -> None:
        self._manager = manager
        self._mutex = threading.Lock()
        self._feeds: dict[str, Feed] = {}
        self._subscriptions: list[Subscription] = []
        self._of_tasks: dict[str, _Tasks] = {}
        self._awake: dict[str, Feed] = {}
        self._opening: threading.Thread | None = None
        self._opened_at = 0.0
        self._there: list[str] = []
        self._said = ""
        self._due: set[str] = set()
        self._all_due = True
        self._called = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self, workspace_id: str) -> None:
        """Something may have happened there. Cheap; from any thread."""
        if workspace_id not in self._due:  # One that is taken out just now is read after that.
            self._due.add(workspace_id)
            self._called.set()

    def workspaces(self) -> list[str]:
        """Those that there are now."""
        return self._manager.list_workspaces()

    def reader(self, workspace_id: str, position: LogPosition) -> LogReader:
        """A reader of a workspace's log, from a position on."""
        use, folder = self._manager._use, self._manager.workspace(workspace_id).folder

        def look(ask: Callable[[View], Any]) -> Any:
            return use(workspace_id, lambda each: each.read(ask))

        return LogReader(self._manager._fs, folder, look, *position)

    def end(self, workspace_id: str) -> LogPosition:
        """Where a workspace's log is now."""
        return self.reader(workspace_id, LogPosition(0)).end()

    def hold(self, workspace_id: str, name: str, since: int | None) -> tuple[Cursor, LogPosition]:
        """A durable cursor, and where it goes on: a new one begins at `since`, or now.

        Raises `InvalidInputError`, `LockTimeoutError`, and what writing it does.
        """
        manager = self._manager
        folder = manager.workspace(workspace_id).folder
        synced = manager._options.durability == "full"
        flush = partial(manager._use, workspace_id, Workspace.flush)
        cursor = Cursor(manager._fs, folder, workspace_id, name, synced=synced, flush=flush)
        try:
            if cursor.position is None:
                begin = self.end(workspace_id) if since is None else LogPosition(since)
                cursor.advance(*begin)
        except BaseException:
            cursor.close()
            raise
        assert cursor.position is not None
        return cursor, cursor.position

    def sessions_with_tasks(self, workspace_id: str) -> frozenset[str]:
        """The ids of the sessions that are worked on as an agent's task. Cheap while nothing of the workspace's own has
        changed."""

        def look(view: View) -> _Tasks:
            state, known = view.session(WORKSPACE), self._of_tasks.get(workspace_id)
            if state is None:
                return _Tasks(0, weakref.ref(view), frozenset())
            if known is not None and known.rev == state.rev and known.view() is view:  # The rev alone may be another's.
                return known
            return _Tasks(state.rev, weakref.ref(view), sessions_in(rows_in(state.fields, TABLES["task"])))

        found: _Tasks = self._manager._use(workspace_id, lambda each: each.read(look))
        self._of_tasks[workspace_id] = found
        return found.sessions

    def is_of_task(self, event: Event) -> bool:
        """Whether the event's session is one of those."""
        return event.session_id is not None and event.session_id in self.sessions_with_tasks(event.workspace_id)

    def feed(self, workspace_id: str) -> Feed:
        """The feed of a workspace, which begins now if there was none."""
        with self._mutex:
            if workspace_id in self._feeds:
                return self._feeds[workspace_id]
        made = Feed(workspace_id, partial(self.reader, workspace_id))  # It may have to wait: nobody else does.
        with self._mutex:
            kept = self._feeds.setdefault(workspace_id, made)
        if kept is not made:
            made.close()
        return kept

    def add(self, subscription: Subscription) -> None:
        """Wakes it from now on. Before its first feed: while there is no subscription, feeds are given back."""
        with self._mutex:
            self._subscriptions.append(subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nomad-sessions-events", daemon=True)
                self._thread.start()
        self._look_at_all()

    def remove(self, subscription: Subscription) -> None:
        """Forgets it. With the last one the thread ends."""
        with self._mutex:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
        self._look_at_all()

    def _look_at_all(self) -> None:
        self._all_due = True
        self._called.set()

    def close(self) -> None:
        """Ends all subscriptions."""
        for each in self.listening():
            each.close()

    def _merged(self, feed: Feed) -> bool:
        """Makes what another program wrote a part of the log. Where we may not write, or somebody else has the lock
        now, somebody else will, or the next look does: it waits for nobody."""
        if not feed.lags():
            return False
        with contextlib.suppress(StoreReadOnlyError, LockTimeoutError):
            self._manager._use(feed.workspace_id, take_over)
        return not feed.lags()

    def after_fork(self) -> None:
        """In a forked child, where its thread is not: subscriptions have ended here, and go on in the parent."""
        self._mutex = threading.Lock()
        for each in self._subscriptions:
            each.after_fork()

    def listening(self) -> list[Subscription]:
        """The subscriptions that there are."""
        with self._mutex:
            return list(self._subscriptions)

    def _run(self) -> None:
        watcher = Watcher(self._manager._fs, self._manager.data_dir, self.wake)
        polled = 0.0
        try:
            while self._goes_on():
                self._called.wait(max(0.0, polled + POLL_EVERY - time.monotonic()))
                self._called.clear()
                due = {self._due.pop() for _ in range(len(self._due))}
                every, self._all_due = self._all_due or time.monotonic() >= polled + POLL_EVERY, False
                if every:
                    polled = time.monotonic()
                try:
                    if every:
                        watcher.begin()
                    if self._look(None if every else due):
                        time.sleep(_PAUSE)
                except Exception as error:  # Whatever it was: without this thread nobody would hear anything any more.
                    self._say(error)
        finally:
            watcher.close()

    def _say(self, error: Exception) -> None:
        """Logs what stopped a look, once while it lasts."""
        if str(error) != self._said:
            _LOG.error("events are late, and go on: %s", error, exc_info=error)
        self._said = str(error)

    def _look(self, due: set[str] | None) -> bool:
        """Reads these workspaces on, or all of them; whether anything had happened."""
        if due is None:
            self._drop_unused()
        with self._mutex:
            feeds = dict(self._feeds)
        if due is None or not due <= feeds.keys():
            self._look_for_workspaces(self.listening())
        moved = False
        for name, feed in feeds.items():
            if (due is None or name in due) and self._read_on(feed):
                moved = True
                for each in self.listening():  # Also those who came while we read: they may have looked just before.
                    each.notify({name})
        self._said = ""
        return moved

    def _look_for_workspaces(self, listening: list[Subscription]) -> None:
        """Has those who watch all begin with new ones, on a thread: what is half written makes who opens it wait."""
        if not any(each.watches_all for each in listening):
            return
        there = self.workspaces()
        missing = [each for each in listening if each.misses(there)]
        idle = self._opening is None or not self._opening.is_alive()
        known = self._there == there
        if not missing or not idle or (known and time.monotonic() < self._opened_at + _AGAIN):
            return
        self._there, self._opened_at = there, time.monotonic()
        self._opening = threading.Thread(
            target=_open, args=(missing, there), name="nomad-sessions-opening", daemon=True
        )
        self._opening.start()

    def _drop_unused(self) -> None:
        """Forgets the feeds that nobody listens to. On the thread that reads them: none is being read meanwhile."""
        # Also while it asks: one that is just beginning says what it watches, and then asks for the feed.
        with self._mutex:
            used = set[str]().union(*(each.watched() for each in self._subscriptions))
            feeds = [self._feeds.pop(name) for name in self._feeds.keys() - used]
        for feed in feeds:
            self._of_tasks.pop(feed.workspace_id, None)
            self._awake.pop(feed.workspace_id, None)
            feed.close()

    def _goes_on(self) -> bool:
        """Whether there is anybody to read for; if not, everything is given back."""
        with self._mutex:
            if self._subscriptions:
                return True
            self._thread = None
            feeds, self._feeds = list(self._feeds.values()), {}
            self._awake.clear()
        for feed in feeds:
            feed.close()
        return False

    def _keep_awake(self, feed: Feed) -> None:
        """Of those that have not moved for the longest, the files are closed, if there are too many."""
        self._awake.pop(feed.workspace_id, None)
        self._awake[feed.workspace_id] = feed
        while len(self._awake) > AWAKE.few():
            self._awake.pop(next(iter(self._awake))).close()

    def _rests(self, feed: Feed) -> bool:
        """Whether its workspace rests, with nothing in it that the feed has not: more of them than may be open at once
        would else be read afresh at each look."""
        return not feed.late and self._manager._use(feed.workspace_id, Workspace.rested_at) == feed.position.seq

    def _read_on(self, feed: Feed) -> bool:
        moved = False
        try:
            if self._rests(feed):
                return False
            while feed.read_on() or self._merged(feed):
                moved = True
            feed.late = False
            if moved:
                self._keep_awake(feed)
        except StoreClosedError:
            return False
        except (NomadSessionsError, OSError) as error:
            if not feed.late:
                _LOG.warning("%s: events are late, reading goes on: %s", feed.workspace_id, error)
            feed.late = True
        return moved


def _open(missing: list[Subscription], there: list[str]) -> None:
    for each in missing:
        each.look_for_workspaces(there)


def take_over(workspace: Workspace) -> None:
    """Makes what another program wrote into the snapshot a part of the log, as the next write would. Raises
    `LockTimeoutError` where somebody writes just now, and what writing does."""
    with workspace.locked(waiting=False), workspace.guarded():
        workspace.current_to_write()
