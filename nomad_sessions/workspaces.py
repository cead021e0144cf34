"""Which workspace belongs to which project folder.

Invariant: a folder keeps its workspace id for ever, whatever subfolder is asked from, and a moved project can be linked
again: the id is remembered in `workspaces.json` beside the workspaces, replaced atomically under a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import stat as stat_bits
from typing import Any

from nomad_sessions.config import REGISTRY
from nomad_sessions.errors import CorruptionError, InvalidInputError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.files import read_whole, replace_whole
from nomad_sessions.storage.lock import StoreLock
from nomad_sessions.workspace.faults import translated

__all__ = [
    "check_settings",
    "find_project",
    "folder_of",
    "known_folders",
    "link",
    "remember",
    "workspace_id_of",
]

_MOST = 1 << 53  # of bytes or days: what a float still counts in ones


def known_folders(fs: FileSystem, data_dir: str) -> dict[str, str]:
    """Folder -> workspace id, as remembered. Raises `CorruptionError` when the registry cannot be read."""
    path = f"{data_dir}/{REGISTRY}"
    try:
        with translated(path):
            raw = read_whole(fs, path)
    except FileNotFoundError:
        return {}
    try:
        found = decode(raw)["folders"]
        return {str(key): str(value) for key, value in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"it is no list of folders ({error})"
        raise CorruptionError(path=path, reason=reason, hint="restore or remove it") from error


def folder_of(fs: FileSystem, path: object) -> str:
    """A path that a caller gave, absolute and without symlinks; of a file, its folder. Raises `InvalidInputError`."""
    given = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not isinstance(given, str) or not given or "\0" in given:
        raise InvalidInputError(field="path", value=path, reason="must be the path of a folder")
    folder = fs.resolve(os.path.abspath(given))
    with translated(folder):
        stat = fs.stat(folder)
    return os.path.dirname(folder) if stat is not None and not stat_bits.S_ISDIR(stat.mode) else folder


def find_project(fs: FileSystem, folder: str, known: dict[str, str]) -> str:
    """The project that a folder lies in: the nearest known folder, else the nearest git root, else itself."""
    parents = [folder]
    while os.path.dirname(parents[-1]) != parents[-1]:
        parents.append(os.path.dirname(parents[-1]))
    for each in parents:
        if each in known:
            return each
    for each in parents:
        # A folder that may not be looked into is nobody's git root that we could see.
        with contextlib.suppress(PermissionError):
            if fs.stat(f"{each.rstrip(os.sep)}/.git") is not None:
                return each
    return folder


def workspace_id_of(folder: str, known: dict[str, str]) -> str:
    """The id that a folder gets: its name, made safe, and 12 hex digits of its path's SHA-256.

    Another one where that id belongs to another folder: a project that was moved away from here took it along.
    """
    name = re.sub(r"[^a-z0-9]+", "-", os.path.basename(folder).lower()).strip("-")[:40] or "root"
    digest = hashlib.sha256(os.path.normcase(folder).encode("utf-8", "surrogateescape")).hexdigest()
    found = f"{name}-{digest[:12]}"
    taken = {each for path, each in known.items() if path != folder}
    numbered = (f"{found}-{number}" for number in itertools.count(2))
    return found if found not in taken else next(each for each in numbered if each not in taken)


def remember(fs: FileSystem, data_dir: str, folder: str, timeout: float) -> str:
    """The id of a project folder, chosen and remembered now unless another process has done so. Durable on return."""
    with contextlib.closing(StoreLock(fs, f"{data_dir}/{REGISTRY}.lock", timeout)) as lock, lock:
        known = known_folders(fs, data_dir)
        if folder not in known:
            known[folder] = workspace_id_of(folder, known)
            _write(fs, data_dir, known)
    return known[folder]


def link(fs: FileSystem, data_dir: str, folder: str, workspace_id: str, timeout: float) -> None:
    """Remembers that `folder` belongs to this workspace; another folder that did is forgotten. Durable on return."""
    with contextlib.closing(StoreLock(fs, f"{data_dir}/{REGISTRY}.lock", timeout)) as lock, lock:
        folders = {key: value for key, value in known_folders(fs, data_dir).items() if value != workspace_id}
        _write(fs, data_dir, {**folders, folder: workspace_id})


def _write(fs: FileSystem, data_dir: str, folders: dict[str, str]) -> None:
    replace_whole(fs, f"{data_dir}/{REGISTRY}", encode({"folders": folders}) + b"\n")


def check_settings(settings: dict[str, Any]) -> None:
    """Raises `InvalidInputError` for a setting that is none, or has no such value."""
    for key, value in settings.items():
        if key == "fold":
            fits = value in ("auto", "always")
        elif key == "retention":
            fits = isinstance(value, dict) and value.keys() <= {"bytes", "days"} and all(map(_is_count, value.values()))
        else:
            raise InvalidInputError(field=key, value=value, reason="is no setting: fold, retention")
        if not fits:
            allowed = '"auto" or "always"' if key == "fold" else 'a dict with "bytes" and "days", from 0'
            raise InvalidInputError(field=key, value=value, reason=f"must be {allowed}")


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST
