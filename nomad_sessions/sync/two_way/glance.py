"""What an exchange remembers from one push to the next: whether there is anything to be done.

In memory, and what has to outlast the process in `shadow.py`, too: a command that runs once, where nothing is new, is
not to look at everything. Verified by `tests/unit/test_two_way_costs.py`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from nomad_sessions.sync.two_way.shadow import Shadow

__all__ = ["Glance"]

_LOOK_AT_ALL_EVERY = 86_400.0
"""Seconds: what changed is known by the server's clock, and by looking at the numbers of everything now and then."""
_SHARE_EVERY = 600.0
"""Seconds between two looks at whether the place is still the same."""
_FETCHED, _WHOLE = "fetched", "whole"


@dataclass
class Glance:
    """What an exchange remembers from one push to the next: how often something had been announced when it last
    fetched, how often it has been now, where somebody has asked, when (s since the epoch) it last looked at everything,
    up to which seq the place was told, and the place's id, with when (monotonic) that was asked."""

    fetched: int | None = None
    announced: int | None = None
    whole_at: float | None = None
    sent: int | None = None
    place_id: str = ""
    asked_at: float = 0.0

    def forget(self) -> None:
        """Remembers nothing."""
        self.fetched = self.announced = self.whole_at = self.sent = None
        self.place_id = ""

    def recall(self, shadow: Shadow) -> None:
        """Remembers what another process has noted, where this one knows nothing."""
        fetched, whole = shadow.told(_FETCHED), shadow.told(_WHOLE)
        if self.fetched is None and fetched and whole:
            self.fetched, self.whole_at = int(fetched), float(whole)

    def note(self, shadow: Shadow, fetched: int, *, whole: bool) -> None:
        """All was fetched that had been announced so often; with `whole`, all was looked at."""
        self.fetched = fetched
        shadow.tell(_FETCHED, str(fetched))
        if whole:
            self.whole_at = time.time()
            shadow.tell(_WHOLE, str(self.whole_at))

    def look_at_all(self, shadow: Shadow) -> None:
        """Has the next fetch look at everything, in whatever process."""
        self.whole_at = None
        shadow.tell(_WHOLE, "")

    def shared(self, place_id: str) -> None:
        """The place's id, as it has just said."""
        self.place_id, self.asked_at = place_id, time.monotonic()

    def is_quiet(self, seq: int) -> bool:
        """Whether nothing is known that would be to be done, where the log ends with this seq."""
        return self.sent == seq and self.fetched == self.announced and not (self.is_due() or self.is_to_share())

    def is_due(self) -> bool:
        """Whether everything is to be looked at again: also where the clock was set back."""
        return self.whole_at is None or not 0 <= time.time() - self.whole_at < _LOOK_AT_ALL_EVERY

    def is_to_share(self) -> bool:
        """Whether the place is to be asked who it is."""
        return not self.place_id or time.monotonic() > self.asked_at + _SHARE_EVERY
