"""Where several machines have a workspace in common: what it has to be able to do. `MongoPlace` is one.

Invariant, for each record: a write takes place only where the number is still the one that the writer knew. So all
machines see the same versions in the same order, and what they agree on is the last of them. Verified for each place by
`tests/contract/test_places.py`.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from nomad_sessions.sync.target import Key, Kind, Rejected, Stored
from nomad_sessions.sync.two_way.versions import Version

__all__ = ["AT_ONCE", "Listed", "Numbered", "Place", "Settled", "pieces"]

AT_ONCE = 500
"""How many records are read, or written, at once."""


class Numbered(NamedTuple):
    """A record in a place: which, the number of its version, and whether it is gone."""

    id: str
    number: int
    gone: bool


class Settled(NamedTuple):
    """What became of some writes: the records of which there was another version, and those that cannot be taken."""

    overtaken: set[Key]
    rejected: Sequence[Rejected] = ()


class Place(Protocol):
    """One database. Its methods are called by one thread at a time, but for `wait`, and raise what those of a
    `SyncTarget` do."""

    def share(self, workspace_id: str) -> str:
        """Says that a workspace is for several machines from now on. Returns the id of the common place of it, which
        stays the same as long as what is there does."""
        ...

    def shared(self) -> list[str]:
        """The ids of the workspaces that are, sorted."""
        ...

    def read(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Version]:
        """These as they are, and those of them that are gone; without those that never were."""
        ...

    def messages_of(self, workspace_id: str, session_id: str) -> list[str]:
        """The ids of the messages of a session that are not gone."""
        ...

    def write(self, workspace_id: str, versions: Sequence[Version]) -> Settled:
        """Makes each of these what is there, if what is there has the number before its own (none is there, for 1). No
        record twice. Durable on return, as far as it was done."""
        ...

    def numbers(self, workspace_id: str, kind: Kind, since: int | None) -> tuple[list[Numbered], int]:
        """Of all records of a kind the numbers, by id; with `since`, of those that may have changed since then, and
        perhaps some more. And the moment for the next call."""
        ...

    def announce(self, workspace_id: str) -> None:
        """Says that something was written in a workspace."""
        ...

    def announced(self, workspace_ids: Iterable[str]) -> dict[str, int]:
        """How often something was announced, by workspace, without those that are not shared."""
        ...

    def wait(self, seconds: float) -> bool:
        """Returns when something was announced, or after so many seconds: then, and where it cannot tell, False."""
        ...

    def stop_waiting(self) -> None:
        """Gives back what `wait` has open. For the thread that waits."""
        ...


def pieces(place: Place, workspace_id: str, kind: Kind, ids: Iterable[str]) -> Iterator[dict[str, Version]]:
    """These as `read` gives them, some at a time."""
    rest = iter(ids)
    while some := list(islice(rest, AT_ONCE)):
        if found := place.read(workspace_id, kind, some):
            yield found


class Listed:
    """The records of a kind that are in a place, to be compared with ours."""

    def __init__(self, numbers: Sequence[Numbered]) -> None:
        """`numbers` are sorted by id."""
        self._rows = [Stored(each.id, each.number) for each in numbers if not each.gone]

    def scan(self, workspace_id: str, kind: Kind, *, after: str = "", limit: int = 1000) -> list[Stored]:
        """Those after an id."""
        begin = bisect.bisect_right(self._rows, after, key=lambda each: each.id) if after else 0
        return self._rows[begin : begin + limit]
