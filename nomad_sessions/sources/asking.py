"""What reading through knows of its questions: when a source was asked, what it said against it, who asks just now.

Invariant: that a source failed is said until it was asked again; of several threads that ask for the same, one does.
Verified by `tests/unit/test_read_through.py` and `tests/unit/test_read_through_trouble.py`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from nomad_sessions.forking import Mutex

__all__ = ["Asked", "Turns"]

Key = tuple[str, str, str]
"""What was asked for: its kind (`list`, `session`, …), the workspace, and what in it."""
_AGAIN = 5.0
"""Seconds after which a source that failed is asked again, if `ttl` is not shorter."""
_MANY = 10_000


class _Note(NamedTuple):
    until: float
    failed: Mapping[str, str]


class Asked:
    """What was asked for and need not be for a while. Safe for several threads."""

    def __init__(self, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`ttl` is in seconds."""
        self._ttl = ttl
        self._clock = clock
        self._mutex = Mutex()
        self._notes: dict[Key, _Note] = {}
        self._forgotten = 0

    @property
    def moment(self) -> int:
        """To be asked before a source is, and given to `note`."""
        return self._forgotten

    def note(self, key: Key, moment: int, failed: Mapping[str, str]) -> None:
        """The sources were asked, and these failed. Not noted where something was forgotten since that moment: what
        they said may be older."""
        now = self._clock()
        with self._mutex:
            if self._forgotten != moment:
                return
            if len(self._notes) >= _MANY:
                self._notes = {name: each for name, each in self._notes.items() if now < each.until}
            self._notes[key] = _Note(now + (min(self._ttl, _AGAIN) if failed else self._ttl), dict(failed))

    def fresh(self, key: Key) -> Mapping[str, str] | None:
        """Who failed when this was asked for; None where it is to be asked for again."""
        with self._mutex:
            note = self._notes.get(key)
        return note.failed if note is not None and self._clock() < note.until else None

    def forget(self, workspace_id: str | None, session_id: str | None) -> None:
        """What is of a session, a workspace or anything is to be asked for again; lists too, for they show it."""
        with self._mutex:
            self._forgotten += 1
            self._notes = {
                key: note
                for key, note in self._notes.items()
                if workspace_id not in (None, key[1]) or (session_id not in (None, key[2]) and key[0] != "list")
            }


class Turns:
    """One at a time for each question."""

    def __init__(self) -> None:
        self._mutex = Mutex()
        self._queues: dict[Key, tuple[Mutex, int]] = {}

    @contextlib.contextmanager
    def of(self, key: Key) -> Iterator[bool]:
        """While the block runs nobody else asks for this; whether somebody did just before."""
        with self._mutex:
            turn, count = self._queues.get(key, (Mutex(), 0))
            self._queues[key] = (turn, count + 1)
        try:
            with turn:
                yield count > 0
        finally:
            with self._mutex:
                turn, count = self._queues.pop(key)
                if count > 1:
                    self._queues[key] = (turn, count - 1)
