"""Word from the file system of what happens in a data folder, workspace by workspace.

It says only that something may have happened, and is never relied on: where the system has no such word to give, or no
watch left, who listens has to look from time to time. Verified by `tests/processes/test_subscribers.py`.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from typing import Any

from nomad_sessions.storage._os import FileSystem

__all__ = ["Watcher"]

_JOURNAL = "journal"


class Watcher:
    """Calls `wake(workspace_id)` when a journal of the data folder was written to. One watch for all of them."""

    def __init__(self, fs: FileSystem, data_dir: str, wake: Callable[[str], None]) -> None:
        """Watches nothing yet."""
        self._fs = fs
        self._data_dir = data_dir
        self._wake = wake
        self._observer: Any = None
        self._watched: tuple[int, int] | None = None

    def begin(self) -> None:
        """Watches, if it does not yet and the folder is there: it comes with the first write."""
        there = self._identity()
        if there != self._watched:  # Deleted, and perhaps made anew: that is another folder.
            self.close()
        if self._observer is not None or there is None:
            return
        self._watched = there
        # No watch, no thread, or in a child that was forked while it was imported no library is left: whoever listens
        # looks from time to time, too.
        with contextlib.suppress(OSError, RuntimeError, ImportError):
            from watchdog.observers import Observer

            # watchdog 7 says so of a folder that is made while it looks for folders, and would say it to our user.
            warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning, r"watchdog\.")
            self._observer = Observer()
            self._observer.daemon = True
            self._schedule()
            self._observer.start()

    def _schedule(self) -> None:
        from watchdog.events import DirCreatedEvent, FileCreatedEvent, FileModifiedEvent, FileSystemEvent
        from watchdog.events import FileSystemEventHandler as Base

        begin = len(self._data_dir.rstrip("/\\")) + 1
        wake = self._wake

        class Handler(Base):
            def dispatch(self, event: FileSystemEvent) -> None:
                workspace_id, *rest = os.fsdecode(event.src_path)[begin:].replace("\\", "/").split("/", 2)
                if rest[:1] == [_JOURNAL]:
                    wake(workspace_id)

        # Asking for no more keeps the system from telling of every file that somebody opens to read.
        wanted: list[type[FileSystemEvent]] = [FileModifiedEvent, FileCreatedEvent, DirCreatedEvent]
        self._observer.schedule(Handler(), self._data_dir, recursive=True, event_filter=wanted)

    def _identity(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            stat = self._fs.stat(self._data_dir)
            return None if stat is None else (stat.dev, stat.ino)
        return None

    def close(self) -> None:
        """Watches nothing any more."""
        observer, self._observer = self._observer, None
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join()
