"""A target in memory: for tests of those who build on targets, and the shortest example of one."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Sequence

from nomad_sessions.sync.target import KINDS, Applied, Change, Key, Kind, Stored, TargetInfo
from nomad_sessions.sync.two_way.place import Place

__all__ = ["MemoryTarget"]


class MemoryTarget:
    """Keeps the last change of each record in `records`, by workspace and key; those of what is gone have no body."""

    def __init__(self, name: str = "memory", kinds: Collection[Kind] = KINDS, *, place: Place | None = None) -> None:
        """Nothing is in it yet. With a `place`, which several may have, it is that which is kept up to date."""
        self.name = name
        self.kinds = kinds
        self.place: Place | None = place
        self.records: dict[tuple[str, Key], Change] = {}

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        """See `SyncTarget`."""
        for change in changes:
            known = self.records.get((change.workspace_id, change.key))
            if force or known is None or known.rev < change.rev:
                self.records[change.workspace_id, change.key] = change
                if change.key.kind == "session" and change.body is None:
                    self._drop_messages(change)
        return Applied(len(changes))

    def _drop_messages(self, session: Change) -> None:
        for place, known in self.records.items():
            ours = known.workspace_id == session.workspace_id and known.session_id == session.key.id
            if ours and known.key.kind == "message" and known.rev < session.rev:
                self.records[place] = known._replace(rev=session.rev, body=None)

    def scan(self, workspace_id: str, kind: Kind, *, after: str = "", limit: int = 1000) -> list[Stored]:
        """See `SyncTarget`."""
        there = sorted(
            Stored(key.id, change.rev)
            for (workspace, key), change in self.records.items()
            if workspace == workspace_id and key.kind == kind and change.body is not None
        )
        begin = bisect.bisect_right(there, after, key=lambda each: each.id) if after else 0
        return there[begin : begin + limit]

    def fetch(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Change]:
        """See `SyncTarget`."""
        found = {each: self.records.get((workspace_id, Key(kind, each))) for each in ids}
        return {each: change for each, change in found.items() if change is not None and change.body is not None}

    def workspaces(self) -> list[str]:
        """See `SyncTarget`."""
        return sorted({workspace for (workspace, _), change in self.records.items() if change.body is not None})

    def ping(self) -> None:
        """It is always there."""

    def describe(self) -> TargetInfo:
        """See `SyncTarget`."""
        return TargetInfo("memory", "this process", {"records": len(self.records)})

    def close(self) -> None:
        """Keeps what it has."""
