"""Reading a file as a whole."""

from __future__ import annotations

import os

from nomad_sessions.storage._os import FileSystem

__all__ = ["read_whole"]


def read_whole(fs: FileSystem, path: str) -> bytes:
    """All bytes of a file. Raises `FileNotFoundError`, `PermissionError`, `OSError`."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.pread(fd, fs.fstat(fd).size, 0)
    finally:
        fs.close(fd)
