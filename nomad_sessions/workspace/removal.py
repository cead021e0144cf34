"""Deleting a workspace: under its lock, its files by name, the folder last."""

from __future__ import annotations

import contextlib
import os

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.store import Workspace

__all__ = ["remove_workspace"]

_FOLDERS = ("journal", "events", "attachments", "cursors", "quarantine", "streams", "connections", "sync")


def remove_workspace(fs: FileSystem, workspace: Workspace) -> None:
    """Removes everything that is ours in the folder, and the folder when nothing else is in it. Durable on return.

    `sessions.json.prev` goes before `sessions.json`, and both after the journal's first segment: what a crash leaves is
    an older state of the workspace or an error, never half of it as if it were whole.
    """
    folder = workspace.folder
    with workspace.locked(), workspace.guarded():
        for name in ("sessions.json.prev", "sessions.json"):
            fs.unlink(f"{folder}/{name}")
        fs.sync_dir(folder)
        for each in _FOLDERS:
            for name in sorted(fs.listdir(f"{folder}/{each}")):
                fs.unlink(f"{folder}/{each}/{name}")
            fs.remove_dir(f"{folder}/{each}")
        for name in fs.listdir(folder):
            if name.startswith(("sessions.json.", "index.sqlite")):
                fs.unlink(f"{folder}/{name}")
        fs.unlink(f"{folder}/lock")
    with contextlib.suppress(OSError):  # Somebody's own files may be there: then the folder stays, with them.
        fs.remove_dir(folder)
    fs.sync_dir(os.path.dirname(folder))
