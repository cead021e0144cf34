"""The lock of an open workspace: held for a commit, a checkpoint, a repair, against threads and processes.

Invariant: what is decided while `still_locked` says so is decided by one writer alone, with every record before it.
Verified by `tests/unit/test_lock_failures.py` and `tests/processes/`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from nomad_sessions.clock import Clock
from nomad_sessions.errors import DurabilityLostError, LockTimeoutError, StoreClosedError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.files import make_folder
from nomad_sessions.storage.lock import StoreLock
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.reader import Reader

__all__ = ["Holder"]


class Holder(Reader):
    """A reader that can hold the workspace's lock. Threads of one process wait for `_writing` first."""

    def __init__(self, fs: FileSystem, folder: str, clock: Clock, lock_timeout: float) -> None:
        super().__init__(fs, folder, clock)
        self._lock = StoreLock(fs, f"{folder}/lock", lock_timeout)
        self._lock.counters = self.counters

    def _forget(self) -> None:
        super()._forget()
        self._writing = threading.Lock()

    def still_locked(self) -> bool:
        """Whether the lock that was taken still guards. Where somebody deleted its file it is taken anew: another
        process may have held that and have written, so look again, and decide after it."""
        if self._lock.verify():
            return True
        self._lock.release()
        self._take_lock()
        return False

    @contextlib.contextmanager
    def locked(self, *, waiting: bool = True) -> Iterator[None]:
        """Holds the workspace's lock, against threads and processes; makes the folder first. Readers go on.

        Raises when a sync failed before; without `waiting`, where anybody has it. Take it before `guarded`, not after.
        """
        if not self._writing.acquire(blocking=waiting):
            raise LockTimeoutError(path=self._lock.path, waited=0)
        try:
            self._begin(timeout=None if waiting else 0)
            try:
                yield
            except DurabilityLostError as error:
                self._sync.fail(error)
                raise
            finally:
                self._lock.release()
        finally:
            self._writing.release()

    def _begin(self, *, unchecked: bool = False, timeout: float | None = None) -> None:
        if self._closed:
            raise StoreClosedError(path=self.folder)
        if self._sync.error is not None:
            raise self._sync.error
        if self._view is None or self._view.journal.live is None:
            with self.syncing():
                make_folder(self.fs, self.folder)
        self._take_lock(unchecked=unchecked, timeout=timeout)

    def _take_lock(self, *, unchecked: bool = False, timeout: float | None = None) -> None:
        try:
            self._lock.acquire(timeout, unchecked=unchecked)
        except FileNotFoundError:  # Somebody deleted the workspace: it begins anew.
            with self.syncing():
                make_folder(self.fs, self.folder)
            self._lock.acquire(timeout, unchecked=unchecked)

    @contextlib.contextmanager
    def syncing(self) -> Iterator[None]:
        """Around what is made durable before a commit: where that fails, this handle takes no more writes."""
        try:
            with translated(self.folder):
                yield
        except DurabilityLostError as error:
            self._sync.fail(error)
            raise
