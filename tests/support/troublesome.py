"""Targets that are away, refuse, or do what they were told and then fail to say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nomad_sessions import TargetUnavailableError
from nomad_sessions.sync import Applied, Change, MemoryTarget, MongoTarget, Rejected

__all__ = ["TROUBLES", "TroublesomeMongo", "TroublesomeTarget"]

TROUBLES = ("away", "lost", "half", "twice")
"""What a target may do: "away" nothing, "lost" all of it but the answer, "half" the first half and then it is away,
"twice" it all twice, first in the reverse order, a change at a time."""
Trouble = Callable[[int], str]


def _troubled(what: str, name: str, apply: Callable[[Sequence[Change]], Applied], changes: Sequence[Change]) -> Applied:
    if what == "away":
        raise TargetUnavailableError(target=name, reason="it is away")
    if what == "half":
        apply(changes[: len(changes) // 2])
        raise TargetUnavailableError(target=name, reason="it went away")
    if what == "twice":
        for each in changes[::-1]:
            apply([each])
    done = apply(changes)
    if what == "lost":
        raise TargetUnavailableError(target=name, reason="no answer in time")
    return done


class TroublesomeTarget(MemoryTarget):
    """`trouble(n)` says what the n-th call to `apply` does: "" what it should, or one of `TROUBLES`. What has an id in
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
        if what != "away":
            self.sent += changes
        good = [each for each in changes if each.key.id not in self.poison]
        bad = [Rejected(each.key, each.rev, "poison") for each in changes if each.key.id in self.poison]
        real = super().apply
        _troubled(what, self.name, lambda some: real(some, force=force), good)
        return Applied(len(good), bad)


class TroublesomeMongo(MongoTarget):
    """A real one; `trouble` as above, `troubles` counts how often it was in any."""

    trouble: Trouble
    calls = troubles = 0

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        self.calls += 1
        what = self.trouble(self.calls)
        self.troubles += what != ""
        real = super().apply
        return _troubled(what, self.name, lambda some: real(some, force=force), changes)
