"""Durable places in a workspace's log, by name: `cursors/<name>.json` holds the seq and id of what was dealt with last.

Invariant: a cursor only moves forward, is replaced atomically, and has one holder at a time among all processes.
Verified by `tests/unit/test_cursors.py` and `tests/processes/test_subscribers.py`.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from nomad_sessions.errors import CorruptionError, InvalidInputError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import make_folder, read_whole
from nomad_sessions.storage.lock import StoreLock
from nomad_sessions.workspace.faults import translated

__all__ = ["Cursor", "Position"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Position(NamedTuple):
    """What was dealt with last: its seq, and its id ("" for a delta, which has none)."""

    seq: int
    id: str


class Cursor:
    """A held cursor. Not for several threads at once."""

    def __init__(self, fs: FileSystem, folder: str, workspace_id: str, name: str, *, synced: bool) -> None:
        """Takes it; `synced` says whether `advance` is to survive a power cut.

        Raises `InvalidInputError` for a name that is none, `LockTimeoutError` while another holds it.
        """
        if not _NAME.fullmatch(name):
            reason = "must be 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit"
            raise InvalidInputError(field="cursor", value=name, reason=reason)
        self.workspace_id = workspace_id
        self.name = name
        self._fs = fs
        self._folder = f"{folder}/cursors"
        self._path = f"{self._folder}/{name}.json"
        self._synced = synced
        with translated(folder):
            make_folder(fs, self._folder)
        self._lock = StoreLock(fs, f"{self._folder}/{name}.lock")
        self._lock.acquire(timeout=0)
        try:
            self.position = self._read()
        except BaseException:
            self._lock.close()
            raise

    def advance(self, seq: int, identifier: str) -> None:
        """Moves on to this record; does nothing for one that lies behind."""
        if self.position is not None and seq <= self.position.seq:
            return
        temporary = f"{self._path}.tmp"
        with translated(self._folder):
            fd = self._fs.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                self._fs.pwrite_all(fd, encode({"seq": seq, "id": identifier}), 0)
                if self._synced:
                    self._fs.sync(fd)
            finally:
                self._fs.close(fd)
            self._fs.replace(temporary, self._path)
            if self._synced:
                self._fs.sync_dir(self._folder)
        self.position = Position(seq, identifier)

    def close(self) -> None:
        """Lets go of it."""
        self._lock.close()

    def _read(self) -> Position | None:
        try:
            data = read_whole(self._fs, self._path)
        except FileNotFoundError:
            return None
        try:
            value = decode(data)
            return Position(int(value["seq"]), str(value["id"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptionError(
                path=self._path, reason="it holds no position", hint="delete it to begin anew"
            ) from error
