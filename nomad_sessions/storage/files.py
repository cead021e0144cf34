"""Whole files and folders: reading one at once, making one so that it stays."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from nomad_sessions.errors import DurabilityLostError
from nomad_sessions.storage._os import FileSystem

__all__ = ["make_folder", "read_whole", "replace_whole", "syncing"]


def read_whole(fs: FileSystem, path: str) -> bytes:
    """All bytes of a file. Raises `FileNotFoundError`, `PermissionError`, `OSError`."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        return fs.pread(fd, fs.fstat(fd).size, 0)
    finally:
        fs.close(fd)


def replace_whole(fs: FileSystem, path: str, data: bytes, *, synced: bool = True) -> None:
    """Makes `data` what is in a file, or leaves it as it was. Durable on return where `synced`. For one writer at a
    time: what a crash left half done beside it is written over. Raises `OSError`."""
    temporary = f"{path}.tmp"
    try:
        fd = fs.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fs.pwrite_all(fd, data, 0)
            if synced:
                fs.sync(fd)
        finally:
            fs.close(fd)
        fs.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # What matters is the first.
            fs.unlink(temporary)
        raise
    if synced:
        fs.sync_dir(os.path.dirname(path))


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


@contextlib.contextmanager
def syncing(path: str) -> Iterator[None]:
    """A sync that fails leaves bytes in doubt, whatever the errno: no full disk, after which one could try again."""
    try:
        yield
    except OSError as error:
        raise DurabilityLostError(path=path, errno=error.errno or errno.EIO) from error
