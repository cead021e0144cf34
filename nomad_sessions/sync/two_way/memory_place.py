"""A common place in memory: for tests of those who build on places, and the shortest example of one."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Sequence

from nomad_sessions.sync.target import Key, Kind
from nomad_sessions.sync.two_way.place import Numbered, Settled
from nomad_sessions.sync.two_way.versions import Version

__all__ = ["MemoryPlace"]


class MemoryPlace:
    """Keeps the last version of each record in `versions`. May be given to several stores, on any threads."""

    def __init__(self, name: str = "memory") -> None:
        """`name` is its id, too. Nothing is in it yet."""
        self.name = name
        self.versions: dict[tuple[str, Key], Version] = {}
        self._changed: dict[tuple[str, Key], int] = {}
        self._moment = 0
        self._announced: dict[str, int] = {}
        self._forget()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._told = threading.Condition()

    def _turn(self) -> threading.Condition:
        if self._owner != os.getpid():  # A forked child has a copy of its own, and not the threads that may be in it.
            self._forget()
        return self._told

    def share(self, workspace_id: str) -> str:
        """See `Place`."""
        with self._turn():
            self._announced.setdefault(workspace_id, 0)
        return self.name

    def shared(self) -> list[str]:
        """See `Place`."""
        with self._turn():
            return sorted(self._announced)

    def read(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Version]:
        """See `Place`."""
        with self._turn():
            found = ((each, self.versions.get((workspace_id, Key(kind, each)))) for each in ids)
            return {name: version for name, version in found if version is not None}

    def messages_of(self, workspace_id: str, session_id: str) -> list[str]:
        """See `Place`."""
        with self._turn():
            return sorted(
                key.id
                for (workspace, key), version in self.versions.items()
                if (workspace, key.kind, version.session_id) == (workspace_id, "message", session_id)
                and version.body is not None
            )

    def write(self, workspace_id: str, versions: Sequence[Version]) -> Settled:
        """See `Place`."""
        overtaken = set()
        with self._turn():
            for version in versions:
                there = self.versions.get((workspace_id, version.key))
                if version.number == (0 if there is None else there.number) + 1:
                    self._moment += 1
                    self.versions[workspace_id, version.key] = version
                    self._changed[workspace_id, version.key] = self._moment
                else:
                    overtaken.add(version.key)
        return Settled(overtaken)

    def numbers(self, workspace_id: str, kind: Kind, since: int | None) -> tuple[list[Numbered], int]:
        """See `Place`."""
        with self._turn():
            found = [
                Numbered(key.id, version.number, version.body is None)
                for (workspace, key), version in self.versions.items()
                if (workspace, key.kind) == (workspace_id, kind)
                and (since is None or self._changed[workspace, key] > since)
            ]
            return sorted(found), self._moment

    def announce(self, workspace_id: str) -> None:
        """See `Place`."""
        with self._turn():
            self._announced[workspace_id] += 1
            self._told.notify_all()

    def announced(self, workspace_ids: Iterable[str]) -> dict[str, int]:
        """See `Place`."""
        with self._turn():
            return {each: self._announced[each] for each in workspace_ids if each in self._announced}

    def wait(self, seconds: float) -> bool:
        """See `Place`."""
        with self._turn():
            before = dict(self._announced)
            return self._told.wait_for(lambda: self._announced != before, seconds)

    def stop_waiting(self) -> None:
        """See `Place`."""
