"""The mutant that the power tier has to find."""

from __future__ import annotations

from nomad_sessions.storage._os_posix import PosixFileSystem

__all__ = ["Careless"]


class Careless(PosixFileSystem):
    """A file system whose syncs do nothing: the tier has to notice."""

    __slots__ = ()

    def sync(self, fd: int, /) -> None:
        """Nothing."""

    def datasync(self, fd: int, /) -> None:
        """Nothing."""
