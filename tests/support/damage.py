"""Files that are no good, and that nobody is in the middle of writing."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["long_damaged"]

_LONG = 60  # seconds


def long_damaged(*paths: Path, data: bytes = b"{ not JSON") -> None:
    """Writes what is no JSON, a minute ago: who opens the store does not wait for somebody to finish."""
    for path in paths:
        path.write_bytes(data)
        written = path.stat().st_mtime - _LONG
        os.utime(path, (written, written))
