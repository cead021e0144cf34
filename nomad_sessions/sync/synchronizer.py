"""Targets kept up to date: in the background, or at once.

Invariant: no writer waits for a target, and no target for another; one that is away is asked again after a while, the
longer the longer it is away. Verified by `tests/unit/test_synchronizer.py` and `tests/processes/test_mongo_sync.py`.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import TypeVar

from nomad_sessions.errors import InvalidInputError, TargetUnavailableError, WorkspaceNotFoundError
from nomad_sessions.sync.comparing import Difference
from nomad_sessions.sync.courier import Carrier, Courier, TargetStatus
from nomad_sessions.sync.dead_letters import DeadLetter
from nomad_sessions.sync.host import Host
from nomad_sessions.sync.outbox import Pushed
from nomad_sessions.sync.restoring import Restored, restore
from nomad_sessions.sync.target import SyncTarget
from nomad_sessions.sync.two_way.conflicts import Conflict

__all__ = ["Synchronizer"]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LIVING: weakref.WeakSet[Synchronizer] = weakref.WeakSet()
T = TypeVar("T")


class Synchronizer:
    """The targets of a manager. Safe for several threads; close it before the manager.

    One process at a time pushes a workspace to a target; in others a push raises `LockTimeoutError`, and what runs in
    the background waits for its turn.
    """

    def __init__(self, host: Host, targets: Iterable[SyncTarget]) -> None:
        """Raises `InvalidInputError` for a name that is none, and for two targets of one. Asks none of them."""
        self._host = host
        self._couriers: dict[str, Courier] = {}
        for target in targets:
            if not _NAME.fullmatch(target.name):
                reason = "must be 1 to 32 small letters, digits or '-', and begin with a letter"
                raise InvalidInputError(field="name", value=target.name, reason=reason)
            if target.name in self._couriers:
                raise InvalidInputError(field="targets", value=target.name, reason="is the name of two of them")
            self._couriers[target.name] = Courier(host, target)
        _LIVING.add(self)

    def after_fork(self) -> None:
        """In a forked child nothing runs in the background; the parent's does."""
        for each in self._couriers.values():
            each.after_fork()

    @property
    def targets(self) -> list[SyncTarget]:
        """Those that there are."""
        return [each.target for each in self._couriers.values()]

    def start(self) -> None:
        """Keeps them up to date from now on, on a thread each. Does nothing where it does so already."""
        for each in self._couriers.values():
            each.start()

    def push(
        self,
        workspace_id: str | None = None,
        *,
        target: str | None = None,
        progress: Callable[[str, str, int], None] | None = None,
    ) -> dict[tuple[str, str], Pushed]:
        """Brings targets up to now, by target and workspace: first those that several machines have in common, so that
        what comes from there reaches the others. `progress` is told of which, and how many changes.

        Raises `TargetUnavailableError`, where it is the only one or when the others were brought up to now;
        `LockTimeoutError` while another process pushes, and what reading a workspace does; what was confirmed until
        then is, and is not sent again.
        """
        couriers = sorted(self._of(target), key=lambda each: each.target.place is None)
        return _pushed(couriers, lambda _: self._workspaces(workspace_id), progress)

    def pull(
        self,
        workspace_id: str | None = None,
        *,
        target: str | None = None,
        progress: Callable[[str, str, int], None] | None = None,
    ) -> dict[tuple[str, str], Pushed]:
        """Brings what other machines did, from targets that several have in common, after telling them what was done
        here; without a `workspace_id`, of workspaces that are not here yet, too.

        Raises what `push` does, `WorkspaceNotFoundError` for one that is neither here nor there, and
        `InvalidInputError` for a target that is a copy of this store alone.
        """
        couriers = [courier for name in self.two_way(target) for courier in self._of(name)]
        return _pushed(couriers, partial(self._here_or_there, workspace_id), progress)

    def _here_or_there(self, workspace_id: str | None, courier: Courier) -> list[str]:
        """The workspaces to be pulled. A name that was misspelt must not become a workspace of all machines."""
        if workspace_id is None:
            return courier.all_workspaces()
        if workspace_id not in self._host.list_workspaces() and workspace_id not in courier.all_workspaces():
            raise WorkspaceNotFoundError(workspace_id=workspace_id)
        return [workspace_id]

    def two_way(self, target: str | None = None) -> list[str]:
        """The names of the targets that several machines have in common, or of this one, if it is one of them. Raises
        `InvalidInputError` where there is none."""
        found = [each.target.name for each in self._of(target) if each.target.place is not None]
        if not found:
            name = target if target is not None else ", ".join(self._couriers)
            reason = "is a copy of this store alone: set two_way for it (MONGODB_TWO_WAY), or use restore"
            raise InvalidInputError(field="target", value=name, reason=reason)
        return found

    def shared(self, target: str) -> list[str]:
        """The workspaces that are here, and those that other machines have in common there. Raises
        `TargetUnavailableError`."""
        (courier,) = self._of(target)
        return courier.all_workspaces()

    def verify(
        self,
        workspace_id: str,
        *,
        target: str,
        repair: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Difference]:
        """What a target has otherwise than the store, in full, after a push; with `repair` it is made right.

        Raises what `push` does. Cost: both are read once. One that was cut short goes on where it was, within a day, in
        whatever process; a `reset` has it begin anew.
        """

        def look(box: Carrier) -> list[Difference]:
            box.push()
            found = list(box.differences(progress))
            if repair:
                box.repair(found)
            return found

        (courier,) = self._of(target)
        return courier.with_carrier(workspace_id, look)

    def restore(
        self, workspace_id: str, *, target: str, progress: Callable[[int, int], None] | None = None
    ) -> Restored:
        """Makes a workspace again from a target: on a new machine, or after its folder was lost. See `restore`."""
        (courier,) = self._of(target)
        with courier.asking():
            return restore(self._host, workspace_id, courier.target, progress)

    def with_carrier(self, workspace_id: str, target: str, use: Callable[[Carrier], T]) -> T:
        """`use(carrier)`, with the target and its place in the workspace for oneself. Raises `LockTimeoutError` while
        another process has it, and what `use` does."""
        (courier,) = self._of(target)
        return courier.with_carrier(workspace_id, use)

    def ask(self, target: str, use: Callable[[SyncTarget], T]) -> T:
        """`use(target)`, while nothing is pushed to it from here: another process may. Raises what `use` does."""
        (courier,) = self._of(target)
        with courier.asking():
            return use(courier.target)

    def dead(self, workspace_id: str | None = None, *, target: str | None = None) -> list[tuple[str, str, DeadLetter]]:
        """What targets have refused: the target, the workspace, and what."""
        return [
            (courier.target.name, each, letter)
            for courier in self._of(target)
            for each in self._workspaces(workspace_id)
            for letter in courier.dead(each)
        ]

    def retry(self, workspace_id: str | None = None, *, target: str | None = None) -> Pushed:
        """Sends what was refused once more, as it is now. Raises what `push` does."""
        done = Pushed()
        for courier in self._of(target):
            for each in self._workspaces(workspace_id):
                done = done.plus(courier.with_carrier(each, lambda carrier: carrier.retry()))
        return done

    def reset(self, workspace_id: str, *, target: str) -> None:
        """Forgets how far a target has been told: the next push compares the whole. Durable on return."""
        (courier,) = self._of(target)
        courier.with_carrier(workspace_id, lambda carrier: carrier.reset())

    def conflicts(self, workspace_id: str | None = None, *, target: str | None = None) -> list[Conflict]:
        """Where two machines changed the same, neither knowing of the other, with what was not kept: as this one found
        it out. Raises `CorruptionError`."""
        return [
            conflict
            for courier in self._of(target)
            for each in self._workspaces(workspace_id)
            for conflict in courier.conflicts(each).all()
        ]

    def forget_conflicts(self, workspace_id: str | None = None, *, target: str | None = None) -> int:
        """Takes out what `conflicts` lists: somebody has looked at it. Returns how many. Durable on return."""
        count = 0
        for courier in self._of(target):
            for each in self._workspaces(workspace_id):
                with courier.asking():
                    count += courier.conflicts(each).forget_all()
        return count

    def status(self, workspace_id: str | None = None) -> list[TargetStatus]:
        """How each target stands in each workspace. Asks no target."""
        return [courier.status(each) for courier in self._couriers.values() for each in self._workspaces(workspace_id)]

    def _of(self, target: str | None) -> list[Courier]:
        if target is None:
            return list(self._couriers.values())
        if target not in self._couriers:
            raise InvalidInputError(field="target", value=target, reason=f"is none of {', '.join(self._couriers)}")
        return [self._couriers[target]]

    def _workspaces(self, workspace_id: str | None) -> list[str]:
        return self._host.list_workspaces() if workspace_id is None else [workspace_id]

    def close(self) -> None:
        """Ends the background work, after what is under way, and closes the targets. May be called twice."""
        for each in self._couriers.values():
            each.stop()
        for each in self._couriers.values():
            each.target.close()

    def __enter__(self) -> Synchronizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _pushed(
    couriers: Iterable[Courier],
    workspaces: Callable[[Courier], list[str]],
    progress: Callable[[str, str, int], None] | None,
) -> dict[tuple[str, str], Pushed]:
    """Each of these workspaces by each courier. A target that is away holds up no other: it is said at the end."""
    done: dict[tuple[str, str], Pushed] = {}
    away: list[TargetUnavailableError] = []
    for courier in couriers:
        try:
            for each in workspaces(courier):
                done[courier.target.name, each] = _pushed_by(courier, each, progress)
        except TargetUnavailableError as error:
            away.append(error)
    if away:
        raise away[0]
    return done


def _pushed_by(courier: Courier, workspace_id: str, progress: Callable[[str, str, int], None] | None) -> Pushed:
    tell = None if progress is None else partial(progress, courier.target.name, workspace_id)
    return courier.with_carrier(workspace_id, lambda carrier: carrier.push(tell))


def _after_fork_in_child() -> None:
    for each in list(_LIVING):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
