"""Where one subscription is in the log of one workspace, and how it goes on from there.

Invariant: steps give every event after where it began, in order, each once, from what is at hand or from the log; what
cannot be given is raised, once. Verified by `tests/unit/test_subscribe.py` and `tests/unit/test_another_log.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.events.feed import Feed, Step
from nomad_sessions.models import Event
from nomad_sessions.operations.plain import plain
from nomad_sessions.workspace.log import LogPosition

__all__ = ["Notice", "Reading", "own_copy"]


class Reading:
    """Where a subscription is in one workspace. `told` is the seq up to which it knows of what was pruned, None where
    it need not know: nothing that it wants ever is."""

    def __init__(self, feed: Feed, position: LogPosition, told: int | None) -> None:
        self.feed = feed
        self.position = position
        self.told = told
        self.log: Iterator[Step] | None = None

    def step(self) -> Step:
        """The next events, from what is at hand, else from the log; none when there are no more. Raises what reading
        the log does; the position stays then."""
        if self.log is None:
            step = self.feed.after(self.position)
            if step is not None:
                return step
            self.log = self.feed.from_log(self.position, self.told)
        try:
            step = next(self.log, None)
        except BaseException:  # The next attempt begins with a reader of its own.
            self.log = None
            raise
        if step is None:  # It has caught up with the log: what comes now is in the feed.
            self.log = None
            step = self.feed.after(self.position) or Step([], [], self.position)
        return step

    def go_on(self, error: EventsPrunedError) -> bool:
        """Goes on with what is still there; whether that is another log."""
        if error.first > self.position.seq:
            self.told = error.first
            return False
        self.position = LogPosition(0)
        self.told = None if self.told is None else 0
        return True


class Notice(NamedTuple):
    """In place of events: what is to be raised, and whether what follows is of another log."""

    error: EventsPrunedError
    another: bool


def own_copy(event: Event) -> Event:
    """A copy, for one subscriber: the others, and the next attempt, have the same one."""
    copied = event.model_copy()
    copied.properties = plain(event.properties)
    return copied
