"""What a target will never take as it is, with the reason: `sync/<target>.json` in a workspace's folder.

Invariant: a record that a target refused is named here before the target's place in the log moves beyond it, and until
it was taken, in whatever state, or somebody forgot it. Verified by `tests/unit/test_outbox.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nomad_sessions.errors import CorruptionError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import make_folder, read_whole, replace_whole
from nomad_sessions.sync.target import Key, Rejected
from nomad_sessions.workspace.faults import translated

__all__ = ["FOLDER", "DeadLetter", "DeadLetters"]

FOLDER = "sync"


class DeadLetter(NamedTuple):
    """A record that a target refused: which, in which state, why, how often, and when last (ms)."""

    key: Key
    rev: int
    reason: str
    attempts: int
    at: int


class DeadLetters:
    """Those of one workspace and target. Not for several threads at once."""

    def __init__(self, fs: FileSystem, folder: str, target: str) -> None:
        """Raises `CorruptionError` for a file that holds none."""
        self._fs = fs
        self._folder = f"{folder}/{FOLDER}"
        self._path = f"{self._folder}/{target}.json"
        self._letters = self._read()

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(list(self._letters.values()))

    def __len__(self) -> int:
        return len(self._letters)

    def note(self, rejected: Iterable[Rejected], taken: Iterable[Key], now: int) -> None:
        """Adds those that were refused, and takes out what was taken. Durable on return; cheap when nothing changes."""
        letters = dict(self._letters)
        for key in taken:
            letters.pop(key, None)
        for each in rejected:
            known = letters.get(each.key)
            attempts = 1 if known is None else known.attempts + 1
            letters[each.key] = DeadLetter(each.key, each.rev, each.reason, attempts, now)
        if letters != self._letters:
            self._write(letters)
            self._letters = letters

    def _write(self, letters: dict[Key, DeadLetter]) -> None:
        rows = [[*each.key, *each[1:]] for each in letters.values()]
        with translated(self._folder):
            make_folder(self._fs, self._folder)
            replace_whole(self._fs, self._path, encode({"dead": rows}))

    def _read(self) -> dict[Key, DeadLetter]:
        try:
            data = read_whole(self._fs, self._path)
        except FileNotFoundError:
            return {}
        try:
            found = [DeadLetter(Key(kind, str(name)), *rest) for kind, name, *rest in decode(data)["dead"]]
        except (ValueError, KeyError, TypeError) as error:
            hint = "delete it, and `sync verify` finds what it named"
            raise CorruptionError(path=self._path, reason="it holds no list of records", hint=hint) from error
        return {each.key: each for each in found}
