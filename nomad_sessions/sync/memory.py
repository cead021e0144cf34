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
        self._ended: dict[tuple[str, str], int] = {}

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        """See `SyncTarget`."""
        for each in changes:
            change = each if force else self._unless_ended(each)
            known = self.records.get((change.workspace_id, change.key))
            if change.key.kind == "session":
                self._note_end(change, force=force)
            if force or known is None or known.rev < change.rev:
                self.records[change.workspace_id, change.key] = change
        return Applied(len(changes))

    def _unless_ended(self, change: Change) -> Change:
        """A message of a session that has ended since is gone."""
        ended = self._ended.get((change.workspace_id, change.session_id or ""), -1)
        late = change.key.kind == "message" and change.rev < ended
        return change._replace(rev=ended, body=None) if late else change

    def _note_end(self, session: Change, *, force: bool) -> None:
        place = (session.workspace_id, session.key.id)
        if force:
            self._ended.pop(place, None)
        if session.body is None and self._ended.get(place, -1) < session.rev:
            self._ended[place] = session.rev
            self._drop_messages(session)

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
        return TargetInfo("memory", f"object {id(self):x} of this process", {"records": len(self.records)})

    def close(self) -> None:
        """Keeps what it has."""
