"""Where a folder lies: on a network mount, in a folder that a cloud client syncs, beside copies that one made.

Pure functions over paths, mount tables and file names; the table is the only thing that is read. The store needs one
kernel that orders its writes and its locks. A network file system has two, a syncing client none: it uploads whatever
it finds in the middle of a write, and answers two changed files with a copy beside them.

Sources: `proc(5)` for mountinfo, the file system types of Linux and macOS; the names of conflict copies as Dropbox,
Syncthing, Nextcloud, OneDrive, Google Drive and iCloud write them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from nomad_sessions.storage._os import FileSystem

__all__ = [
    "MOUNTINFO",
    "Mount",
    "cloud_client",
    "is_network",
    "looks_copied",
    "mount_of",
    "mounts_of_linux",
    "mounts_of_macos",
    "read_table",
]

MOUNTINFO = "/proc/self/mountinfo"
_CHUNK = 1 << 20

_NETWORK = re.compile(
    "9p|acfs|afpfs|afs|beegfs|ceph|cifs|coda|davfs|drvfs|fhgfs|gfs2?|glusterfs|gpfs|kafs|lustre|ncpfs|nfs4?|ocfs2"
    "|orangefs|prl_fs|pvfs2|smb2|smb3|smbfs|vboxsf|vmhgfs|webdav"
)
_LOCAL_FUSE = re.compile("bindfs|encfs|exfat|ext2|fuse-overlayfs|fuseblk|gocryptfs|mergerfs|ntfs(-3g)?")
_CLOUD_NAMES = re.compile(
    r"(?P<dropbox>Dropbox( \(.+\))?)|(?P<onedrive>OneDrive( - .+)?)|(?P<google>Google ?Drive|GoogleDrive-.+|My Drive)"
    r"|(?P<icloud>Mobile Documents|iCloud ?Drive)|(?P<nextcloud>Nextcloud)|(?P<owncloud>ownCloud)|(?P<box>Box Sync)"
    r"|(?P<mega>MEGA(sync)?)|(?P<pcloud>pCloud ?Drive)|(?P<synology>SynologyDrive|CloudStation)"
    r"|(?P<seafile>Seafile)|(?P<proton>Proton ?Drive)|(?P<cloudstorage>CloudStorage)"
)
_CLIENTS = {
    "dropbox": "Dropbox",
    "onedrive": "OneDrive",
    "google": "Google Drive",
    "icloud": "iCloud Drive",
    "nextcloud": "Nextcloud",
    "owncloud": "ownCloud",
    "box": "Box",
    "mega": "MEGA",
    "pcloud": "pCloud",
    "synology": "Synology Drive",
    "seafile": "Seafile",
    "proton": "Proton Drive",
    "cloudstorage": "a cloud client",
}
_MARKERS = {
    ".stfolder": "Syncthing",
    ".dropbox": "Dropbox",
    ".dropbox.cache": "Dropbox",
    ".nextcloudsync.log": "Nextcloud",
    ".owncloudsync.log": "ownCloud",
    ".SynologyWorkingDirectory": "Synology Drive",
    ".tmp.drivedownload": "Google Drive",
}
# What stands between the name of one of our files and its ending when somebody made a copy of it.
_COPIED = re.compile(
    r" \(.*(conflicted copy|case conflict).*\)|\.sync-conflict-.+|_conflict-.+|~.*conflict.*| \(\d+\)| \d+"
    r"| - (Copy|Kopie|Copie|Copia)( \(\d+\))?|-[^./]{2,}",
    re.IGNORECASE,
)


class Mount(NamedTuple):
    """One mounted file system: the folder it is seen at, its type as the system calls it, what it comes from."""

    point: str
    kind: str
    source: str


def read_table(fs: FileSystem, path: str = MOUNTINFO) -> str:
    """The kernel's table of mounts; "" where there is no such file."""
    if fs.stat(path) is None:
        return ""
    fd = fs.open(path, os.O_RDONLY)
    try:
        whole = b""
        while piece := fs.pread(fd, _CHUNK, len(whole)):  # Its size is said to be 0.
            whole += piece
    finally:
        fs.close(fd)
    return os.fsdecode(whole)


def mounts_of_linux(table: str) -> list[Mount]:
    """The mounts in a `mountinfo` table, in its order. Lines of another shape are left out."""
    found = []
    for line in table.splitlines():
        head, mark, tail = line.partition(" - ")
        fields, kinds = head.split(" "), tail.split(" ")
        if mark and len(fields) >= 6 and len(kinds) >= 2:
            found.append(Mount(_unescaped(fields[4]), kinds[0], _unescaped(kinds[1])))
    return found


def mounts_of_macos(output: str) -> list[Mount]:
    """The mounts that macOS's `mount` prints: `SOURCE on FOLDER (TYPE, options)`."""
    shape = re.compile(r"(?P<source>.+?) on (?P<point>/.*) \((?P<kind>[^,()]+)[^()]*\)")
    found = (shape.fullmatch(line) for line in output.splitlines())
    return [Mount(each["point"], each["kind"], each["source"]) for each in found if each is not None]


def mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that a path (absolute, links followed) lies on: the longest one, of equals the last, which hides the
    others."""
    best: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def is_network(kind: str) -> bool:
    """Whether this type of file system is served by another machine, or by a program that may be."""
    name, _, inner = kind.partition(".")
    if name in ("fuse", "macfuse", "osxfuse") and inner:
        return _LOCAL_FUSE.fullmatch(inner) is None
    return _NETWORK.fullmatch(kind) is not None


def cloud_client(path: str, marked: Iterable[tuple[str, str]] = ()) -> str | None:
    """Whose client syncs this folder, by the names on its way and by the marker files found in them.

    `marked` are pairs (folder, name) of what lies in the folder and in those above it.
    """
    for folder, name in marked:
        if name in _MARKERS and (path == folder or path.startswith(folder.rstrip("/\\") + os.sep)):
            return _MARKERS[name]
    for name in re.split(r"[/\\]", path):
        found = _CLOUD_NAMES.fullmatch(name)
        if found is not None:
            return _CLIENTS[str(found.lastgroup)]
    return None


def looks_copied(name: str, ours: Iterable[str]) -> str | None:
    """The file of ours that `name` looks like a copy of, made by something that is not us."""
    for own in ours:
        stem, dot, ending = own.partition(".")
        ending = dot + ending
        whole = name.startswith(stem) and name.endswith(ending)
        inside = name[len(stem) : len(name) - len(ending)] if whole else ""
        after = name[len(own) :] if name.startswith(own) else ""
        if _COPIED.fullmatch(inside) or _COPIED.fullmatch(after):
            return own
    return None


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
