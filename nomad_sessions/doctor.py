"""Whether the places where the data lies are fit for it: `doctor` looks around the files, `check` inside them.

Changes nothing, takes no lock for longer than it needs to see that locks work, and goes on after what it cannot read:
that is a finding too.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from nomad_sessions.config import REGISTRY
from nomad_sessions.errors import (
    CorruptionError,
    CrossDeviceError,
    SnapshotUnreadableError,
    StorageError,
    UnsupportedFormatError,
)
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.snapshot import SnapshotChanged
from nomad_sessions.storage.surroundings import (
    Mount,
    cloud_client,
    is_network,
    looks_copied,
    mount_of,
    mounts_of_linux,
    mounts_of_macos,
    read_table,
)
from nomad_sessions.workspace import recovery
from nomad_sessions.workspace.checkpoint import refuse_target
from nomad_sessions.workspace.recovery import PREVIOUS, SNAPSHOT
from nomad_sessions.workspaces import known_folders

__all__ = ["DoctorReport", "Finding", "examine"]

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_DAY = 86_400_000
LARGE_QUARANTINE = 100 << 20
_RIGHTS = "check its owner and permissions"
_SERVED = "keep the data on a disk of this computer (--data-dir, NOMAD_SESSIONS_DIR)"


class Finding(NamedTuple):
    """One thing that is not as it should be: an `error` stops the store, a `warning` can cost data one day.

    `kind` is a word for programs, `path` the file or folder, `detail` what is wrong and `hint` what to do.
    """

    level: Literal["error", "warning"]
    kind: str
    path: str
    detail: str
    hint: str


class DoctorReport(NamedTuple):
    """What `doctor` found, and how many workspaces it looked at."""

    data_dir: str
    workspaces: int
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def examine(fs: FileSystem, data_dir: str, workspaces: Callable[[], list[str]], now: int) -> DoctorReport:
    """Looks at the data folder and at each of the workspaces. `now` in ms. Cost: an open of each, a list of names."""
    findings = list(_data_dir(fs, data_dir))
    workspace_ids: list[str] = []
    if not findings:
        workspace_ids = workspaces()
        mounts = _mounts(fs)
        folders = [data_dir, *(f"{data_dir}/{each}" for each in workspace_ids)]
        seen: set[str] = set()
        for folder in folders:
            where = _where(fs, folder)
            if where not in seen and os.path.dirname(where) not in seen:
                findings += _place(fs, folder, where, mounts)
            seen.add(where)
        findings += _copies(fs, data_dir, [REGISTRY])
        findings += _registry(fs, data_dir)
        for folder in folders[1:]:
            try:
                findings += _workspace(fs, folder, now)
            except PermissionError as error:
                findings.append(Finding("error", "unreadable", folder, f"it cannot be read: {error.strerror}", _RIGHTS))
            except OSError as error:
                detail = f"{error.filename or folder} cannot be read: {error.strerror or error}"
                findings.append(Finding("error", "unreadable", folder, detail, "see what stands there"))
    return DoctorReport(data_dir, len(workspace_ids), findings)


def _data_dir(fs: FileSystem, data_dir: str) -> Iterator[Finding]:
    hint = f"choose another folder (--data-dir, NOMAD_SESSIONS_DIR), or {_RIGHTS}"
    try:
        stat = fs.stat(data_dir)
        if stat is not None and not stat_bits.S_ISDIR(stat.mode):
            yield Finding("error", "not-a-folder", data_dir, "the data folder is a file", hint)
        elif stat is not None:
            fs.listdir(data_dir)
    except OSError as error:
        yield Finding("error", "unreadable", data_dir, f"it cannot be read: {error.strerror or error}", hint)


def _registry(fs: FileSystem, data_dir: str) -> Iterator[Finding]:
    """Whether it can be told which project folder belongs to which workspace."""
    path = f"{data_dir}/{REGISTRY}"
    hint = "restore it; or remove it, and say with nomad-sessions relink which folder is whose"
    try:
        known_folders(fs, data_dir)
    except CorruptionError as error:
        yield Finding("error", "damaged-registry", path, error.reason, hint)
    except (StorageError, OSError) as error:
        yield Finding("error", "damaged-registry", path, str(error), hint)


def _mounts(fs: FileSystem) -> list[Mount]:
    if sys.platform == "darwin":
        listed = subprocess.run(["/sbin/mount"], capture_output=True, text=True, errors="replace", check=False)
        return mounts_of_macos(listed.stdout)
    return mounts_of_linux(read_table(fs))


def _where(fs: FileSystem, folder: str) -> str:
    """The folder with links followed; of one that is not there yet, the nearest above it that is."""
    while fs.stat(folder) is None:
        folder = os.path.dirname(folder)
    return fs.resolve(folder)


def _place(fs: FileSystem, folder: str, where: str, mounts: list[Mount]) -> Iterator[Finding]:
    mount = mount_of(where, mounts)
    if where.startswith(("\\\\", "//")):
        yield Finding("warning", "network", folder, "it is a folder of another computer", _SERVED)
    elif mount is not None and is_network(mount.kind):
        detail = f"it lies on {mount.source}, mounted at {mount.point} as {mount.kind}: locks and syncs may not hold"
        yield Finding("warning", "network", folder, detail, _SERVED)
    marked, above = [], where
    while True:
        marked += [(above, name) for name in _names(fs, above)]
        if above == os.path.dirname(above):
            break
        above = os.path.dirname(above)
    client = cloud_client(where, marked)
    if client is not None:
        detail = f"{client} syncs this folder: it copies files in the middle of a write, and makes copies of its own"
        yield Finding("warning", "cloud-sync", folder, detail, _SERVED)


def _names(fs: FileSystem, folder: str) -> list[str]:
    try:
        return fs.listdir(folder)
    except OSError:  # A folder above ours that we may pass through and not list has no marker that we could see.
        return []


def _copies(fs: FileSystem, folder: str, ours: list[str]) -> Iterator[Finding]:
    for name in sorted(_names(fs, folder)):
        own = looks_copied(name, ours)
        if own is not None:
            detail = f"a syncing client, or somebody, made this copy of {own}; the store does not read it"
            hint = "compare it (nomad-sessions import takes a sessions.json), then move it away"
            yield Finding("warning", "conflict-copy", f"{folder}/{name}", detail, hint)


def _workspace(fs: FileSystem, folder: str, now: int) -> Iterator[Finding]:
    yield from _copies(fs, folder, [SNAPSHOT, PREVIOUS, "lock"])
    names = _names(fs, f"{folder}/journal")
    segments = [name for name in names if name.endswith(".jsonl") and name[:-6].isdigit()]
    yield from _copies(fs, f"{folder}/journal", segments)
    yield from _rights(fs, folder)
    yield from _quarantine(fs, folder)
    yield from _locks(fs, f"{folder}/lock")
    try:
        opened = recovery.load(fs, folder, wait=False)
        newest = max((row.updated_at for row in opened.view.summaries().values()), default=0)
    except UnsupportedFormatError as error:
        hint = "install the version that wrote it, or a newer one"
        yield Finding("error", "newer-format", error.path, str(error), hint)
        return
    except (StorageError, SnapshotChanged, OSError) as error:
        hint = "nomad-sessions check says where, and nomad-sessions repair mends"
        yield Finding("error", "damaged", folder, str(error), hint)
        return
    if opened.unreadable is not None:
        hint = "nothing of ours is lost: the journal has it. If no program is writing that file, restore or remove it"
        yield Finding("warning", "unreadable-snapshot", f"{folder}/{SNAPSHOT}", opened.unreadable, hint)
    try:
        refuse_target(fs, folder)
    except CrossDeviceError as error:
        yield Finding("error", "cross-device", error.path, str(error), "the journal has everything meanwhile")
    except SnapshotUnreadableError as error:
        if opened.unreadable is None:
            yield Finding("error", "dangling-link", error.path, error.reason, "the journal has everything meanwhile")
    if newest > now + _DAY:
        detail = "a session was changed after what this computer's clock says now"
        yield Finding("warning", "clock", folder, detail, "set the clock: lists are sorted by time")


def _quarantine(fs: FileSystem, folder: str) -> Iterator[Finding]:
    kept = f"{folder}/quarantine"
    stats = [fs.stat(f"{kept}/{name}") for name in _names(fs, kept)]
    size = sum(stat.size for stat in stats if stat is not None)
    if size > LARGE_QUARANTINE:
        detail = f"what merges and repairs took out is {size >> 20} MiB in {len(stats)} files"
        yield Finding("warning", "quarantine", kept, detail, "look what it is, and delete what you do not need")


def _rights(fs: FileSystem, folder: str) -> Iterator[Finding]:
    stat = fs.stat(folder)
    if os.name == "posix" and stat is not None and stat.mode & 0o077:
        detail = f"other users of this computer can read the conversations (mode {stat_bits.S_IMODE(stat.mode):o})"
        yield Finding("warning", "permissions", folder, detail, f"chmod 700 {folder!r}, if that is not meant")


def _locks(fs: FileSystem, path: str) -> Iterator[Finding]:
    """Whether the kernel keeps locks here, and whether we may write."""
    try:
        fd = fs.open(path, os.O_RDWR)
    except FileNotFoundError:
        return
    except OSError as error:
        hint = "reading works; to write, check the permissions, or remount the disk"
        yield Finding("warning", "read-only", path, f"it cannot be written: {error.strerror or error}", hint)
        return
    try:
        if fs.lock(fd):
            fs.unlock(fd)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        yield Finding("error", "no-locks", path, f"this file system keeps no locks: {error.strerror}", _SERVED)
    finally:
        fs.close(fd)
