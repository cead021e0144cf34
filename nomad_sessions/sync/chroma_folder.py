"""A folder of Chroma's own, used by one at a time: Chroma itself does not keep two processes apart.

Two that write to one folder end with vectors that nobody finds, or with an index that cannot be read without a crash
(both seen with chromadb 1.5.9): each has the index in memory, and writes it over the other's. So whoever uses the
folder through this package holds a lock meanwhile, and opens Chroma anew where another has written since. A forked
child is refused where its parent had opened one: Chroma waits there for ever, for threads that are not.

Invariant: what is in memory of the folder is what lies on the disk, whenever it is used. Verified by
`tests/contract/test_chroma_folder.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nomad_sessions.errors import LockTimeoutError
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.files import make_folder, read_whole, replace_whole
from nomad_sessions.storage.lock import StoreLock

__all__ = ["LOCK", "Folder"]

LOCK = "nomad-sessions.lock"
_TURN = "nomad-sessions.turn"
"""A file with something else in it after every use that may have written."""
_TAKEN: set[str] = set()
"""The names by which folders are open in this process."""
_OPENERS: set[int] = set()
"""The processes that have opened one: this one, or one of which it is a fork."""


class Folder:
    """The use of one folder. Not for several threads at once."""

    def __init__(self, path: str) -> None:
        """Touches nothing yet."""
        self.path = os.path.abspath(path)
        self._lock: StoreLock | None = None
        self._seen: bytes | None = None
        self._name = ""

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        try:
            return REAL.stat(self.path) is not None
        except OSError:  # A file is in the way, say.
            return False

    @contextlib.contextmanager
    def turn(self, patience: float, *, writes: bool) -> Iterator[bool]:
        """Holds the folder; gives whether what was opened in the last turn is still what is there.

        Raises `TimeoutError` where somebody else holds it for so many seconds, and `OSError`.
        """
        make_folder(REAL, self.path)
        self._lock = self._lock or StoreLock(REAL, f"{self.path}/{LOCK}")
        try:
            self._lock.acquire(patience)
        except LockTimeoutError as error:
            raise TimeoutError("another program is writing to it") from error
        try:
            turn = self._turn()
            is_same = turn == self._seen
            self._seen = turn
            if writes:  # Before anything is: it may be killed in the middle.
                self._seen = os.urandom(16)
                replace_whole(REAL, f"{self.path}/{_TURN}", self._seen, synced=False)
            yield is_same
        finally:
            self._lock.release()

    def _turn(self) -> bytes:
        try:
            return read_whole(REAL, f"{self.path}/{_TURN}")
        except FileNotFoundError:
            return b""

    def name(self) -> str:
        """What to open it by: its path, with as many slashes at its end as make it another name than all that are open.
        What Chroma has opened in this process by one name is opened no second time, and would be as old as the first.

        Raises `OSError` in a forked child."""
        if _OPENERS - {os.getpid()}:
            raise OSError("Chroma was opened before this process was forked: use a server, or fork first")
        _OPENERS.add(os.getpid())
        _TAKEN.discard(self._name)
        self._name = f"{self.path}/"
        while self._name in _TAKEN:
            self._name += "/"
        _TAKEN.add(self._name)
        return self._name

    def close(self) -> None:
        """Gives it back, and its name; another use opens it again."""
        _TAKEN.discard(self._name)
        self._seen = None
        if self._lock is not None:
            self._lock.close()
