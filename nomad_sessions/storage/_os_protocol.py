"""The operating system as the store sees it.

Invariant: the store reaches the disk, the lock and the waiting clock only through a `FileSystem`, so that a test can
put a model in its place, lose power at any call, or make any call fail. An AST test holds the other modules to it, and
`tests/contract/test_filesystem.py` runs one suite against the real file system and the model.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""What can be written. A memoryview must be one of bytes (item size 1)."""


class FileStat(NamedTuple):
    """What `stat` and `fstat` tell: identity (`dev`, `ino`), size in bytes, time of the last write, rights, owner."""

    dev: int
    ino: int
    size: int
    mtime_ns: int
    mode: int
    nlink: int
    uid: int
    gid: int


class FileSystem(Protocol):
    """All system calls of the store. Paths are `str`, descriptors `int`, sizes and offsets bytes, times seconds.

    Failures are the `OSError` of the system, untranslated, with `errno` set. All arguments are positional. Nothing is
    durable until `datasync` or `sync` of the file and, for a new, renamed or removed name, `sync_dir` of its folder.
    """

    @property
    def replaces_open(self) -> bool:
        """Whether a file can be replaced or removed while somebody has it open."""

    def open(self, path: str, flags: int, mode: int = 0o600, /) -> int:
        """Open with `os.O_*` flags, except `O_APPEND`; programs that we start do not inherit the descriptor."""

    def close(self, fd: int, /) -> None:
        """Close the descriptor; a lock taken on it is freed."""

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        """Read `n` bytes at `offset`; fewer only where the file ends."""

    def pwrite_all(self, fd: int, data: Buffer, offset: int, /) -> None:
        """Write all of `data` at `offset`. Raises with a part written when the disk fills; EIO if nothing moves."""

    def datasync(self, fd: int, /) -> None:
        """Make the file's bytes and its size durable. After a failure the bytes are in doubt: never call it again."""

    def sync(self, fd: int, /) -> None:
        """As `datasync`, with times and rights too."""

    def sync_dir(self, path: str, /) -> None:
        """Make the names in this folder durable: creations, renames and removals (nothing to do on Windows)."""

    def uncache(self, fd: int, /) -> None:
        """Say that nobody will read this file soon: what of it is durable need not be kept in memory. A hint."""

    def truncate(self, fd: int, n: int, /) -> None:
        """Cut or extend the file to `n` bytes."""

    def fstat(self, fd: int, /) -> FileStat:
        """The facts about an open file."""

    def stat(self, path: str, /) -> FileStat | None:
        """The facts about a path, symlinks followed; None where there is nothing."""

    def renew(self, path: str, /) -> bool:
        """Give the file the time of a write that were now; False where there is nothing."""

    def resolve(self, path: str, /) -> str:
        """The path with symlinks followed: what to replace, so that a link stays a link."""

    def replace(self, src: str, dst: str, /) -> None:
        """Rename over `dst` in one step. Two names of one inode: POSIX does nothing, and `src` stays."""

    def exchange(self, a: str, b: str, /) -> bool:
        """Swap two existing names in one step; False, with nothing done, where the system cannot."""

    def link(self, src: str, dst: str, /) -> None:
        """Give the file a second name, which must not exist."""

    def unlink(self, path: str, /) -> bool:
        """Remove a name of a file; False where there was none."""

    def mkdir(self, path: str, mode: int = 0o700, /) -> bool:
        """Create a folder, its parent must exist; False where it was there. NotADirectoryError if it is a file."""

    def remove_dir(self, path: str, /) -> bool:
        """Remove an empty folder; False where there was none."""

    def listdir(self, path: str, /) -> list[str]:
        """The names in a folder, unordered; none where there is no such folder."""

    def lock(self, fd: int, /) -> bool:
        """Take the exclusive kernel lock of the open file, without waiting; False when somebody else has it."""

    def unlock(self, fd: int, /) -> None:
        """Free that lock."""

    def chmod_like(self, fd: int, like: FileStat, /) -> None:
        """Give the file the rights and owner of another, as far as the user may. Never gives a new group rights."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""

    def sleep(self, seconds: float, /) -> None:
        """Wait."""
