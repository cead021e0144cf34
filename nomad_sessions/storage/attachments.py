"""Bytes of files and images too large for a line, named by their SHA-256 and shared by whoever refers to them.

Invariant: a file under `attachments/` is complete and synced before any record names it, and is never changed: its name
says what it must contain, and `read` checks. Its time is that when somebody last asked for it to be kept: one that no
record names, and that nobody will name any more, is old. Verified by `tests/unit/test_attachments.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re

from nomad_sessions.errors import AttachmentMissingError
from nomad_sessions.storage._os import Buffer, FileSystem
from nomad_sessions.storage.files import read_whole

__all__ = ["FOLDER", "is_kept", "name_of", "read", "store"]

FOLDER = "attachments"
_LARGE = 1 << 20
_NAME = re.compile(r"[0-9a-f]{64}\Z")


def name_of(data: Buffer) -> str:
    """What these bytes are called: their SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def is_kept(fs: FileSystem, workspace: str, data: Buffer, digest: str) -> bool:
    """Whether a file of this name and size is there; `digest` is the `name_of` the bytes."""
    known = fs.stat(f"{workspace}/{FOLDER}/{digest}")
    return known is not None and known.size == len(data)


def store(fs: FileSystem, workspace: str, data: Buffer, digest: str) -> str:
    """Keeps `data`, whose `name_of` is `digest`, and returns that. Durable on return; one that is there costs two
    syncs.

    Where `is_kept` says that it is there, call it under the workspace's lock: else a sweep may find it old, and remove
    it just after this said that it is needed.
    """
    folder = f"{workspace}/{FOLDER}"
    path = f"{folder}/{digest}"
    known = fs.stat(path)
    if known is not None and known.size == len(data) and fs.renew(path):
        # Whoever stored it may have died before its name was durable, and the caller's record will be.
        fs.sync_dir(folder)
        fs.sync_dir(workspace)
        return digest
    for missing in (workspace, folder):
        fs.mkdir(missing, 0o700)
        fs.sync_dir(os.path.dirname(missing))
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    fd = fs.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fs.pwrite_all(fd, data, 0)
        fs.sync(fd)
        if len(data) >= _LARGE:  # The original of an import: it is not to take the place of what is worked with.
            fs.uncache(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            fs.unlink(temporary)
        raise
    finally:
        fs.close(fd)
    fs.replace(temporary, path)
    fs.sync_dir(folder)
    return digest


def read(fs: FileSystem, workspace: str, digest: str) -> bytes:
    """The bytes with this SHA-256. Raises `AttachmentMissingError` when they are not there or not those bytes."""
    path = f"{workspace}/{FOLDER}/{digest}"
    if not _NAME.match(digest):
        raise AttachmentMissingError(path=path, sha256=digest)
    try:
        data = read_whole(fs, path)
    except FileNotFoundError as error:
        raise AttachmentMissingError(path=path, sha256=digest) from error
    if name_of(data) != digest:
        raise AttachmentMissingError(path=path, sha256=digest)
    return data
