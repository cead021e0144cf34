"""The reading half of an open workspace: a view that is brought up to date by looking at the files, without a lock.

Invariant: no look changes a file, and none goes back in time: a view is replaced only by one of the same or a later
moment. What turns out not to match its index is looked at afresh before it is called damaged. Verified by
`tests/processes/`, `tests/unit/test_recovery.py` and `tests/faults/`.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeVar

from nomad_sessions.clock import Clock
from nomad_sessions.errors import DataDirError, SnapshotUnreadableError, StoreClosedError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.counters import Counters
from nomad_sessions.storage.group_sync import GroupSync
from nomad_sessions.storage.journal import TablesDamaged
from nomad_sessions.storage.snapshot import SnapshotChanged
from nomad_sessions.workspace import recovery
from nomad_sessions.workspace.adopt import absorb_foreign
from nomad_sessions.workspace.cache import BodyCache
from nomad_sessions.workspace.lines import Operation, Stamp
from nomad_sessions.workspace.recovery import SNAPSHOT, Opened, identity
from nomad_sessions.workspace.rested import Rested
from nomad_sessions.workspace.resting import AWAKE
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.view import View

__all__ = ["RELOADS", "Reader"]

T = TypeVar("T")
RELOADS = 4


class Reader(ABC):
    """The files of a workspace as this handle last saw them. Safe for any number of threads.

    `distrusts` says that the snapshot was found not to match its index.
    """

    def __init__(self, fs: FileSystem, folder: str, clock: Clock) -> None:
        self.fs = fs
        self._clock = clock
        self.folder = folder
        self._snapshot_path = f"{folder}/{SNAPSHOT}"
        self._closed = False
        self._trust_tables = True
        self.counters = Counters()
        self._forget()

    def _forget(self) -> None:
        """Forgets all that was read."""
        self._mutex = threading.RLock()
        self._sync = GroupSync(self.fs, self.counters)
        self.bodies = BodyCache(self.counters)
        self._view: View | None = None
        self._opened: Opened | None = None
        self._borrowed = False
        self.distrusts = False
        self._applying = False
        self.used = False  # Asked for lately: see `resting.py`.
        self._rested: Rested | None = None

    def read(self, look: Callable[[View], T]) -> T:
        """`look(view)` at the newest state. Takes no lock of the file system, changes no file."""
        with self._mutex:
            for _ in range(RELOADS):
                try:
                    return look(self.current())
                except SnapshotChanged:
                    self.reload(distrust=True)
                except TablesDamaged:
                    self.distrust_tables()
                except FileNotFoundError:
                    # A segment that another process has folded and pruned since we looked.
                    self.reload()
            with self._readable():
                return look(self.current())

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """The last attempt: what still does not match its index is damaged, and nothing can stand in for it."""
        try:
            yield
        except SnapshotChanged as error:
            raise SnapshotUnreadableError(path=f"{self.folder}/{SNAPSHOT}", reason=str(error)) from error

    def look(self) -> Opened:
        """Reads the files, if they have not been read: what waits for another program waits here, without the lock.
        What the last look at them found."""
        with self._mutex:
            if self._view is None:
                self.read(lambda _: None)
            assert self._opened is not None
            return self._opened

    def tried(self, operation: Operation[T], stamp: Stamp) -> tuple[list[Body], Callable[[View], T]] | None:
        """What an operation comes to in a workspace whose folder is not there; None where it is. So what is refused, or
        changes nothing, makes no folder: not even for the lock."""
        if self.look().view.journal.live is not None or self.fs.stat(self.folder) is not None:
            return None
        return self.read(lambda view: operation(view, stamp))

    def current(self, *, held: bool = False) -> View:
        """The view, brought up to date; `held` says that this handle holds the lock."""
        if self._closed:
            raise StoreClosedError(path=self.folder)
        self.used = True
        known = self._opened if self._view is not None and not self._applying else None
        if known is None or identity(self.fs.stat(self._snapshot_path)) != known.seen:
            self.reload()
        else:
            self._catch_up(held)
        assert self._view is not None
        return self._view

    def _catch_up(self, held: bool) -> None:
        assert self._view is not None
        journal = self._view.journal
        entries = journal.refresh(held=held)
        if entries is None or (entries and self._borrowed):
            self.reload(distrust=self.distrusts)
        elif entries:
            for entry in entries:
                self._view.absorb(entry, journal.live_first)
            self._note_written(self._view)

    def reload(self, *, distrust: bool = False) -> None:
        """Reads the files afresh. `distrust`: the snapshot does not match its index."""
        first = self._view is None
        base = self._view.base if self._view is not None else None
        if distrust and base is not None and identity(base.stat) != identity(self.fs.stat(f"{self.folder}/{SNAPSHOT}")):
            distrust = False  # It is not the file that did not match.
        self._applying = False
        rested = self._rested
        if first:
            AWAKE.came(self)
        try:
            # Who had not waited any more before it rested does not wait again each time it wakes.
            opened = self.load(wait=first and not (rested is not None and rested.unreadable), distrust=distrust)
        except NotADirectoryError as error:
            raise DataDirError(path=error.filename or self.folder) from error
        opened = self._still(opened)
        if rested is not None:
            rested.vouch(self.fs, opened.view.journal)
        self._opened, self._view, self._rested = opened, opened.view, None
        self.bodies.clear()
        opened.view.bodies = self.bodies
        self._borrowed = False
        self.distrusts = distrust
        self._note_written(opened.view)
        if opened.foreign is not None:
            self._borrowed = absorb_foreign(self.fs, self.folder, opened.view, opened.foreign)

    def now(self) -> int:
        """The time in ms."""
        return self._clock.now()

    @abstractmethod
    def rest(self) -> bool:
        """Gives the files back until the next call, which reads them again, and says whether it has none open now.

        What was written is synced. Does nothing where it is at work, or holds on to something.
        """

    def rested_at(self) -> int | None:
        """The seq that the log is at, where this rests and the files are as they were then; else None. Wakes nobody."""
        with self._mutex:
            rested = self._rested
            return rested.seq if rested is not None and rested.is_as_it_was(self.fs, self._snapshot_path) else None

    def load(self, *, wait: bool, distrust: bool) -> Opened:
        """A view of its own, of the files as they are; see `recovery.load`."""
        now = self.now()
        if self._trust_tables:
            try:
                return recovery.load(self.fs, self.folder, wait=wait, now=now, distrust=distrust)
            except TablesDamaged:
                self._trust_tables = False
        return recovery.load(self.fs, self.folder, wait=wait, now=now, distrust=distrust, trust_tables=False)

    def distrust_tables(self) -> None:
        """The tables of a sealed segment are damaged: from now on this handle reads the records instead."""
        self._trust_tables = False
        self.reload()

    def _still(self, opened: Opened) -> Opened:
        """While another program writes its file again, what it had written before is what there is: no way back."""
        last = self._opened or self._rested
        before = last.foreign if last is not None else None
        if opened.unreadable is not None and before is not None:
            return opened._replace(foreign=before)
        return opened

    def _note_written(self, view: View) -> None:
        journal = view.journal
        if journal.live is not None:
            self._sync.start(journal.live, journal.end, journal.durable)
            if self._sync.synced.segment == journal.live_first:  # The next record tells of it.
                journal.durable = max(journal.durable, self._sync.synced.offset)

    @property
    def opened(self) -> Opened | None:
        """What the last look at the files found."""
        return self._opened

    def guarded(self) -> contextlib.AbstractContextManager[object]:
        """The mutex around the view (reentrant). Readers wait for it: hold it only while looking or applying."""
        return self._mutex
