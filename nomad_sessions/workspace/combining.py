"""Many threads, one writer: the first to come works for all who wait, then hands on.

Invariant: every ticket is worked on exactly once, by the thread of some ticket, in the order of coming; whoever waits
learns of it, also when the working thread is interrupted. So threads share the lock, the looks at the files and the
sync of a commit, and none of them competes for the interpreter while another works (flat combining, as LevelDB's writer
queue does it).

A batch is worth most when it has everybody in it: the threads of the last one come back within microseconds, and each
batch costs a sync. So who works next waits for as many as there were, for `PATIENCE` at most (as PostgreSQL's
`commit_delay`); a single thread never waits. Verified by `tests/unit/test_combining.py`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

__all__ = ["PATIENCE", "Combiner", "Ticket"]

PATIENCE = 0.0 if os.name == "nt" else 0.0003
"""How long a batch is held open, in seconds: about a sync. Not on Windows, whose timers are fifty times as coarse."""


class Ticket:
    """One piece of work. The worker sets `value` or `error`, and `done`; `result`, `written` and `answered` (`value` is
    set) are its own notes, for when it is interrupted in between. Once it is done its thread is `called`, unless
    `gone`, and calls its follower's.
    """

    __slots__ = (
        "answered",
        "called",
        "done",
        "error",
        "follower",
        "gone",
        "lazy",
        "operation",
        "result",
        "turn",
        "value",
        "written",
    )

    def __init__(self, operation: Any, lazy: bool) -> None:
        self.operation = operation
        self.lazy = lazy
        self.result: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.written = False
        self.answered = False
        self.called = False
        self.gone = False
        self.follower: Ticket | None = None
        self.turn = threading.Lock()
        self.turn.acquire()

    def settle(self, error: BaseException | None = None) -> None:
        """Says that there is nothing more to do; an error that came first stays."""
        self.error = self.error or error
        self.done = True


class Combiner:
    """Runs tickets in batches: `work(batch)` has to settle each of them."""

    def __init__(self, work: Callable[[list[Ticket]], None]) -> None:
        self._work = work
        self._guard = threading.Lock()
        self._waiting: deque[Ticket] = deque()
        self._busy = False
        self._expected = 1
        self._complete: threading.Lock | None = None  # Released when as many wait as are expected.

    def run(self, ticket: Ticket) -> None:
        """Returns when the ticket is done; raises its error. May do others' work meanwhile."""
        with self._guard:
            self._waiting.append(ticket)
            leads = not self._busy
            self._busy = True
            if self._complete is not None and len(self._waiting) >= self._expected:
                self._complete.release()
                self._complete = None
        if not leads:
            try:
                ticket.turn.acquire()
                self._call(ticket.follower)
            except BaseException:
                self._leave(ticket)
                raise
        if not ticket.done:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, own: Ticket) -> None:
        batch: list[Ticket] = []
        try:
            self._gather(batch)
            self._work(batch)
        finally:
            with self._guard:
                self._complete = None
                known = dict.fromkeys((*batch, *self._waiting))
                self._expected = len(known)
                # Interrupted in the middle: the others' tickets are still to be done, by the next of them.
                self._waiting = deque(each for each in known if not (each.done or each.gone or each is own))
                self._promote()
            # One wakes the next: all at once they would only queue for the interpreter.
            done = [each for each in batch if each.done and each is not own]
            for each, follower in pairwise(done):
                each.follower = follower
            if done:
                self._call(done[0])

    def _gather(self, batch: list[Ticket]) -> None:
        """Takes what waits, once as many do as took part the last time, or `PATIENCE` is over."""
        complete = None
        with self._guard:
            if len(self._waiting) < self._expected and PATIENCE:
                complete = self._complete = threading.Lock()
                complete.acquire()
        if complete is not None:
            complete.acquire(timeout=PATIENCE)
        with self._guard:
            self._complete = None
            batch.extend(self._waiting)
            self._waiting.clear()

    def _promote(self) -> None:
        """Under the guard: makes the first who waits the next to work."""
        if self._waiting:
            self._waiting[0].turn.release()
        else:
            self._busy = False

    def _call(self, ticket: Ticket | None) -> None:
        """Wakes the thread of a ticket that is done, or else of those after it. More than once is as once: the thread
        that calls may be interrupted."""
        with self._guard:
            while ticket is not None and not ticket.called:
                ticket.called = True
                ticket.turn.release()
                ticket = ticket.follower if ticket.gone else None

    def _leave(self, ticket: Ticket) -> None:
        """A waiting thread was interrupted: what was not begun is not done, and a turn that came meanwhile goes on."""
        with self._guard:
            if ticket in self._waiting:
                first = self._waiting[0] is ticket
                self._waiting.remove(ticket)
                # Its turn may have come between the interrupt and now. Nobody else can have released it again.
                if first and ticket.turn.acquire(blocking=False):
                    self._promote()
                return
            # Somebody works on it, or has: those who come after it must not wait for a thread that is gone.
            ticket.gone = True
        if ticket.called:
            self._call(ticket.follower)
