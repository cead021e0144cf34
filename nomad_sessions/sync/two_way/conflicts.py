"""Where two machines changed the same, neither knowing of the other: `sync/<target>-conflicts.json` in a workspace's
folder, with what was not kept.

Invariant: what a change of ours loses, or makes another machine lose, is written here before it is. Each is there once.
Verified by `tests/unit/test_conflicts.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nomad_sessions.errors import CorruptionError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import make_folder, read_whole, replace_whole
from nomad_sessions.sync.dead_letters import FOLDER
from nomad_sessions.sync.target import Key
from nomad_sessions.sync.two_way.joining import Loss
from nomad_sessions.workspace.faults import translated

__all__ = ["Conflict", "Conflicts"]


class Conflict(NamedTuple):
    """Of which record, and which field of it ("" where one of the two deleted it); what was kept and what was not, as
    the fields of the record, None for its deletion; which other machine, and when it made its change and when this was
    found (ms)."""

    key: Key
    field: str
    kept: Mapping[str, Any] | None
    lost: Mapping[str, Any] | None
    machine: str
    changed_at: int
    at: int


class Conflicts:
    """Those of one workspace and target. Not for several threads at once."""

    def __init__(self, fs: FileSystem, folder: str, target: str) -> None:
        """Raises `CorruptionError` for a file that holds none."""
        self._fs = fs
        self._folder = f"{folder}/{FOLDER}"
        self._path = f"{self._folder}/{target}-conflicts.json"

    def all(self) -> list[Conflict]:
        """In the order in which they were found."""
        try:
            data = read_whole(self._fs, self._path)
        except FileNotFoundError:
            return []
        try:
            return [Conflict(Key(kind, str(name)), *rest) for kind, name, *rest in decode(data)["conflicts"]]
        except (ValueError, KeyError, TypeError) as error:
            hint = "move it away: nothing else depends on it"
            raise CorruptionError(path=self._path, reason="it holds no list of conflicts", hint=hint) from error

    def note(self, losses: Iterable[tuple[Key, Loss]], now: int) -> None:
        """Adds these, without those that are there. Durable on return."""
        fresh = [
            Conflict(key, loss.field, loss.kept, loss.lost, loss.other.machine, loss.other.time, now)
            for key, loss in losses
        ]
        if fresh:
            before = self.all()
            there = {_identity(each) for each in before}
            self._write([*before, *(each for each in fresh if _identity(each) not in there)])

    def forget_all(self) -> int:
        """Takes them out: somebody has looked at them. Returns how many. Durable on return."""
        count = len(self.all())
        if count:
            self._write([])
        return count

    def _write(self, conflicts: list[Conflict]) -> None:
        rows = [[*each.key, *each[1:]] for each in conflicts]
        with translated(self._folder):
            make_folder(self._fs, self._folder)
            replace_whole(self._fs, self._path, encode({"conflicts": rows}))


def _identity(conflict: Conflict) -> bytes:
    return encode([*conflict.key, *conflict[1:-1]])
