"""Where bytes go that recovery or a merge takes out: kept under `quarantine/`.

Nothing there is deleted by us but what `drop` is told to, which is called for other programs' files all of which is in
the store.

Invariant: the bytes are synced, name included, before the caller removes them anywhere else. Verified by
`tests/crash/` (a torn tail is in quarantine after every crash) and `tests/unit/test_quarantine.py`.
"""

from __future__ import annotations

import contextlib
import os

from nomad_sessions.storage._os import FileSystem

__all__ = ["drop", "keep"]


def keep(fs: FileSystem, workspace: str, name: str, data: bytes) -> str:
    """Writes `data` to `quarantine/<name>` (a number is added where the name is taken); returns the path.

    Durable on return. Raises `OSError` when it cannot be kept: then nothing may be taken out.
    """
    folder = _folder(fs, workspace)
    path, fd = _new(fs, f"{folder}/{name}")
    try:
        fs.pwrite_all(fd, data, 0)
        fs.sync(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            fs.unlink(path)
        raise
    finally:
        fs.close(fd)
    fs.sync_dir(folder)
    return path


def drop(fs: FileSystem, workspace: str, name: str) -> None:
    """Removes one file of it. What cannot be removed stays; not durable."""
    with contextlib.suppress(OSError):
        fs.unlink(f"{workspace}/quarantine/{name}")


def _folder(fs: FileSystem, workspace: str) -> str:
    folder = f"{workspace}/quarantine"
    fs.mkdir(folder, 0o700)
    # Also where it was there: a process that died may have made it and not synced its name.
    fs.sync_dir(workspace)
    return folder


def _new(fs: FileSystem, wanted: str) -> tuple[str, int]:
    """Creates the file, or one with a number after its name; the path and an open descriptor."""
    number = 0
    while True:
        path = f"{wanted}.{number}" if number else wanted
        try:
            return path, fs.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            number += 1
