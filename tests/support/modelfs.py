"""A model of `FileSystem` in memory: several processes on one disk, faults at any call, power loss at any moment.

    disk = ModelDisk()
    fs = disk.process()                               # one simulated process: its own descriptors and locks
    store = Store.open("/data", filesystem=fs)
    with fs.inject(errno.ENOSPC, op="pwrite_all", nth=3, effect="part"), pytest.raises(DiskFullError):
        store.add(...)                                # the block fails unless the fault fired
    after = disk.crash(draw)                          # a possible disk after a power loss; `disk` itself is unchanged
    store = Store.open("/data", filesystem=after.process())

Verified by `tests/unit/test_modelfs*.py`, and against the real file system by `tests/contract/test_filesystem.py`.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable

from tests.support.drawing import Draw, at_random, every, mildest
from tests.support.faults import Fault, Killed
from tests.support.modelnodes import DirNode, FileNode, Namespace, Node, Write, os_error, set_name
from tests.support.modelprocess import MUTATING, Call, ModelFS

__all__ = [
    "CREATE",
    "MUTATING",
    "Call",
    "Draw",
    "Fault",
    "Killed",
    "ModelDisk",
    "ModelFS",
    "at_random",
    "every",
    "mildest",
    "put",
]

CREATE = os.O_RDWR | os.O_CREAT
_START = 1_750_000_000.0


class ModelDisk(Namespace):
    """A disk in memory, shared by the processes that `process()` makes.

    `capacity` in bytes makes writes beyond it fail with ENOSPC, `read_only` all changes with EROFS; `can_lock`,
    `can_exchange` and `can_link` take a capability away. `page` is the unit in which unsynced bytes get lost: small, so
    that it damages single records. `trace` lists every call; `on_sleep` runs whenever a process sleeps, and `now` is
    what `monotonic` says: a microsecond later at each call, and later by what was slept.
    """

    def __init__(self, *, page: int = 64, capacity: int | None = None) -> None:
        super().__init__()
        self.page = page
        self.capacity = capacity
        self.can_lock = True
        self.can_exchange = True
        self.can_link = True
        self.now = 1.0
        self.write_time_step = 0.004
        self.on_sleep: Callable[[float], None] | None = None
        self.trace: list[Call] = []
        self.mutex = threading.RLock()
        self._pids = 0

    def process(self) -> ModelFS:
        """A new simulated process on this disk."""
        self._pids += 1
        return ModelFS(self, self._pids)

    def crash(self, draw: Draw) -> ModelDisk:
        """A disk that a power loss at this moment may leave; this one stays as it is, for further draws."""
        with self.mutex:
            image = ModelDisk(page=self.page, capacity=self.capacity)
            image.can_lock, image.can_exchange, image.can_link = self.can_lock, self.can_exchange, self.can_link
            image.now = self.now + 60.0
            kept = draw(range(len(self.pending), -1, -1)) if self.pending else 0
            names: dict[int, dict[str, Node]] = {}
            for changes in self.pending[:kept]:
                for folder, name, node in changes:
                    set_name(names.setdefault(id(folder), dict(folder.durable)), name, node)
            _Copier(image, names, draw).fill(self.root, image.root)
            return image

    def settle(self) -> None:
        """Make everything durable, as after a minute without writes."""
        with self.mutex:
            for _, node in self.walk():
                if isinstance(node, FileNode):
                    node.sync()
            for changes in self.pending:
                for folder, name, target in changes:
                    set_name(folder.durable, name, target)
            self.pending.clear()

    def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Put a durable file there, with its folders, as if it had always been there; no process did it."""
        with self.mutex:
            folder = self.root
            *heads, name = [part for part in path.split("/") if part]
            for head in heads:
                child = folder.live.get(head)
                if not isinstance(child, DirNode):
                    child = DirNode(ino=self.new_ino(), mode=stat.S_IFDIR | 0o700)
                    self.rename((folder, head, child))
                folder = child
            node = FileNode(ino=self.new_ino(), mode=stat.S_IFREG | mode, mtime_ns=self.wall_ns())
            node.change(Write(0, data))
            self.rename((folder, name, node))
            self.settle()

    def read(self, path: str) -> bytes:
        """The live bytes of a file."""
        node = self.find(path)
        if not isinstance(node, FileNode):
            raise os_error(errno.ENOENT, path)
        return bytes(node.live)

    def tree(self) -> dict[str, bytes | None]:
        """Every live path; a file's bytes, None for a folder. Two equal trees: nothing was changed."""
        return {path: bytes(node.live) if isinstance(node, FileNode) else None for path, node in self.walk()}

    def used(self) -> int:
        """Bytes in files that have a name."""
        files = {node.ino: len(node.live) for _, node in self.walk() if isinstance(node, FileNode)}
        return sum(files.values())

    def wall_ns(self) -> int:
        """The time that a write leaves on its file: coarse, so that two writes in a row leave the same."""
        return int((_START + self.now) // self.write_time_step * self.write_time_step * 1e9)


class _Copier:
    """Copies the durable tree into the image of a crash, drawing what each file holds."""

    def __init__(self, image: ModelDisk, names: dict[int, dict[str, Node]], draw: Draw) -> None:
        self._image = image
        self._names = names
        self._draw = draw
        self._copies: dict[int, Node] = {}

    def fill(self, old: DirNode, new: DirNode) -> None:
        for name, node in sorted(self._names.get(id(old), old.durable).items()):
            copy = self._copies.get(id(node)) or self._copy(node)
            copy.nlink += 1
            new.live[name] = new.durable[name] = copy

    def _copy(self, node: Node) -> Node:
        ino = self._image.new_ino()
        copy: Node
        if isinstance(node, FileNode):
            content = node.after_power_loss(self._draw, self._image.page)
            copy = FileNode(ino, node.mode, bytearray(content), bytearray(content), mtime_ns=node.mtime_ns)
        else:
            copy = DirNode(ino, node.mode, mtime_ns=node.mtime_ns)
            self.fill(node, copy)
        copy.uid, copy.gid = node.uid, node.gid
        self._copies[id(node)] = copy
        return copy


def put(fs: ModelFS, path: str, data: bytes, *, sync: bool = False, folder: str | None = None) -> None:
    """Writes a file; with `sync` its bytes are durable, with `folder` the names of that folder."""
    fd = fs.open(path, CREATE | os.O_TRUNC)
    fs.pwrite_all(fd, data, 0)
    if sync:
        fs.sync(fd)
    fs.close(fd)
    if folder is not None:
        fs.sync_dir(folder)
