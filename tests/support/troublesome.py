"""A target that is away, refuses, or does what it was told and then fails to say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nomad_sessions import TargetUnavailableError
from nomad_sessions.sync import Applied, Change, MemoryTarget, Rejected

__all__ = ["TroublesomeTarget"]

Trouble = Callable[[int], str]


class TroublesomeTarget(MemoryTarget):
    """`trouble(n)` says what the n-th call to `apply` does: "" what it should, "away" nothing, "lost" all of it but the
    answer, "half" the first half and then it is away, "twice" it all twice, in the reverse order. What has an id in
    `poison` is refused. `calls` counts."""

    def __init__(self, trouble: Trouble = lambda _: "", poison: Sequence[str] = ()) -> None:
        super().__init__("memory")
        self.trouble = trouble
        self.poison = set(poison)
        self.calls = 0
        self.sent: list[Change] = []

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        self.calls += 1
        what = self.trouble(self.calls)
        if what == "away":
            raise TargetUnavailableError(target=self.name, reason="it is away")
        self.sent += changes
        good = [each for each in changes if each.key.id not in self.poison]
        bad = [Rejected(each.key, each.rev, "poison") for each in changes if each.key.id in self.poison]
        if what == "half":
            super().apply(good[: len(good) // 2], force=force)
            raise TargetUnavailableError(target=self.name, reason="it went away")
        if what == "twice":
            super().apply(good[::-1], force=force)
        super().apply(good, force=force)
        if what == "lost":
            raise TargetUnavailableError(target=self.name, reason="no answer in time")
        return Applied(len(good), bad)
