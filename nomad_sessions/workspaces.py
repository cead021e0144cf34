"""Which workspace belongs to which project folder.

Invariant: a folder keeps its workspace id for ever, whatever subfolder is asked from, and a moved project can be linked
again: the id is remembered in `workspaces.json` beside the workspaces, replaced atomically under a lock.
"""

from __future__ import annotations

import hashlib
import os
import re

from nomad_sessions.errors import CorruptionError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.lock import StoreLock

__all__ = ["REGISTRY", "find_project", "known_folders", "link", "workspace_id_of"]

REGISTRY = "workspaces.json"


def known_folders(fs: FileSystem, data_dir: str) -> dict[str, str]:
    """Folder -> workspace id, as remembered. Raises `CorruptionError` when the registry cannot be read."""
    path = f"{data_dir}/{REGISTRY}"
    try:
        fd = fs.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return {}
    try:
        raw = fs.pread(fd, fs.fstat(fd).size, 0)
    finally:
        fs.close(fd)
    try:
        found = decode(raw)["folders"]
        return {str(key): str(value) for key, value in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptionError(path=path, reason=f"it is no list of folders ({error})", hint="restore or remove it") from error


def find_project(fs: FileSystem, folder: str, known: dict[str, str]) -> str:
    """The project that a folder lies in: the nearest known folder, then the nearest git root, then the folder itself."""
    folder = fs.resolve(os.path.abspath(folder))
    parents = [folder]
    while os.path.dirname(parents[-1]) != parents[-1]:
        parents.append(os.path.dirname(parents[-1]))
    for each in parents:
        if each in known:
            return each
    for each in parents:
        if fs.stat(f"{each.rstrip(os.sep)}/.git") is not None:
            return each
    return folder


def workspace_id_of(folder: str) -> str:
    """The id that a folder gets: its name, made safe, and 12 hex digits of its path's SHA-256."""
    name = re.sub(r"[^a-z0-9]+", "-", os.path.basename(folder).lower()).strip("-")[:40] or "root"
    digest = hashlib.sha256(os.path.normcase(folder).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{name}-{digest[:12]}"


def link(fs: FileSystem, data_dir: str, folder: str, workspace_id: str, timeout: float) -> None:
    """Remembers that `folder` belongs to this workspace; another folder that did is forgotten. Durable on return."""
    lock = StoreLock(fs, f"{data_dir}/{REGISTRY}.lock", timeout)
    lock.acquire()
    try:
        folders = {key: value for key, value in known_folders(fs, data_dir).items() if value != workspace_id}
        folders[folder] = workspace_id
        path = f"{data_dir}/{REGISTRY}"
        temporary = f"{path}.{os.getpid()}.tmp"
        fs.unlink(temporary)
        fd = fs.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fs.pwrite_all(fd, encode({"folders": folders}) + b"\n", 0)
            fs.sync(fd)
        finally:
            fs.close(fd)
        fs.replace(temporary, path)
        fs.sync_dir(data_dir)
    finally:
        lock.release()
        lock.close()
