"""The real file system, with a monotonic clock that a test can move."""

from __future__ import annotations

from typing import Any, cast

from nomad_sessions.storage._os import REAL, FileSystem

__all__ = ["MovedFileSystem"]


class MovedFileSystem:
    """As the real one; `ahead` seconds are added to what its clock says."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(REAL, name)

    def monotonic(self) -> float:
        return REAL.monotonic() + self.ahead

    @property
    def fs(self) -> FileSystem:
        """Itself, as the store takes it."""
        return cast(FileSystem, self)
