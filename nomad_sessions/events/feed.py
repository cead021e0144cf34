"""The events of one workspace as a process sees them: read from the log once, for all who subscribe.

Invariant: `after(seq)` gives exactly the events that follow a seq, in order, or says that it no longer has them; they
are in the log then. Memory is bounded, whatever the subscribers do. Verified by `tests/unit/test_subscribe.py`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from nomad_sessions.events.translation import event_of
from nomad_sessions.models import Event
from nomad_sessions.workspace.log import LogReader

__all__ = ["Feed"]

_MOST = 4_096
_MOST_BYTES = 16 << 20  # of the log: decoded they are some three times as large
_READ_AT_ONCE = 256


class Feed:
    """The newest events of a workspace. Reading on is one thread's; looking is for any number of them."""

    def __init__(self, workspace_id: str, reader: Callable[[int], LogReader]) -> None:
        """From now on: what was committed before is not in it. `reader` makes one that reads on from a seq."""
        self.workspace_id = workspace_id
        self._new_reader = reader
        self._reader = reader(0)
        self._reader.after = self.seq = self._reader.goal()
        self._events: deque[Event] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._mutex = threading.Lock()

    def read_on(self) -> bool:
        """Takes in what is new, and says whether there was anything. Raises what `LogReader.read` does."""
        entries = self._reader.read()
        events = [event_of(self.workspace_id, entry.record) for entry in entries]
        with self._mutex:
            self._events += events
            self._sizes += [entry.length for entry in entries]
            self._bytes += sum(entry.length for entry in entries)
            while len(self._events) > _MOST or self._bytes > _MOST_BYTES:
                self._events.popleft()
                self._bytes -= self._sizes.popleft()
            self.seq = self._reader.after
        return bool(events)

    def lags(self) -> bool:
        """Whether another program wrote something that is in the log only when somebody writes."""
        return self._reader.lags()

    def begin_anew(self) -> None:
        """The log is another one: goes on from where that one is now."""
        self._reader.close()
        with self._mutex:
            self._reader.after = self.seq = self._reader.goal()
            self._events.clear()
            self._sizes.clear()
            self._bytes = 0

    def after(self, seq: int) -> list[Event] | None:
        """The next few events after a seq; None where they are no longer at hand, or were never read."""
        with self._mutex:
            if seq == self.seq:
                return []
            begin = self._events[0].seq - 1 if self._events else self.seq
            if not begin <= seq < self.seq:
                return None
            start = seq - begin
            return list(islice(self._events, start, start + _READ_AT_ONCE))

    def from_log(self, after: int) -> Iterator[list[Event]]:
        """The events after a seq, read from the log, a list at a time, up to where the workspace is now."""
        reader = self._new_reader(after)
        try:
            while entries := reader.read():
                yield [event_of(self.workspace_id, entry.record) for entry in entries]
        finally:
            reader.close()

    def close(self) -> None:
        """Gives the descriptor back."""
        self._reader.close()
