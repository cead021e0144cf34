"""What the copies of a record elsewhere are: asked for, waited for, sent again.

Verified by `tests/unit/test_dualstore_copies.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nomad_sessions.errors import LockTimeoutError, NomadSessionsError, TargetUnavailableError
from nomad_sessions.sync.changes import everything
from nomad_sessions.sync.comparing import Difference
from nomad_sessions.sync.courier import Carrier
from nomad_sessions.sync.synchronizer import Synchronizer
from nomad_sessions.sync.target import Change, Key, Kind, SyncTarget
from nomad_sessions.sync.two_way.sending import plain_body

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Copies", "TargetReport"]

T = TypeVar("T")
_PAUSE = 0.02


class TargetReport(NamedTuple):
    """How a target stands to the store, in full: how many records it should have, how many it has as they are, and
    those that it lacks, has in an older state, or should not have; what it refused, with the reason. `failed` says why
    it could not be asked: the others say nothing then."""

    documents: int
    consistent: int
    missing: list[Key]
    stale: list[Key]
    extra: list[Key]
    rejected: dict[Key, str]
    failed: str | None


class Copies:
    """The targets of one workspace."""

    def __init__(
        self, manager: NativeSessionManager, workspace_id: str, synchronizer: Synchronizer, timeout: float
    ) -> None:
        self._manager = manager
        self._ws = workspace_id
        self._synchronizer = synchronizer
        self._timeout = timeout

    def confirm(self, keys: Collection[Key]) -> dict[str, str]:
        """Brings each target that takes these up to now; those that have not confirmed them then, with the reason."""
        return self._each(keys, lambda box: _pushed(box, keys))

    def states(self, changes: Collection[Change]) -> dict[str, str]:
        """Of each target: `same`, `missing`, `stale`, `ahead`, or why it cannot be said; the worst of these records."""
        failed: dict[str, str] = {}
        found = {
            target.name: self.ask(target, lambda there: _state(there, self._ws, changes), failed)
            for target in self._of([each.key for each in changes])
        }
        return {name: state if state is not None else failed[name] for name, state in found.items()}

    def send(self, keys: Collection[Key]) -> dict[str, str]:
        """Sends these once more, whatever the targets have; those that have not taken them, each with the reason."""
        differences = [Difference(key, "stale", None, None) for key in keys]

        def again(box: Carrier) -> str | None:
            box.repair(differences)
            return _refused(box, keys)

        return self._each(keys, again)

    def report(self) -> dict[str, TargetReport]:
        """How each stands. Cost: store and target are read once each."""
        return {target.name: self._report(target) for target in self._synchronizer.targets}

    def _report(self, target: SyncTarget) -> TargetReport:
        def compare(box: Carrier) -> TargetReport:
            box.push()
            found = list(box.differences())
            by: dict[str, list[Key]] = {"missing": [], "stale": [], "extra": []}
            for each in found:
                by["stale" if each.problem == "ahead" else each.problem].append(each.key)
            documents = self._count(target)
            consistent = documents - len(by["missing"]) - len(by["stale"])
            rejected = {letter.key: letter.reason for letter in box.dead}
            return TargetReport(documents, consistent, by["missing"], by["stale"], by["extra"], rejected, None)

        try:
            return self._synchronizer.with_carrier(self._ws, target.name, compare)
        except (NomadSessionsError, OSError) as error:
            return TargetReport(0, 0, [], [], [], {}, str(error))

    def _count(self, target: SyncTarget) -> int:
        kinds: Iterable[Kind] = [each for each in target.kinds if each != "event"]
        counted: int = self._manager._use(
            self._ws,
            lambda each: each.read(lambda view: sum(1 for kind in kinds for _ in everything(view, self._ws, kind))),
        )
        events = sum(1 for _ in self._manager.events(self._ws, recorded=True)) if "event" in target.kinds else 0
        return counted + events

    def _of(self, keys: Collection[Key]) -> list[SyncTarget]:
        """The targets that these concern."""
        kinds = {key.kind for key in keys}
        return [each for each in self._synchronizer.targets if kinds & set(each.kinds)]

    def ask(self, target: SyncTarget, use: Callable[[SyncTarget], T], failed: dict[str, str]) -> T | None:
        """What a target says, asked in between what is pushed to it from here; None where it could not be asked, which
        is noted."""
        try:
            return self._synchronizer.ask(target.name, use)
        except TargetUnavailableError as error:
            failed[target.name] = error.reason
            return None

    def _each(self, keys: Collection[Key], use: Callable[[Carrier], str | None]) -> dict[str, str]:
        """`use(outbox)` of each target that takes one of these; what it says against them, where it does."""
        found = {target.name: self._try(target, use) for target in self._of(keys)}
        return {name: reason for name, reason in found.items() if reason is not None}

    def _try(self, target: SyncTarget, use: Callable[[Carrier], str | None]) -> str | None:
        """`use(outbox)`, when it is free; why it could not be, where it could not."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                return self._synchronizer.with_carrier(self._ws, target.name, use)
            except TargetUnavailableError as error:
                return error.reason
            except LockTimeoutError as error:  # Another process pushes: what it sends is ours too.
                if time.monotonic() > end:
                    return str(error)
                time.sleep(_PAUSE)


def _pushed(box: Carrier, keys: Collection[Key]) -> str | None:
    box.push()
    return _refused(box, keys)


def _refused(box: Carrier, keys: Collection[Key]) -> str | None:
    reasons = [letter.reason for letter in box.dead if letter.key in keys]
    return f"it refused: {reasons[0]}" if reasons else None


def _state(target: SyncTarget, workspace_id: str, ours: Collection[Change]) -> str:
    states = set()
    for kind in target.kinds:
        mine = {each.key.id: each for each in ours if each.key.kind == kind and each.body is not None}
        theirs = target.fetch(workspace_id, kind, list(mine)) if mine else {}
        for name, change in mine.items():
            other = theirs.get(name)
            if other is None or other.body is None:
                states.add("missing")
            elif target.place is not None:  # What machines have in common has numbers of its own.
                states.update([] if plain_body(other) == plain_body(change) else ["stale"])
            elif other.rev != change.rev:
                states.add("stale" if other.rev < change.rev else "ahead")
    return next((each for each in ("missing", "stale", "ahead") if each in states), "same")
