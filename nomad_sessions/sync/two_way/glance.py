"""What an exchange remembers from one push to the next, in memory: whether there is anything to be done."""

from __future__ import annotations

import time
from dataclasses import dataclass

__all__ = ["Glance"]

_LOOK_AT_ALL_EVERY = 600.0
"""Seconds: what changed is known by the server's clock, and by looking at the numbers of everything now and then."""


@dataclass
class Glance:
    """What an exchange remembers from one push to the next: how often something had been announced when it last
    fetched, how often it has been now, where somebody has asked, when it last looked at everything, up to which seq the
    place was told, and the place's id."""

    fetched: int | None = None
    announced: int | None = None
    whole_at: float | None = None
    sent: int | None = None
    place_id: str = ""

    def forget(self) -> None:
        """Remembers nothing."""
        self.fetched = self.announced = self.whole_at = self.sent = None
        self.place_id = ""

    def is_quiet(self, seq: int) -> bool:
        """Whether nothing is known that would be to be done, where the log ends with this seq."""
        return self.sent == seq and self.fetched == self.announced and not self.is_due()

    def is_due(self) -> bool:
        """Whether everything is to be looked at again."""
        return self.whole_at is None or time.monotonic() > self.whole_at + _LOOK_AT_ALL_EVERY
