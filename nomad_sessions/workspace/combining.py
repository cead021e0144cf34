"""Many threads, one writer: the first to come works for all who wait, then hands on.

Invariant: every ticket is worked on exactly once, by the thread of some ticket, in the order of coming; whoever waits
learns of it, also when the working thread is interrupted. So threads share the lock, the looks at the files and the
sync of a commit, and none of them competes for the interpreter while another works (flat combining, as LevelDB's writer
queue does it). Verified by `tests/unit/test_combining.py`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Combiner", "Ticket"]


class Ticket:
    """One piece of work. The worker sets `value` or `error`, and `done`; `result` and `written` are its own notes, for
    when it is interrupted in between."""

    __slots__ = ("done", "error", "lazy", "operation", "result", "turn", "value", "written")

    def __init__(self, operation: Any, lazy: bool) -> None:
        self.operation = operation
        self.lazy = lazy
        self.result: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.written = False
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

    def run(self, ticket: Ticket) -> None:
        """Returns when the ticket is done; raises its error. May do others' work meanwhile."""
        with self._guard:
            self._waiting.append(ticket)
            leads = not self._busy
            self._busy = True
        if not leads:
            try:
                ticket.turn.acquire()
            except BaseException:
                self._leave(ticket)
                raise
        if not ticket.done:
            self._lead(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _lead(self, own: Ticket) -> None:
        with self._guard:
            batch = list(self._waiting)
            self._waiting.clear()
        try:
            self._work(batch)
        finally:
            with self._guard:
                # Interrupted in the middle: the others' tickets are still to be done, by the next of them.
                self._waiting.extendleft(each for each in reversed(batch) if not each.done and each is not own)
                self._promote()
            for each in batch:
                if each.done and each is not own:
                    each.turn.release()

    def _promote(self) -> None:
        """Under the guard: makes the first who waits the next to work."""
        if self._waiting:
            self._waiting[0].turn.release()
        else:
            self._busy = False

    def _leave(self, ticket: Ticket) -> None:
        """A waiting thread was interrupted: what was not begun is not done, and a turn that came meanwhile goes on."""
        with self._guard:
            if ticket not in self._waiting:
                return
            first = self._waiting[0] is ticket
            self._waiting.remove(ticket)
            # Its turn may have come between the interrupt and now. Nobody else can have released it again.
            if first and ticket.turn.acquire(blocking=False):
                self._promote()
