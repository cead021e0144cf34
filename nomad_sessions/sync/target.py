"""What a copy of the store elsewhere has to be able to do, and what it is told: whole records, each with its revision.

A target is told states, not steps: the record of a session, a message or a task as it is now, with the seq of its last
change as its `rev`, or that it is gone. So changes may be repeated, be late or come in another order, and end the same:
a target keeps, for each record, what it was told with the highest rev, and of a session's messages none that is older
than an end of that session, whichever it hears of first. Who writes one for another database finds what
is asked of it in `tests/contract/test_sync_targets.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    from nomad_sessions.sync.two_way.place import Place

__all__ = ["KINDS", "Applied", "Change", "Key", "Kind", "Rejected", "Renewable", "Stored", "SyncTarget", "TargetInfo"]

Kind = Literal["workspace", "session", "message", "task", "mail", "event"]
"""What a record is: `workspace` (its id is the workspace's) the settings and further top-level keys, `event` what
somebody recorded."""
KINDS: tuple[Kind, ...] = get_args(Kind)


class Key(NamedTuple):
    """Which record, in its workspace."""

    kind: Kind
    id: str


class Change(NamedTuple):
    """A record as it is now; `body` is its JSON, None where it is gone.

    `rev` is the seq of its last change, or of its deletion. `session_id` is that of the session it is of, if any: with
    a session its messages up to that rev are gone, also where the session has come again since. The body of a
    session names its messages in order (`messageIds`), those that a revert hides (`hiddenIds`), and others
    (`detachedIds`).
    """

    workspace_id: str
    key: Key
    rev: int
    body: Mapping[str, Any] | None
    session_id: str | None = None


class Rejected(NamedTuple):
    """A change that the target will never take as it is, and why."""

    key: Key
    rev: int
    reason: str


class Applied(NamedTuple):
    """What became of some changes: how many are kept there now, those it had already included, and which never will."""

    confirmed: int
    rejected: Sequence[Rejected] = ()


class Stored(NamedTuple):
    """What a target has of a record."""

    id: str
    rev: int


class TargetInfo(NamedTuple):
    """What a target is, for people: its kind (`mongo`), where it is (without secrets), what else is worth saying."""

    kind: str
    place: str
    details: Mapping[str, Any]


class SyncTarget(Protocol):
    """A copy of workspaces elsewhere. Its methods are called by one thread at a time.

    Where it cannot be reached, or does not answer in time, each of them raises `TargetUnavailableError`: it is asked
    again later, with the same. Any other error is a defect of the target or of its use, and stops it.
    """

    name: str
    """1 to 32 small letters, digits and `-`, a letter first; its place in each workspace's log is kept under it."""
    kinds: Collection[Kind]
    """What it takes; others are not sent."""

    @property
    def place(self) -> Place | None:
        """Where several machines have workspaces in common; then nothing is sent by `apply`. None for a copy of one
        store."""
        ...

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        """Takes over these, of one workspace, no record twice. When it returns, what is confirmed survives whatever the
        target survives.

        A change whose rev is not above that of what the target has is confirmed and does nothing, except that the end
        of a session ends its older messages; `force` says that the target is to be made what the store is, whatever it
        has, and whatever it was told has ended. One record that it cannot take does not keep
        it from taking the others: it is named.
        """
        ...

    def scan(self, workspace_id: str, kind: Kind, *, after: str = "", limit: int = 1000) -> list[Stored]:
        """What it has of a kind, in the order of ids (by code point), those after an id; fewer than `limit` at the end.

        What is gone is not listed.
        """
        ...

    def fetch(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Change]:
        """Records with their bodies, by id, as `apply` was given them; without those that it has not."""
        ...

    def workspaces(self) -> list[str]:
        """The ids of the workspaces of which it has anything, sorted."""
        ...

    def ping(self) -> None:
        """Asks it whether it is there."""
        ...

    def describe(self) -> TargetInfo:
        """What it is. Asks nobody."""
        ...

    def close(self) -> None:
        """Gives connections back. May be called twice."""
        ...


@runtime_checkable
class Renewable(Protocol):
    """A target that may have to make anew what it has, also where nothing has changed here."""

    def renew(self) -> None:
        """Does so if it must; asked before each push, so it is cheap where it need not. Raises
        `TargetUnavailableError`."""
        ...
