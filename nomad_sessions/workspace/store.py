"""An open workspace: reads without a lock, commits one synced append at a time, folds when it is worth it.

Invariant: a commit is one group of journal lines, decided under the workspace's lock against a view that has every
record before it; it is acknowledged after a sync that began when the lines were written. Verified by `tests/crash/`,
`tests/processes/` and `tests/faults/`.

The way of one commit: `commit` hands a ticket to the combiner; the thread whose turn it is takes the lock,
`current_to_write` reads what others appended, the operation looks at the view and returns its changes, `append` writes
them as lines and applies them, `GroupSync.wait` syncs once for every ticket of the batch, and the lock is given back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from nomad_sessions.clock import Clock
from nomad_sessions.errors import CorruptionError, DurabilityLostError, StorageError, StoreClosedError
from nomad_sessions.ids import IdSource
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.group_sync import Position
from nomad_sessions.storage.journal import TablesDamaged
from nomad_sessions.storage.snapshot import SnapshotChanged
from nomad_sessions.workspace.adopt import merge_foreign
from nomad_sessions.workspace.combining import Combiner, Ticket
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.folding import Bulk, Folding
from nomad_sessions.workspace.holder import Holder
from nomad_sessions.workspace.lines import Group, Operation, Stamp
from nomad_sessions.workspace.options import UNTOLD, Options
from nomad_sessions.workspace.reader import RELOADS
from nomad_sessions.workspace.rested import Rested
from nomad_sessions.workspace.sealing import seal_of
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.view import View

__all__ = ["SEGMENT_BYTES", "Operation", "Stamp", "Workspace"]

T = TypeVar("T")
_LOG = logging.getLogger("nomad_sessions")
SEGMENT_BYTES = 256 * 1024
_OPEN: weakref.WeakSet[Workspace] = weakref.WeakSet()


class Workspace(Holder):
    """One workspace folder. Safe for any number of threads; any number of processes may have it open."""

    def __init__(self, fs: FileSystem, folder: str, clock: Clock, options: Options) -> None:
        self.options = options
        super().__init__(fs, folder, clock, options.lock_timeout)
        self._folding = Folding(self)
        self._wrote = False
        _OPEN.add(self)

    def after_fork(self) -> None:
        """What a forked child does first: threads that it has not may hold mutexes, descriptors are shared."""
        self._forget()
        self._folding.after_fork()

    def _forget(self) -> None:
        super()._forget()
        self._commits = Combiner(self._commit_all)
        self._ids = IdSource(self._clock)
        self._timer: threading.Timer | None = None
        self._unsynced = False  # It has appended since it was opened, or woke.
        self._owes = False  # At rest: not all that it has read is known to be durable.

    def commit(self, operation: Operation[T], *, lazy: bool = False) -> T:
        """Runs `operation` under the lock, appends its changes as one atomic group, and returns its result.

        At durability `full` everything is on the disk when this returns, unless `lazy`: then it is soon. Raises what
        the operation raises (nothing is written then), `LockTimeoutError`, `DiskFullError`, `StoreReadOnlyError`,
        `DurabilityLostError`.
        """
        if (view := self._view) is None or view.journal.live is None:  # It may go to rest at any moment.
            tried = self.tried(operation, Stamp(IdSource(self._clock), self._clock.now()))
            if tried is not None and not tried[0]:
                return self.read(tried[1])
        ticket = Ticket(operation, lazy)
        self._commits.run(ticket)
        value: T = ticket.value
        if ticket.written and self._folding.due:
            # Closed by another thread meanwhile: the commit stands, and its caller must not be told to repeat it.
            with contextlib.suppress(StoreClosedError):
                self._folding.after_commit()
        return value

    def _commit_all(self, batch: list[Ticket]) -> None:
        """Commits for every thread that waits: one lock, one look at the files, one append each, one sync for all."""
        try:
            with self._writing:
                self._begin(unchecked=True)  # The path of the lock is looked at just before the append.
                try:
                    goal = self._append_all(batch)
                    if goal is not None:
                        # Under the lock: syncs of a file by several processes at once get into each other's way.
                        self._settle(goal, all(ticket.lazy for ticket in batch))
                except DurabilityLostError as error:
                    self._sync.fail(error)
                    raise
                finally:
                    self._lock.release()
        except Exception as error:  # Everybody's who waited for it: raised in each thread.
            for ticket in batch:
                ticket.settle(error)
        else:
            for ticket in batch:
                ticket.settle()

    def _append_all(self, batch: list[Ticket]) -> Position | None:
        """Decides and appends each ticket's changes; the position to be synced to."""
        # Once a ticket has been appended, the files need no second look: under the lock nobody else appends.
        latest: View | None = None
        with self._mutex:
            for ticket in batch:
                try:
                    view = None
                    if ticket.result is None:  # Else by a thread that was interrupted before the sync.
                        latest = self._append_one(ticket, latest)
                        view = self._view
                    if not ticket.answered:  # Asked of the state after it, and not once more of a later one.
                        ticket.value = self._answer(ticket.result, view or self.current(held=True))
                        ticket.answered = True
                    if latest is not self._view:
                        latest = None  # Read afresh meanwhile: what comes next is decided and synced with that view.
                except DurabilityLostError:
                    raise
                except Exception as error:  # The caller's, whose thread may be another: raised there.
                    ticket.settle(error)
                    latest = None
            view = self._view
            if view is None or view.journal.live is None:
                return None
            self._folding.look_at(view)
            return self._sync.wrote(view.journal.live, view.journal.end)

    def _append_one(self, ticket: Ticket, latest: View | None) -> View | None:
        """Decides and appends one ticket's changes, at the state `latest` or, with None, at a new look; the state after
        it, None where a new look is due."""
        view, stamp, (changes, result) = self._decide(ticket.operation, latest)
        while changes and latest is None and not self.still_locked():
            view, stamp, (changes, result) = self._decide(ticket.operation, None)
        if not changes:
            ticket.result = result
            return latest
        before = view.journal.appended
        try:
            self.append(view, changes, stamp)
        finally:  # Also where it is interrupted after it was written: who comes next must not write it once more.
            if view.journal.appended > before:
                ticket.written, ticket.result = True, result
        return None if self._applying else view

    def _decide(
        self, operation: Operation[T], latest: View | None
    ) -> tuple[View, Stamp, tuple[list[Body], Callable[[Any], T]]]:
        """Asks the operation, at the newest state. A snapshot that does not match its index is looked at afresh."""
        for _ in range(RELOADS):
            try:
                view = self.current_to_write() if latest is None else latest
                latest = None
                stamp = self.stamp(view)
                return view, stamp, operation(view, stamp)
            except SnapshotChanged:
                self.reload(distrust=True)
            except TablesDamaged:
                self.distrust_tables()
        with self._readable():
            view = self.current_to_write()
            stamp = self.stamp(view)
            return view, stamp, operation(view, stamp)

    def _answer(self, result: Callable[[Any], T], view: View) -> T:
        """Asks for the result of a commit. It is written: that somebody rewrites the snapshot is no failure of it."""
        try:
            return result(view)
        except SnapshotChanged:
            self.reload(distrust=True)
            return result(self.current())

    def stamp(self, view: View) -> Stamp:
        """Time and ids for the next commit."""
        self._ids.follow(view.last_id)
        return Stamp(self._ids, self._clock.now())

    def append(self, view: View, changes: list[Body], stamp: Stamp) -> None:
        """Writes changes as one group and applies them to the view. Under the lock; not durable yet."""
        journal = view.journal
        if journal.torn or not journal.end or journal.unfinished:
            with translated(self.folder):
                journal.prepare()
        most = UNTOLD.get(self.options.durability, journal.end)
        if journal.found - journal.durable > (most if self._unsynced or self.options.durability == "os" else 0):
            # Who wrote it, another process, told nobody of its sync: damage would pass for a torn tail.
            assert journal.live is not None
            self.sync_to(self._sync.wrote(journal.live, journal.end))
        group = Group(view, changes, stamp)
        self._applying = True
        try:
            with translated(journal.folder):
                offset = journal.append(group)
        except StorageError:
            self._applying = False
            raise
        self.counters.appended(len(changes), journal.end - offset)
        journal.last_seq = view.seq + len(changes)
        group.apply(offset)
        self._applying = False
        self._wrote = self._unsynced = True
        if journal.end >= max(SEGMENT_BYTES, self._folding.segment_bytes):
            try:
                self.rotate(view)
            except SnapshotChanged:  # Somebody rewrites the snapshot: sealing reads it, and can wait.
                self._applying = True

    def rotate(self, view: View) -> None:
        """Seals the live segment. What is in it is durable on return. Under the lock."""
        journal = view.journal
        assert journal.live is not None
        self._sync.wait(self._sync.wrote(journal.live, journal.end))
        self._applying = True  # Whatever stops it, the files are read afresh: they may end in a seal.
        try:
            with translated(journal.folder):
                sealing = seal_of(view)
                if not self._lock.verify():  # Somebody else may be at the end of the journal by now.
                    return
                part = journal.rotate(sealing.tables, sealing.covers, sealing.note)
        except DurabilityLostError:
            raise
        except TablesDamaged:
            self._trust_tables = False
            return
        except (OSError, CorruptionError, SnapshotChanged) as error:
            # The records are synced and safe where they are; sealing can wait until there is room, or a repair.
            _LOG.warning("%s: could not seal the journal segment: %s", self.folder, error)
            return
        view.sealed_now(sealing.kept, part)
        self._applying = False
        self._sync.note(self._sync.wrote(journal.live, journal.end))

    def current_to_write(self) -> View:
        """The view, brought up to date, and a foreign file merged for good. Under the lock."""
        view = self.current(held=True)
        opened = self._opened
        return self._merge() if opened is not None and opened.foreign is not None else view

    def _merge(self) -> View:
        """Makes the merge with a foreign file permanent: records first, then (soon) a checkpoint. Under the lock."""
        while True:
            fresh = self._still(self.load(wait=False, distrust=self.distrusts))
            if fresh.foreign is None:
                self._opened, self._view, self._borrowed = fresh, fresh.view, False
                return fresh.view
            with translated(self.folder):
                changes = merge_foreign(self.fs, self.folder, fresh.view, fresh.foreign)
            if self.still_locked():
                break
        if changes:
            self.absorb_into(fresh.view, changes)
        self._opened, self._view, self._borrowed = fresh._replace(foreign=None), fresh.view, False
        self._folding.wanted = True
        return fresh.view

    def absorb_into(self, view: View, changes: list[Body]) -> None:
        """Appends the changes of a merge and syncs them."""
        self._view = view
        self.append(view, changes, self.stamp(view))
        assert view.journal.live is not None
        self._sync.wait(self._sync.wrote(view.journal.live, view.journal.end))

    def _settle(self, goal: Position, lazy: bool) -> None:
        """Makes a commit as durable as asked for."""
        if self.options.durability == "full" and not lazy:
            self.sync_to(goal)
        elif self.options.durability != "os" and self._timer is None:
            self._timer = threading.Timer(self.options.batch_interval, self._sync_batch)
            self._timer.daemon = True
            self._timer.start()

    def sync_to(self, goal: Position) -> None:
        """Returns when everything before `goal` is durable."""
        self._sync.wait(goal)
        view = self._view
        if view is not None and view.journal.live_first == goal.segment:
            view.journal.durable = max(view.journal.durable, goal.offset)

    def _sync_batch(self) -> None:
        self._timer = None
        try:
            self.flush()
        except StorageError as error:
            _LOG.error("%s: %s", self.folder, error)  # Kept in the sync, and raised by the next write.

    def flush(self) -> None:
        """Makes everything durable that this handle has written or read so far, whatever the durability."""
        while True:
            with self._mutex:
                view = self.look().view if self._owes else self._view
                self._owes = False
                if view is None or view.journal.live is None:
                    return
                goal = self._sync.wrote(view.journal.live, view.journal.end)
            try:
                self.sync_to(goal)
            except StoreClosedError:  # Or it went to rest since, and owes this.
                if self._closed:
                    raise
            else:
                return

    # Folding and the end

    def checkpoint(self) -> bool:
        """Folds the journal into `sessions.json`; False when there was nothing to fold. Durable on return."""
        return self._folding.checkpoint()

    def bulk(self) -> contextlib.AbstractContextManager[Bulk]:
        """While it lasts, commits fold less often: for many large ones, after which the policy is what it was."""
        return self._folding.bulk()

    def rest(self) -> bool:
        """As `Reader.rest` says. What holds on: a sync that failed; a bulk. Files that a checkpoint displaced a moment
        ago are watched also while it rests."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            if not self._mutex.acquire(blocking=False):
                return False
            try:
                if not self._closed:
                    if self._sync.error or self._applying or self._folding.holds_on():
                        return False
                    self._give_back()
                return True
            except (StorageError, OSError) as error:  # That of a sync is kept, and raised by the next write.
                _LOG.error("%s: stays open: %s", self.folder, error)
                return False
            finally:
                self._mutex.release()
        finally:
            self._writing.release()

    def _give_back(self) -> None:
        """Gives the files back, once what was written to them is synced: sooner than it is due, so that a sync that
        fails is seen."""
        if self._unsynced:
            self.flush()
            self._unsynced = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._opened is not None:
            journal = self._opened.view.journal
            # What others wrote, and was read here: `flush` makes that durable, too.
            self._owes = journal.live is not None and self._sync.synced < Position(journal.live_first, journal.end)
            self._rested = Rested.of(self.fs, self._opened)
        self._view = self._opened = None
        self.bodies.clear()
        self._sync.forget()
        self._lock.close()

    def close(self, *, checkpoint: bool = False, fold: bool = True) -> None:
        """Syncs what is not synced, folds a small workspace that was written to (unless `fold` is False), gives every
        descriptor back."""
        if self._closed:
            return
        try:
            if self._sync.error is None and self._wrote:
                if self._view is not None:  # What was written before it went to rest is synced.
                    self.flush()
                if fold:
                    self._folding.at_close(demanded=checkpoint)
            elif checkpoint:
                self._folding.checkpoint()
        finally:
            with self._writing, self._mutex:
                self._closed = True
                self._view = self._opened = None
                self._sync.forget()
                self._folding.displaced.close()
                self._lock.close()


def _after_fork_in_child() -> None:
    for workspace in list(_OPEN):
        workspace.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
