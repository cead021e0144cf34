"""A disk in memory that remembers what is durable, and can lose the rest.

Each file has its live bytes, its durable bytes and the writes between the two. Each folder has its live and durable
names; changes of names wait in one ordered list until the folder is synced. After a power loss any prefix of the list
happened, and each file is somewhere between durable and live, torn, with NULs or old bytes in unsynced pages, or with a
flipped bit there. The two are independent: a rename may survive whose file's bytes did not.

Harsher than most real systems, on purpose: syncing a file does not keep its name, syncing a folder keeps no other
folder's names, inode numbers are used again at once (as ext4 does), write times are coarse.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.support.drawing import Draw


@dataclass(frozen=True)
class Write:
    """Bytes written to a file that is not synced yet."""

    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        """Write them, with NULs in a hole before them."""
        if len(content) < self.offset:
            content.extend(bytes(self.offset - len(content)))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True)
class Cut:
    """A truncation (or extension by NULs) that is not synced yet."""

    size: int

    def apply(self, content: bytearray) -> None:
        """Set the size."""
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


@dataclass(eq=False)
class FileNode:
    """An inode: live bytes, durable bytes, and what was done in between."""

    ino: int
    mode: int
    live: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Write | Cut] = field(default_factory=list)
    mtime_ns: int = 0
    nlink: int = 0
    opens: int = 0
    uid: int = 1000
    gid: int = 1000
    owner: object | None = None
    """The open file that holds the lock."""

    def change(self, op: Write | Cut) -> None:
        """Do it to the live bytes."""
        op.apply(self.live)
        self.unsynced.append(op)

    def sync(self) -> None:
        """Make the live bytes durable, except those of an earlier failed sync."""
        for op in self.unsynced:
            op.apply(self.durable)
        self.unsynced.clear()

    def lose(self) -> None:
        """A sync failed: Linux marks the pages clean, so they are read back and no later sync ever writes them."""
        self.unsynced.clear()

    def after_power_loss(self, draw: Draw, page: int) -> bytes:
        """One of the contents that the disk may have afterwards."""
        content = bytearray(self.durable)
        if not self.unsynced:
            return bytes(content)
        reached = draw(("all", "some", "none"))
        if reached == "none":
            return bytes(content)
        whole = draw(range(len(self.unsynced) - 1, -1, -1)) if reached == "some" else len(self.unsynced)
        done = self.unsynced[:whole]
        if whole < len(self.unsynced) and isinstance(last := self.unsynced[whole], Write):
            done.append(Write(last.offset, last.data[: draw(range(len(last.data), -1, -1))]))
        for op in done:
            op.apply(content)
        self._damage(content, done, draw, page)
        return bytes(content)

    def _damage(self, content: bytearray, done: list[Write | Cut], draw: Draw, page: int) -> None:
        """What may be wrong in the part that no sync covered, while the rest is as it was written."""
        spans = [(op.offset, min(op.offset + len(op.data), len(content))) for op in done if isinstance(op, Write)]
        spans = [(start, end) for start, end in spans if start < end]
        if not spans:
            return
        pages = sorted({number for start, end in spans for number in range(start // page, (end - 1) // page + 1)})
        kind = draw(("whole", "NUL tail", "lost pages", "flipped bit"))
        if kind == "flipped bit":
            start, end = draw(spans)
            content[draw(range(start, end))] ^= 1 << draw(range(8))
        elif kind == "NUL tail":
            self._lose_pages(content, pages[draw(range(len(pages) - 1, -1, -1)) :], page)
        elif kind == "lost pages":
            for _ in range(draw((1, 2, 3))):
                first = draw(range(len(pages)))
                self._lose_pages(content, pages[first : first + draw(range(1, len(pages) - first + 1))], page)

    def _lose_pages(self, content: bytearray, pages: list[int], page: int) -> None:
        for number in pages:
            start, end = number * page, min((number + 1) * page, len(content))
            old = bytes(self.durable[start:end])
            content[start:end] = old + bytes(end - start - len(old))


@dataclass(eq=False)
class DirNode:
    """A folder: its names now, and its names on the disk."""

    ino: int
    mode: int
    live: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)
    mtime_ns: int = 0
    nlink: int = 0
    opens: int = 0
    uid: int = 1000
    gid: int = 1000


Node: TypeAlias = FileNode | DirNode
Change: TypeAlias = tuple[DirNode, str, Node | None]


class Namespace:
    """The names of a disk: folders, links, and the changes of names that no folder sync has covered yet."""

    def __init__(self) -> None:
        self.pending: list[tuple[Change, ...]] = []
        self.read_only = False
        self._free: list[int] = []
        self._last_ino = 1
        self.root = DirNode(ino=1, mode=stat.S_IFDIR | 0o755, nlink=1)

    def find(self, path: str) -> Node | None:
        """What lies at the path; None where nothing does. NotADirectoryError where a folder on the way is a file."""
        node: Node = self.root
        for name in path.split("/"):
            if name in ("", "."):
                continue
            if not isinstance(node, DirNode):
                raise os_error(errno.ENOTDIR, path)
            child = node.live.get(name)
            if child is None:
                return None
            node = child
        return node

    def folder_of(self, path: str) -> tuple[DirNode, str]:
        """The folder that has, or would have, this name."""
        head, _, name = path.rstrip("/").rpartition("/")
        folder = self.find(head)
        if folder is None:
            raise os_error(errno.ENOENT, path)
        if not isinstance(folder, DirNode):
            raise os_error(errno.ENOTDIR, path)
        return folder, name

    def rename(self, *changes: Change) -> None:
        """Change names in one step that a power loss keeps or loses as a whole."""
        for folder, name, node in changes:
            old = folder.live.pop(name, None)
            if node is not None:
                folder.live[name] = node
                node.nlink += 1
            if old is not None:
                old.nlink -= 1
                self.forget(old)
        self.pending.append(changes)

    def new_ino(self) -> int:
        """A number for a new inode; one that became free is used again first."""
        if self._free:
            return heapq.heappop(self._free)
        self._last_ino += 1
        return self._last_ino

    def forget(self, node: Node) -> None:
        """Free the number of an inode that has neither name nor open descriptor."""
        if node.nlink == 0 and node.opens == 0:
            heapq.heappush(self._free, node.ino)

    def sync_folder(self, folder: DirNode) -> None:
        """Make this folder's names durable, and of other folders only what a rename between the two needs."""
        touched = {id(folder)}
        waiting: list[tuple[Change, ...]] = []
        covered: list[tuple[Change, ...]] = []
        for changes in reversed(self.pending):
            folders = {id(each) for each, _, _ in changes}
            if folders & touched:
                touched |= folders
                covered.append(changes)
            else:
                waiting.append(changes)
        self.pending = waiting[::-1]
        for changes in reversed(covered):
            for each, name, node in changes:
                set_name(each.durable, name, node)

    def walk(self, folder: DirNode | None = None, path: str = "") -> Iterator[tuple[str, Node]]:
        """Every live path below a folder with its node, parents first, names in order."""
        for name, node in sorted((folder or self.root).live.items()):
            yield f"{path}/{name}", node
            if isinstance(node, DirNode):
                yield from self.walk(node, f"{path}/{name}")

    # What the system calls do to names

    def folder(self, path: str) -> DirNode:
        """The folder at the path."""
        node = self.require(path)
        if not isinstance(node, DirNode):
            raise os_error(errno.ENOTDIR, path)
        return node

    def require(self, path: str) -> Node:
        """What lies at the path, which must exist."""
        node = self.find(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        return node

    def names_in(self, path: str) -> list[str]:
        """The names in a folder, not in the order of the alphabet."""
        return [] if self.find(path) is None else sorted(self.folder(path).live, reverse=True)

    def move(self, src: str, dst: str) -> None:
        """rename(2)."""
        node, old = self.require(src), self.find(dst)
        if old is node:
            return  # two names of one inode: POSIX does nothing
        if isinstance(old, DirNode):
            if not isinstance(node, DirNode):
                raise os_error(errno.EISDIR, src, dst)
            if old.live:
                raise os_error(errno.ENOTEMPTY, src, dst)
        elif old is not None and isinstance(node, DirNode):
            raise os_error(errno.ENOTDIR, src, dst)
        # The new name first: an inode without a name is free for the next file.
        self.rename((*self.folder_of(dst), node), (*self.folder_of(src), None))

    def swap(self, a: str, b: str) -> bool:
        """renameat2(2) with RENAME_EXCHANGE."""
        first, second = self.require(a), self.require(b)
        # Both counted up before either is counted down, so that no inode is freed in between.
        first.nlink += 1
        second.nlink += 1
        self.rename((*self.folder_of(a), second), (*self.folder_of(b), first))
        first.nlink -= 1
        second.nlink -= 1
        return True

    def add_link(self, src: str, dst: str) -> None:
        """link(2)."""
        node = self.require(src)
        if isinstance(node, DirNode):
            raise os_error(errno.EPERM, src, dst)
        if self.find(dst) is not None:
            raise os_error(errno.EEXIST, src, dst)
        self.rename((*self.folder_of(dst), node))

    def remove_file(self, path: str) -> bool:
        """unlink(2), False for ENOENT."""
        node = self.find(path)
        if isinstance(node, DirNode):
            raise os_error(errno.EISDIR, path)
        if node is not None:
            self.rename((*self.folder_of(path), None))
        return node is not None

    def make_folder(self, path: str, mode: int) -> bool:
        """mkdir(2), False where the folder exists."""
        node = self.find(path)
        if isinstance(node, FileNode):
            raise os_error(errno.ENOTDIR, path)
        if node is not None:
            return False
        self.require_writable(path)
        self.rename((*self.folder_of(path), DirNode(self.new_ino(), stat.S_IFDIR | mode)))
        return True

    def remove_folder(self, path: str) -> bool:
        """rmdir(2), False for ENOENT."""
        if self.find(path) is None:
            return False
        if self.folder(path).live:
            raise os_error(errno.ENOTEMPTY, path)
        self.rename((*self.folder_of(path), None))
        return True

    def require_writable(self, path: str) -> None:
        """Raise EROFS on a read-only disk."""
        if self.read_only:
            raise os_error(errno.EROFS, path)


def set_name(names: dict[str, Node], name: str, node: Node | None) -> None:
    """Give a name to a node, or to none."""
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def os_error(code: int, path: str, other: str | None = None) -> OSError:
    """The error that the system call would raise, of the right subclass."""
    return OSError(code, os.strerror(code), path, None, other)
