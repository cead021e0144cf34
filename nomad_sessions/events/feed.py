"""The events of one workspace as a process sees them: read from the log once, for all who subscribe.

Invariant: `after(position)` gives exactly the events that follow a position in the log, in order, or says that it has
not got them, or that it is of another log; they are in the log then. Memory is bounded, whatever the subscribers do.
Verified by `tests/unit/test_subscribe.py` and `tests/unit/test_another_log.py`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.events.translation import event_of
from nomad_sessions.models import Event
from nomad_sessions.workspace.log import LogPosition, LogReader, agree, mark_after

__all__ = ["Feed", "Step"]

_MOST = 4_096
_MOST_BYTES = 16 << 20  # of the log: decoded they are some three times as large
_READ_AT_ONCE = 256


class Step(NamedTuple):
    """The next events, the mark of each, and the position after them."""

    events: list[Event]
    marks: list[str]
    position: LogPosition


class Feed:
    """The newest events of a workspace. Reading on is one thread's; looking is for any number of them.

    `late` says that the last attempt to read on failed.
    """

    def __init__(self, workspace_id: str, reader: Callable[[LogPosition], LogReader]) -> None:
        """From now on: what was committed before is not in it. `reader` makes one that reads on from a position."""
        self.workspace_id = workspace_id
        self.late = False
        self._new_reader = reader
        self._reader = reader(LogPosition(0))
        self._events: deque[Event] = deque()
        self._marks: deque[str] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._begin = self._end = LogPosition(0)
        self._mutex = threading.Lock()
        self.begin_anew()

    @property
    def position(self) -> LogPosition:
        """Where it is."""
        with self._mutex:
            return self._end

    def read_on(self) -> bool:
        """Takes in what is new, and says whether there was anything; also where it is another log, or what came next
        was pruned: then it goes on from the end, and subscribers find out, each where it stands. Raises what
        `LogReader.read` does otherwise."""
        try:
            entries = self._reader.read()
        except EventsPrunedError:
            self.begin_anew()
            return True
        with self._mutex:
            mark = self._end.mark
            for entry in entries:
                mark = mark_after(mark, entry.record)
                self._events.append(event_of(self.workspace_id, entry.record))
                self._marks.append(mark)
                self._sizes.append(entry.length)
                self._bytes += entry.length
            while len(self._events) > _MOST or self._bytes > _MOST_BYTES:
                self._begin = LogPosition(self._events.popleft().seq, self._marks.popleft())
                self._bytes -= self._sizes.popleft()
            self._end = LogPosition(self._reader.after, self._reader.mark)
        return bool(entries)

    def lags(self) -> bool:
        """Whether another program wrote something that is in the log only when somebody writes."""
        return self._reader.lags()

    def begin_anew(self) -> None:
        """Goes on from where the log is now, whichever it is."""
        with self._mutex:
            self._reader.go_to_end()
            self._begin = self._end = LogPosition(self._reader.after, self._reader.mark)
            self._events.clear()
            self._marks.clear()
            self._sizes.clear()
            self._bytes = 0

    def after(self, position: LogPosition) -> Step | None:
        """The next few events after a position; None where they are no longer at hand, were never read, or it is one of
        another log."""
        with self._mutex:
            index = position.seq - self._begin.seq
            if not 0 <= index <= len(self._events):
                return None
            mark = self._marks[index - 1] if index else self._begin.mark
            if not agree(position.mark, mark):
                return None
            stop = min(index + _READ_AT_ONCE, len(self._events))
            marks = list(islice(self._marks, index, stop))
            events = list(islice(self._events, index, stop))
            if events:
                return Step(events, marks, LogPosition(events[-1].seq, marks[-1]))
            # So a seq that somebody named is known by its mark from now on.
            known = position.mark and not position.mark.endswith("?")
            return Step([], [], position if known else position._replace(mark=mark or position.mark))

    def from_log(self, position: LogPosition, told: int | None) -> Iterator[Step]:
        """The events after a position, read from the log, a list at a time, up to where the workspace is now; of what
        was pruned, those that are kept. Raises what `LogReader.kept` does."""
        reader = self._new_reader(position)
        mark = position.mark
        try:
            for found in reader.kept(told):
                if reader.mark == "" or (found and found[0].archived):
                    mark = ""  # Between these and those before them others have gone.
                marks = []
                for each in found:
                    mark = mark_after(mark, each.entry.record)
                    marks.append(mark)
                events = [event_of(self.workspace_id, each.entry.record) for each in found]
                reached = found[-1].entry.record["seq"] if found else reader.after
                yield Step(events, marks, LogPosition(reached, mark))
            yield Step([], [], LogPosition(reader.after, reader.mark))
        finally:
            reader.close()

    def close(self) -> None:
        """Gives the descriptor back, until it reads on. For the thread that does."""
        self._reader.close()
