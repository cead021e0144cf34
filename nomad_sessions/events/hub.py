"""What wakes the subscribers of a process: its own commits, the file system's word of others', and the clock.

A wake-up says nothing but "look": what happened is read from the log. So one that is lost, doubled or late changes
nothing but the moment at which an event arrives. Verified by `tests/unit/test_subscribe.py`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nomad_sessions.errors import EventsPrunedError, NomadSessionsError, StoreClosedError, StoreReadOnlyError
from nomad_sessions.events.cursors import Cursor, Position
from nomad_sessions.events.feed import Feed
from nomad_sessions.events.translation import event_of
from nomad_sessions.models import Event
from nomad_sessions.operations.reading import Looking
from nomad_sessions.workspace.log import LogReader
from nomad_sessions.workspace.rows import TABLES, rows_in, sessions_in
from nomad_sessions.workspace.state import WORKSPACE

if TYPE_CHECKING:
    from nomad_sessions.events.subscription import Subscription
    from nomad_sessions.events_api import EventCalls

__all__ = ["POLL_EVERY", "Hub"]

_LOG = logging.getLogger("nomad_sessions")
POLL_EVERY = 0.25
"""Seconds between two looks when nobody says that anything happened."""


class Hub:
    """The feeds of a manager's workspaces, and a thread that reads them on while there are subscriptions."""

    def __init__(self, manager: EventCalls) -> None:
        self._manager = manager
        self._mutex = threading.Lock()
        self._feeds: dict[str, Feed] = {}
        self._subscriptions: list[Subscription] = []
        self._of_tasks: dict[str, tuple[int, frozenset[str]]] = {}
        self._due = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Something may have happened. Cheap; from any thread."""
        self._due.set()

    def workspaces(self) -> list[str]:
        """Those that there are now."""
        return self._manager.list_workspaces()

    def reader(self, workspace_id: str, after: int) -> LogReader:
        """A reader of a workspace's log, from a seq on."""
        use, folder = self._manager._use, self._manager.workspace(workspace_id).folder
        return LogReader(self._manager._fs, folder, lambda look: use(workspace_id, lambda each: each.read(look)), after)

    def hold(self, workspace_id: str, name: str, since: int | None) -> tuple[Cursor, int]:
        """A durable cursor, and the seq after which it goes on: a new one begins at `since`, or now.

        Raises `InvalidInputError`, `LockTimeoutError`, and `EventsPrunedError` where the log is not the one that the
        cursor was made for, or no longer has what follows it.
        """
        manager = self._manager
        manager.workspace(workspace_id).make_parents()
        folder = manager.workspace(workspace_id).folder
        cursor = Cursor(manager._fs, folder, workspace_id, name, synced=manager._options.durability == "full")
        try:
            if cursor.position is None:
                reader = self.reader(workspace_id, 0)
                cursor.advance(reader.goal() if since is None else since, "")
            else:
                self._compare(workspace_id, cursor.position)
        except BaseException:
            cursor.close()
            raise
        assert cursor.position is not None
        return cursor, cursor.position.seq

    def _compare(self, workspace_id: str, position: Position) -> None:
        """Raises `EventsPrunedError` where what the cursor points at is another record than it was."""
        reader = self.reader(workspace_id, max(0, position.seq - 1))
        try:
            goal = reader.goal()
            if goal < position.seq:
                raise EventsPrunedError(path=reader.folder, since=position.seq, first=1)
            first = reader.first()
            if first > position.seq + 1 and goal > position.seq:
                raise EventsPrunedError(path=reader.folder, since=position.seq, first=first)
            entries = reader.read() if position.id and first <= position.seq else []
            if entries and event_of(workspace_id, entries[0].record).id != position.id:
                raise EventsPrunedError(path=reader.folder, since=position.seq, first=1)
        finally:
            reader.close()

    def sessions_with_tasks(self, workspace_id: str) -> frozenset[str]:
        """The ids of the sessions that are worked on as an agent's task. Cheap while nothing of the workspace's own has
        changed."""

        def look(view: Looking) -> tuple[int, frozenset[str]]:
            state = view.session(WORKSPACE)
            known = self._of_tasks.get(workspace_id)
            if state is None or (known is not None and known[0] == state.rev):
                return known or (0, frozenset())
            return state.rev, sessions_in(rows_in(state.fields, TABLES["task"]))

        self._of_tasks[workspace_id] = self._manager._read(workspace_id, look)
        return self._of_tasks[workspace_id][1]

    def is_of_task(self, event: Event) -> bool:
        """Whether the event's session is one of those."""
        return event.session_id is not None and event.session_id in self.sessions_with_tasks(event.workspace_id)

    def feed(self, workspace_id: str) -> Feed:
        """The feed of a workspace, which begins now if there was none."""
        with self._mutex:
            if workspace_id not in self._feeds:
                self._feeds[workspace_id] = Feed(workspace_id, partial(self.reader, workspace_id))
            return self._feeds[workspace_id]

    def add(self, subscription: Subscription) -> None:
        """Wakes it from now on. Before its first feed: while there is no subscription, feeds are given back."""
        with self._mutex:
            self._subscriptions.append(subscription)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nomad-sessions-events", daemon=True)
                self._thread.start()
        self.wake()

    def remove(self, subscription: Subscription) -> None:
        """Forgets it. With the last one the thread ends."""
        with self._mutex:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
        self.wake()

    def close(self) -> None:
        """Ends all subscriptions."""
        for each in self.listening():
            each.close()

    def _merged(self, feed: Feed) -> bool:
        """Makes what another program wrote a part of the log, with a commit of nothing. Where we may not write,
        somebody else will."""
        if not feed.lags():
            return False
        with contextlib.suppress(StoreReadOnlyError):
            self._manager._commit(feed.workspace_id, lambda view, stamp: ([], lambda after: None))
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
        watcher = Watcher(self._manager.data_dir, self.wake)
        try:
            while self._goes_on():
                self._due.wait(POLL_EVERY)
                self._due.clear()
                self._look(watcher)
        finally:
            watcher.close()

    def _look(self, watcher: Watcher) -> None:
        for each in self.listening():
            each.look_for_workspaces()
        with self._mutex:
            feeds = list(self._feeds.values())
        watcher.watch([feed.workspace_id for feed in feeds])
        moved = {feed.workspace_id for feed in feeds if self._read_on(feed)}
        if moved:  # Also those who came while we read: they may have looked just before.
            for each in self.listening():
                each.notify(moved)

    def _goes_on(self) -> bool:
        """Whether there is anybody to read for; if not, everything is given back."""
        with self._mutex:
            if self._subscriptions:
                return True
            self._thread = None
            feeds, self._feeds = list(self._feeds.values()), {}
        for feed in feeds:
            feed.close()
        return False

    def _read_on(self, feed: Feed) -> bool:
        moved = False
        try:
            while feed.read_on() or self._merged(feed):
                moved = True
        except EventsPrunedError:  # Subscribers find out by themselves, each where it stands.
            feed.begin_anew()
            moved = True
        except StoreClosedError:
            return False
        except (NomadSessionsError, OSError) as error:
            _LOG.warning("%s: events are late, reading goes on: %s", feed.workspace_id, error)
        return moved


