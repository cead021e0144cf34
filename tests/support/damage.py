"""Files that are no good, and that nobody is in the middle of writing."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["flipped", "long_ago", "long_damaged"]

_LONG = 60  # seconds


def long_damaged(*paths: Path, data: bytes = b"{ not JSON") -> None:
    """Writes what is no JSON, a minute ago: who opens the store does not wait for somebody to finish."""
    for path in paths:
        path.write_bytes(data)
        written = path.stat().st_mtime - _LONG
        os.utime(path, (written, written))


def flipped(path: Path, mark: bytes, *, behind: int = 0) -> None:
    """Flips the lowest bit of the byte so far behind the first `mark` in a file."""
    data = bytearray(path.read_bytes())
    at = data.index(mark)
    data[at + (len(mark) + behind if behind else 0)] ^= 1
    path.write_bytes(data)


def long_ago(folder: Path) -> None:
    """Says of each file that nobody has written to it for a while."""
    for path in folder.rglob("*"):
        written = path.stat().st_mtime - _LONG
        os.utime(path, (written, written))
