"""Durable places in a workspace's log, by name: `cursors/<name>.json` holds the seq and id of what was dealt with last.

Invariant: a cursor only moves forward, is replaced atomically, and has one holder at a time among all processes.
Verified by `tests/unit/test_cursors.py` and `tests/processes/test_subscribers.py`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import NamedTuple

from nomad_sessions.errors import CorruptionError, InvalidInputError, SubscriptionClosedError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import make_folder, read_whole, replace_whole
from nomad_sessions.storage.lock import StoreLock, held
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.log import LogPosition

__all__ = ["Cursor", "CursorInfo", "delete_cursor", "list_cursors"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FOLDER = "cursors"
_PATIENCE = 0.05  # Seconds: who only asks whether a cursor is held has it for microseconds.


class CursorInfo(NamedTuple):
    """A durable cursor: its name, the seq that was dealt with last, and whether a subscription has it now."""

    name: str
    seq: int
    held: bool


class Cursor:
    """A held cursor. Safe for several threads. `position` is what was dealt with last, None before anything was."""

    def __init__(
        self,
        fs: FileSystem,
        folder: str,
        workspace_id: str,
        name: str,
        *,
        synced: bool,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes it; `synced` says whether `advance` is to survive a power cut: what it points at is made to by `flush`.

        Raises `InvalidInputError` for a name that is none, `LockTimeoutError` while another holds it.
        """
        self._folder = f"{folder}/{_FOLDER}"
        self._path, lock = _paths(folder, name)
        self.workspace_id = workspace_id
        self.name = name
        self._fs = fs
        self._synced = synced
        self._flush = flush
        with translated(folder):
            make_folder(fs, self._folder)
        self._lock = StoreLock(fs, lock)
        self._mutex = threading.Lock()
        self._lock.acquire(timeout=_PATIENCE)
        try:
            self.position = _read(fs, self._path)
        except BaseException:
            self._lock.close()
            raise

    def advance(self, seq: int, identifier: str) -> None:
        """Moves on to this record; does nothing for one that lies behind.

        Raises `SubscriptionClosedError` where it is not held any more: closed, in a forked child, or its file deleted
        with the workspace; and what writing does.
        """
        with self._mutex:
            self._check_held()
            if self.position is not None and seq <= self.position.seq:
                return
            if self._synced:
                self._flush()
            with translated(self._folder):
                replace_whole(self._fs, self._path, encode({"seq": seq, "id": identifier}), synced=self._synced)
            self.position = LogPosition(seq, identifier)

    def _check_held(self) -> None:
        if not self._lock.held or not self._lock.verify():
            raise SubscriptionClosedError(message=f"the cursor {self.name} of {self.workspace_id} is held here no more")

    @property
    def held(self) -> bool:
        """Whether it may still be moved here."""
        return self._lock.held

    @property
    def lock_path(self) -> str:
        """The file of its lock."""
        return self._lock.path

    def begin_anew(self) -> None:
        """The log is another one: whatever is acknowledged next lies ahead. Moves nothing by itself."""
        with self._mutex:
            self.position = None

    def forget(self) -> None:
        """Begins as if it were new, durably. Raises what `advance` does."""
        with self._mutex:
            self._check_held()
            with translated(self._folder):
                self._fs.unlink(self._path)
                self._fs.sync_dir(self._folder)
            self.position = None

    def close(self) -> None:
        """Lets go of it, when what is being acknowledged has been."""
        with self._mutex:
            self._lock.close()

    def after_fork(self) -> None:
        """In a forked child, where it is not held."""
        self._mutex = threading.Lock()


def list_cursors(fs: FileSystem, folder: str) -> list[CursorInfo]:
    """The cursors of the workspace in this folder, by name. Raises `CorruptionError`."""
    with translated(folder):
        found = sorted(name[:-5] for name in fs.listdir(f"{folder}/{_FOLDER}") if name.endswith(".json"))
    taken = held(fs, (f"{folder}/{_FOLDER}/{name}.lock" for name in found))
    infos = []
    for name in found:
        path, lock = _paths(folder, name)
        position = _read(fs, path)
        if position is not None:  # Else it was deleted since.
            infos.append(CursorInfo(name, position.seq, lock in taken))
    return infos


def delete_cursor(fs: FileSystem, folder: str, name: str) -> bool:
    """Forgets a cursor; False when there is none. Raises `LockTimeoutError` while a subscription has it."""
    path, lock_path = _paths(folder, name)
    with translated(folder):
        if fs.stat(path) is None:
            return False
    lock = StoreLock(fs, lock_path)
    lock.acquire(timeout=0)
    try:
        with translated(f"{folder}/{_FOLDER}"):
            there = fs.stat(path) is not None
            fs.unlink(path)
            fs.unlink(lock_path)
            fs.sync_dir(f"{folder}/{_FOLDER}")
    finally:
        lock.close()
    return there


def _paths(folder: str, name: object) -> tuple[str, str]:
    """Of a cursor's file, and of its lock."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        reason = "must be 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit"
        raise InvalidInputError(field="cursor", value=name, reason=reason)
    return f"{folder}/{_FOLDER}/{name}.json", f"{folder}/{_FOLDER}/{name}.lock"


def _read(fs: FileSystem, path: str) -> LogPosition | None:
    """What a cursor's file holds, None where there is none. Raises `CorruptionError`."""
    try:
        with translated(path):
            data = read_whole(fs, path)
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise CorruptionError(path=path, reason="it is a folder", hint="remove it to begin anew") from error
    try:
        value = decode(data)
        return LogPosition(int(value["seq"]), str(value["id"]))
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise CorruptionError(path=path, reason="it holds no position", hint="delete it to begin anew") from error
