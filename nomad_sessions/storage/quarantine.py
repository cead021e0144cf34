"""Where bytes go that recovery or a merge takes out: kept under `quarantine/`, never deleted by us.

Invariant: the bytes are synced, name included, before the caller removes them anywhere else. Verified by
`tests/crash/` (a torn tail is in quarantine after every crash) and `tests/unit/test_quarantine.py`.
"""

from __future__ import annotations

import os

from nomad_sessions.storage._os import FileSystem

__all__ = ["keep"]


def keep(fs: FileSystem, workspace: str, name: str, data: bytes) -> str:
    """Writes `data` to `quarantine/<name>` (a number is added where the name is taken); returns the path.

    Durable on return. Raises `OSError` when it cannot be kept: then nothing may be taken out.
    """
    folder = f"{workspace}/quarantine"
    if fs.mkdir(folder, 0o700):
        fs.sync_dir(workspace)
    number = 0
    while True:
        path = f"{folder}/{name}.{number}" if number else f"{folder}/{name}"
        try:
            fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            break
        except FileExistsError:
            number += 1
    try:
        fs.pwrite_all(fd, data, 0)
        fs.sync(fd)
    finally:
        fs.close(fd)
    fs.sync_dir(folder)
    return path
