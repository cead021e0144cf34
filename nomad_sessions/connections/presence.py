"""Who is connected to which session: `connections/<name>.json` says it, the lock of `<name>.lock` beside it proves it.

Invariant: a client counts while its process holds its lock, which the kernel frees when that dies; of those that count
and have not expired, an exclusive one is the only one of its session. Who connects decides under `connections/lock`.
Verified by `tests/unit/test_presence.py` and `tests/processes/test_connections.py`.

What a lock cannot tell is whether a process that lives still does anything (it may be stopped, or hang). A client that
says `expires_after` promises a heartbeat that often; when it is late, it is still connected, but in nobody's way. The
age of a heartbeat is read from the monotonic clock, which the processes of one machine share from one boot to the next,
and no lock outlives a boot: so no clock that jumps expires anybody. Nothing here is synced: it is no data of anybody's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from nomad_sessions.errors import SessionInUseError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import read_whole, replace_whole
from nomad_sessions.storage.lock import StoreLock, held
from nomad_sessions.workspace.faults import translated

__all__ = ["FOLDER", "ConnectionInfo", "Presence", "connect", "connected"]

FOLDER = "connections"
_GUARD = "lock"
_LOCK = ".lock"


class ConnectionInfo(NamedTuple):
    """A client that is connected to a session. `since` is in ms, by its clock.

    `heartbeat_age` is in seconds; with `expires_after` (seconds) it says whether the client is late: `expired`.
    """

    id: str
    workspace_id: str
    session_id: str
    client: str
    exclusive: bool
    pid: int
    machine: str
    since: int
    expires_after: float | None
    heartbeat_age: float

    @property
    def expired(self) -> bool:
        """Whether its heartbeat is late, so that others may take its place."""
        return self.expires_after is not None and self.heartbeat_age > self.expires_after


class Presence:
    """A client's own entry. The lock is held while this is; in a forked child it is nobody's."""

    def __init__(self, fs: FileSystem, folder: str, info: ConnectionInfo, lock: StoreLock, timeout: float) -> None:
        self.info = info
        self._fs = fs
        self._folder = folder
        self._lock = lock
        self._timeout = timeout

    def counts(self) -> bool:
        """Whether nobody has taken its place, nor removed the workspace."""
        with translated(self._folder):
            return self._fs.stat(f"{self._folder}/{self.info.id}.json") is not None

    def beat(self) -> bool:
        """Says that the client lives; False, with nothing said, when it does not count any more."""
        if not self.counts():
            return False
        with translated(self._folder), _guarded(self._fs, self._folder, self._timeout):
            if not self.counts():
                return False
            _write(self._fs, self._folder, self.info)
            return True

    def leave(self) -> None:
        """Is not connected any more. May be called twice."""
        path = f"{self._folder}/{self.info.id}"
        self._lock.close()  # First of all: whatever happens then, the lock is free.
        with contextlib.suppress(OSError):  # Files that stay say nothing once the lock is free.
            self._fs.unlink(f"{path}.json")
            self._fs.unlink(f"{path}.lock")


def connect(fs: FileSystem, workspace: str, info: ConnectionInfo, timeout: float) -> Presence:
    """Connects a client to a session of a workspace that is there. Raises `SessionInUseError`, `LockTimeoutError`."""
    folder = f"{workspace}/{FOLDER}"
    with translated(folder):
        fs.mkdir(folder, 0o700)
        with _guarded(fs, folder, timeout):
            living = _held(fs, folder)
            others = [each for each in _told(fs, folder, living) if each.session_id == info.session_id]
            rivals = [each for each in others if info.exclusive or each.exclusive]
            holders = tuple(each for each in rivals if not each.expired)
            if holders:
                raise SessionInUseError(session_id=info.session_id, holders=holders)
            _sweep(fs, folder, living)
            for each in rivals:  # Late, and in the way: from now on they do not count, whatever they do.
                fs.unlink(f"{folder}/{each.id}.json")
            lock = StoreLock(fs, f"{folder}/{info.id}.lock")
            try:
                lock.acquire(timeout=0)
                _write(fs, folder, info)  # Only now is it seen: whoever sees it finds the lock held.
            except BaseException:
                lock.close()
                raise
    return Presence(fs, folder, info, lock, timeout)


def connected(fs: FileSystem, workspace: str) -> list[ConnectionInfo]:
    """Who is connected to the sessions of a workspace, by session and client. Changes no file."""
    with translated(workspace):
        folder = f"{workspace}/{FOLDER}"
        return _told(fs, folder, _held(fs, folder))


@contextlib.contextmanager
def _guarded(fs: FileSystem, folder: str, timeout: float) -> Iterator[None]:
    guard = StoreLock(fs, f"{folder}/{_GUARD}", timeout)
    try:
        with guard:
            yield
    finally:
        guard.close()


def _held(fs: FileSystem, folder: str) -> set[str]:
    """The ids of the clients that live."""
    ids = {identifier for identifier, ending in map(os.path.splitext, fs.listdir(folder)) if ending}
    return {os.path.basename(path)[: -len(_LOCK)] for path in held(fs, [f"{folder}/{each}{_LOCK}" for each in ids])}


def _sweep(fs: FileSystem, folder: str, living: set[str]) -> None:
    """Removes what the dead left. Under the guard: nobody is about to connect."""
    for name in fs.listdir(folder):
        identifier, ending = os.path.splitext(name)
        if ending and identifier not in living:
            fs.unlink(f"{folder}/{name}")


def _write(fs: FileSystem, folder: str, info: ConnectionInfo) -> None:
    facts: dict[str, Any] = {
        "workspaceId": info.workspace_id,
        "sessionId": info.session_id,
        "client": info.client,
        "mode": "exclusive" if info.exclusive else "shared",
        "pid": info.pid,
        "machine": info.machine,
        "since": info.since,
        "expiresAfter": info.expires_after,
        "heartbeat": fs.monotonic(),
    }
    replace_whole(fs, f"{folder}/{info.id}.json", encode(facts), synced=False)


def _told(fs: FileSystem, folder: str, ids: set[str]) -> list[ConnectionInfo]:
    found = [info for info in (_read(fs, folder, each) for each in ids) if info is not None]
    return sorted(found, key=lambda each: (each.session_id, each.client, each.pid, each.id))


def _read(fs: FileSystem, folder: str, identifier: str) -> ConnectionInfo | None:
    """What a client says of itself; None when it has just left, or somebody else wrote the file."""
    try:
        facts = decode(read_whole(fs, f"{folder}/{identifier}.json"))
        return ConnectionInfo(
            id=identifier,
            workspace_id=str(facts["workspaceId"]),
            session_id=str(facts["sessionId"]),
            client=str(facts["client"]),
            exclusive=facts["mode"] != "shared",
            pid=int(facts["pid"]),
            machine=str(facts["machine"]),
            since=int(facts["since"]),
            expires_after=None if facts["expiresAfter"] is None else float(facts["expiresAfter"]),
            heartbeat_age=max(0.0, fs.monotonic() - float(facts["heartbeat"])),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