class Watcher:
    """Word from the file system of what other processes do. Where there is none to be had, polling has to do."""

    def __init__(self, data_dir: str, wake: Callable[[], None]) -> None:
        self._data_dir = data_dir
        self._wake = wake
        self._observer: Any = None
        self._watched: set[str] = set()

    def watch(self, workspaces: list[str]) -> None:
        """Watches the journals of these workspaces, as far as they are there and it is possible."""
        for each in workspaces:
            if each not in self._watched:
                # The folder comes with the first write; till then, and where the system has no watch left, we poll.
                with contextlib.suppress(OSError):
                    self._schedule(f"{self._data_dir}/{each}/journal")
                    self._watched.add(each)

    def close(self) -> None:
        """Watches nothing any more."""
        observer, self._observer = self._observer, None
        self._watched.clear()
        if observer is not None:
            observer.stop()
            observer.join()

    def _schedule(self, folder: str) -> None:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        if self._observer is None:
            self._observer = Observer()
            self._observer.daemon = True
            self._observer.start()
        wake = self._wake

        class Handler(FileSystemEventHandler):
            def on_modified(self, event: FileSystemEvent) -> None:
                wake()

            def on_created(self, event: FileSystemEvent) -> None:
                wake()

        self._observer.schedule(Handler(), folder)
