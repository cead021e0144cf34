"""One simulated process on a model disk: the `FileSystem` methods, faults, the trace, and death."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nomad_sessions.storage._os import Buffer, FileStat
from tests.support.faults import Effect, Fault, Killed
from tests.support.modelnodes import Cut, DirNode, FileNode, Node, Write, os_error

if TYPE_CHECKING:
    from tests.support.modelfs import ModelDisk

T = TypeVar("T")

_CONTENT = {"open", "pwrite_all", "datasync", "sync", "truncate", "chmod_like"}
_NAMES = {"sync_dir", "replace", "exchange", "link", "unlink", "mkdir", "remove_dir"}
MUTATING = frozenset(_CONTENT | _NAMES)
"""The calls before, in and after which a crash can leave something new. `open` may create the file."""


class Call(NamedTuple):
    """One entry of the trace: which process called what, on which path, with which further arguments."""

    pid: int
    op: str
    path: str
    args: tuple[object, ...] = ()


class OpenFile:
    """What a descriptor stands for; the lock belongs to it."""

    __slots__ = ("node", "path", "readable", "writable")

    def __init__(self, node: FileNode, path: str, flags: int) -> None:
        self.node = node
        self.path = path
        self.writable = bool(flags & (os.O_WRONLY | os.O_RDWR))
        self.readable = not flags & os.O_WRONLY


class ModelFS:
    """One simulated process: a `FileSystem` on a `ModelDisk`.

    `calls` counts the calls by name. After `kill()` (or a fault that raises `Killed`) the live bytes stay, locks are
    free, descriptors are gone, and each further call raises `Killed`, so that no cleanup of the store touches the disk.
    """

    replaces_open = True

    def __init__(self, disk: ModelDisk, pid: int) -> None:
        self.disk = disk
        self.pid = pid
        self.alive = True
        self.calls: Counter[str] = Counter()
        self._files: dict[int, OpenFile] = {}
        self._faults: list[Fault] = []

    # Control

    def inject(
        self,
        error: int | BaseException | None,
        *,
        op: str | Collection[str] | None = None,
        nth: int = 1,
        forever: bool = False,
        effect: Effect = "none",
    ) -> Fault:
        """Make the `nth` matching call from now on fail with this errno or exception; see `Fault`.

        `effect` says how much of the call happens first. `error=None` with "part" is a short write without an error,
        which the write loop then completes in a second step.
        """
        fault = Fault(error, {op} if isinstance(op, str) else op, nth, forever, effect, self._faults)
        self._faults.append(fault)
        return fault

    def die_at(self, nth: int, *, op: str | Collection[str] | None = None, effect: Effect = "none") -> Fault:
        """Die at the `nth` matching call: kill -9, or with `disk.crash` afterwards a power loss, at that moment."""
        return self.inject(Killed(f"killed at call {nth}"), op=op, nth=nth, effect=effect)

    def kill(self) -> None:
        """Kill -9: nothing of the process runs any more."""
        with self.disk.mutex:
            self.alive = False
            for fd in list(self._files):
                self._close(fd)

    @property
    def open_paths(self) -> list[str]:
        """The paths of the open descriptors, to find leaks."""
        return sorted(file.path for file in self._files.values())

    def _call(
        self, op: str, path: str, act: Callable[[], T], *args: object, part: Callable[[], object] | None = None
    ) -> T:
        """Count, trace and do one call, with what the faults make of it."""
        with self.disk.mutex:
            if not self.alive:
                raise Killed(f"process {self.pid} is dead and calls {op}({path!r})")
            self.disk.now += 1e-6
            self.calls[op] += 1
            self.disk.trace.append(Call(self.pid, op, path, args))
            struck = [fault for fault in self._faults if fault.meets(op)]
            if not struck:
                return act()
            return self._fail(struck[0], path, act, part)

    def _fail(self, fault: Fault, path: str, act: Callable[[], T], part: Callable[[], object] | None) -> T:
        if fault.effect == "part" and part is not None:
            part()
        error = fault.exception(path)
        if error is None:
            return act()
        if fault.effect == "all":
            with contextlib.suppress(OSError):  # What fails by itself (no such file) does nothing; the fault strikes.
                act()
        if isinstance(error, Killed):
            self.kill()
        raise error

    # FileSystem: files

    def open(self, path: str, flags: int, mode: int = 0o600, /) -> int:
        if flags & os.O_APPEND:
            raise ValueError("O_APPEND makes pwrite ignore its offset on Linux")
        return self._call("open", path, lambda: self._open(path, flags, mode), flags)

    def _open(self, path: str, flags: int, mode: int) -> int:
        disk = self.disk
        node = disk.find(path)
        writable = flags & (os.O_WRONLY | os.O_RDWR)
        if node is None:
            if not flags & os.O_CREAT:
                raise os_error(errno.ENOENT, path)
            disk.require_writable(path)
            folder, name = disk.folder_of(path)
            node = FileNode(disk.new_ino(), stat.S_IFREG | mode, mtime_ns=disk.wall_ns())
            disk.rename((folder, name, node))
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise os_error(errno.EEXIST, path)
        elif isinstance(node, DirNode):
            raise os_error(errno.EISDIR, path)
        elif writable:
            disk.require_writable(path)
            if flags & os.O_TRUNC:
                self._change(node, Cut(0))
        node.opens += 1
        fd = next(number for number in range(3, 10_000) if number not in self._files)
        self._files[fd] = OpenFile(node, path, flags)
        return fd

    def close(self, fd: int, /) -> None:
        if not self.alive:
            return  # A finalizer of an object of the dead process: its descriptors are gone, and nothing happens.
        # Dying in a close is noticed at the next call: the descriptor may be given back by a finalizer, which can raise
        # to nobody.
        with contextlib.suppress(Killed):
            self._call("close", self._path(fd), lambda: self._close(fd))

    def _close(self, fd: int) -> None:
        file = self._file(fd)
        del self._files[fd]
        if file.node.owner is file:
            file.node.owner = None
        file.node.opens -= 1
        self.disk.forget(file.node)

    def pread(self, fd: int, n: int, offset: int, /) -> bytes:
        def act() -> bytes:
            file = self._file(fd)
            if not file.readable:
                raise os_error(errno.EBADF, file.path)
            return bytes(file.node.live[offset : offset + n])

        return self._call("pread", self._path(fd), act, n, offset)

    def pwrite_all(self, fd: int, data: Buffer, offset: int, /) -> None:
        taken = bytes(data)
        half = len(taken) // 2
        self._call(
            "pwrite_all",
            self._path(fd),
            lambda: self._write(fd, taken, offset),
            len(taken),
            offset,
            part=lambda: self._write(fd, taken[:half], offset),
        )

    def _write(self, fd: int, data: bytes, offset: int) -> None:
        file = self._writable(fd)
        room = len(data)
        if self.disk.capacity is not None:
            free = max(0, self.disk.capacity - self.disk.used())
            room = min(room, max(0, len(file.node.live) - offset) + free)
        if room or not data:
            self._change(file.node, Write(offset, data[:room]))
        if room < len(data):
            raise os_error(errno.ENOSPC, file.path)

    def truncate(self, fd: int, n: int, /) -> None:
        self._call("truncate", self._path(fd), lambda: self._change(self._writable(fd).node, Cut(n)), n)

    def uncache(self, fd: int, /) -> None:
        """Memory is all that it has."""

    def datasync(self, fd: int, /) -> None:
        self._sync("datasync", fd)

    def sync(self, fd: int, /) -> None:
        self._sync("sync", fd)

    def _sync(self, op: str, fd: int) -> None:
        try:
            self._call(op, self._path(fd), lambda: self._file(fd).node.sync())
        except OSError:
            # The bytes stay readable, and the next sync reports success without writing them.
            if fd in self._files:
                self._files[fd].node.lose()
            raise

    def fstat(self, fd: int, /) -> FileStat:
        return self._call("fstat", self._path(fd), lambda: _stat_of(self._file(fd).node))

    def lock(self, fd: int, /) -> bool:
        def act() -> bool:
            file = self._file(fd)
            if not self.disk.can_lock:
                raise os_error(errno.ENOLCK, file.path)
            if file.node.owner is None:
                file.node.owner = file
            return file.node.owner is file

        return self._call("lock", self._path(fd), act)

    def unlock(self, fd: int, /) -> None:
        def act() -> None:
            file = self._file(fd)
            if file.node.owner is file:
                file.node.owner = None

        self._call("unlock", self._path(fd), act)

    def chmod_like(self, fd: int, like: FileStat, /) -> None:
        def act() -> None:
            node = self._file(fd).node
            self.disk.require_writable(self._path(fd))
            node.mode, node.uid, node.gid = stat.S_IFREG | stat.S_IMODE(like.mode), like.uid, like.gid

        self._call("chmod_like", self._path(fd), act, like)

    # FileSystem: names

    def stat(self, path: str, /) -> FileStat | None:
        def act() -> FileStat | None:
            node = self.disk.find(path)
            return None if node is None else _stat_of(node)

        return self._call("stat", path, act)

    def renew(self, path: str, /) -> bool:
        def act() -> bool:
            node = self.disk.find(path)
            if node is not None:
                node.mtime_ns = self.disk.wall_ns()
            return node is not None

        return self._call("renew", path, self._changing(path, act))

    def listdir(self, path: str, /) -> list[str]:
        return self._call("listdir", path, lambda: self.disk.names_in(path))

    def resolve(self, path: str, /) -> str:
        return self._call("resolve", path, lambda: os.path.normpath(path))

    def sync_dir(self, path: str, /) -> None:
        self._call("sync_dir", path, lambda: self.disk.sync_folder(self.disk.folder(path)))

    def replace(self, src: str, dst: str, /) -> None:
        self._call("replace", src, self._changing(src, lambda: self.disk.move(src, dst)), dst)

    def exchange(self, a: str, b: str, /) -> bool:
        return self._call("exchange", a, self._changing(a, lambda: self.disk.can_exchange and self.disk.swap(a, b)), b)

    def link(self, src: str, dst: str, /) -> None:
        def act() -> None:
            if not self.disk.can_link:
                raise os_error(errno.EPERM, src, dst)
            self.disk.add_link(src, dst)

        self._call("link", src, self._changing(src, act), dst)

    def unlink(self, path: str, /) -> bool:
        return self._call("unlink", path, self._changing(path, lambda: self.disk.remove_file(path)))

    def mkdir(self, path: str, mode: int = 0o700, /) -> bool:
        return self._call("mkdir", path, lambda: self.disk.make_folder(path, mode), mode)

    def remove_dir(self, path: str, /) -> bool:
        return self._call("remove_dir", path, self._changing(path, lambda: self.disk.remove_folder(path)))

    # FileSystem: time

    def monotonic(self) -> float:
        return self.disk.now

    def sleep(self, seconds: float, /) -> None:
        if not self.alive:
            raise Killed(f"process {self.pid} is dead and sleeps")
        self.disk.now += seconds
        if self.disk.on_sleep is not None:
            self.disk.on_sleep(seconds)
        # Threads of the test that wait for each other's locks get their turn.
        time.sleep(0)

    # Inside

    def _changing(self, path: str, act: Callable[[], T]) -> Callable[[], T]:
        def guarded() -> T:
            self.disk.require_writable(path)
            return act()

        return guarded

    def _change(self, node: FileNode, op: Write | Cut) -> None:
        node.change(op)
        node.mtime_ns = self.disk.wall_ns()

    def _file(self, fd: int) -> OpenFile:
        try:
            return self._files[fd]
        except KeyError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None

    def _writable(self, fd: int) -> OpenFile:
        file = self._file(fd)
        if not file.writable:
            raise os_error(errno.EBADF, file.path)
        self.disk.require_writable(file.path)
        return file

    def _path(self, fd: int) -> str:
        return self._files[fd].path if fd in self._files else f"<descriptor {fd}>"


def _stat_of(node: Node) -> FileStat:
    size = len(node.live) if isinstance(node, FileNode) else 4096
    return FileStat(42, node.ino, size, node.mtime_ns, node.mode, node.nlink, node.uid, node.gid)
