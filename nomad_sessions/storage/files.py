"""Whole files and folders: reading one at once, making one so that it stays."""

from __future__ import annotations

import contextlib
import os

from nomad_sessions.storage._os import FileSystem

__all__ = ["make_folder", "read_whole"]


def read_whole(fs: FileSystem, path: str) -> bytes:
    """All bytes of a file. Raises `FileNotFoundError`, `PermissionError`, `OSError`."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.pread(fd, fs.fstat(fd).size, 0)
    finally:
        fs.close(fd)


def make_folder(fs: FileSystem, folder: str) -> None:
    """Makes a folder and those above it that are missing. Their names are durable on return. Raises `OSError`."""
    missing = []
    while fs.stat(folder) is None:
        missing.append(folder)
        folder = os.path.dirname(folder)
    if missing:
        # Whoever made the folder that is there may have died before its own name was durable.
        with contextlib.suppress(PermissionError):  # Not ours, so it was there before us.
            fs.sync_dir(os.path.dirname(folder))
    for each in reversed(missing):
        fs.mkdir(each, 0o700)
        fs.sync_dir(os.path.dirname(each))
