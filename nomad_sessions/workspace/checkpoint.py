"""Folding the journal into a fresh `sessions.json`.

Invariant: at every moment, after any crash, `sessions.json` or `.prev` is an intact snapshot of ours and every record
above the older of the two is in the journal; a file that is not the one that was read is never overwritten. Verified by
`tests/crash/` and `tests/processes/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat as stat_bits
from collections.abc import Iterator
from typing import NamedTuple

from nomad_sessions.errors import CrossDeviceError, SnapshotUnreadableError
from nomad_sessions.storage import quarantine
from nomad_sessions.storage._os import FileStat, FileSystem
from nomad_sessions.storage.codec import encode, encode_name
from nomad_sessions.storage.files import read_whole
from nomad_sessions.storage.snapshot import Snapshot
from nomad_sessions.storage.snapshot_writer import Item, SnapshotWriter, line_of
from nomad_sessions.workspace.archive import remove_temporary
from nomad_sessions.workspace.displaced import TEMPORARY
from nomad_sessions.workspace.foreign import ForeignFile
from nomad_sessions.workspace.places import Summary
from nomad_sessions.workspace.recovery import NO_FILE, PREVIOUS, SNAPSHOT, Identity, identity, parse
from nomad_sessions.workspace.state import WORKSPACE, SessionState
from nomad_sessions.workspace.view import View

__all__ = [
    "PREPARED",
    "Replaced",
    "ensure_previous",
    "is_first",
    "keep_newer_previous",
    "prepare_previous",
    "refuse_target",
    "remove_stale",
    "replace_snapshot",
    "write_snapshot",
]


_LOG = logging.getLogger("nomad_sessions")
PREPARED = f"{{}}/{PREVIOUS}{TEMPORARY[0]}"
"""Where a `.prev` of a folder is made, before it has its name."""
_CHUNK = 1 << 20
_AHEAD = 256 << 10


class Replaced(NamedTuple):
    """Whether the snapshot is in place; what another program had put there in the last instant; and the descriptor of
    the displaced file with what it was, for it may still be written into."""

    done: bool
    raced: ForeignFile | None = None
    displaced: tuple[int, Identity | None] | None = None


def write_snapshot(fs: FileSystem, path: str, view: View, now: int) -> int:
    """Writes everything in `view` to a new file at `path`, synced; returns its size. `now` in ms goes into the head.
    Under the lock: what is read is read ahead."""
    view.ahead.most = _AHEAD
    created = {row.id: row.created for row in view.base.items()} if view.base is not None else {}
    writer = SnapshotWriter(fs, path)
    try:
        states = list(view.load_all())
        messages = 0
        for state in states:
            info = [*Summary.of(state)[1:], state.hidden or None, state.detached or None]
            writer.group(state.id, encode(state.record()), info)
        for state in states:
            messages += len(state.order)
            writer.items(state.id, _items(state, created))
        workspace = view.workspace()
        if workspace.detached:
            writer.group_without_record(WORKSPACE, [workspace.detached])
            writer.items(WORKSPACE, _items(workspace, created))
        for key, value in workspace.fields.items():
            writer.extra(key, encode(value))
        head = {
            "seq": view.seq,
            "lastId": view.last_id,
            "savedAt": now,
            "journal": view.journal.live_first if view.journal.live is not None else 0,
            "counts": {"sessions": len(states), "messages": messages},
            "settings": workspace.settings,
            "workspaceRev": workspace.rev,
        }
        return writer.finish(head, {"tombstones": sorted([key, seq] for key, seq in view.tombstones().items())})
    finally:
        writer.close()


def _items(state: SessionState, created: dict[str, int]) -> Iterator[Item]:
    run, changed = state.run, state.changed
    untouched = run.ids if run is not None else []
    for number, message_id in enumerate(state.ids()):
        name = encode_name(message_id)
        if message_id in changed:
            message = changed[message_id]
        elif run is not None and number < len(untouched) and untouched[number] == message_id:
            yield message_id, name, run.line(number), created[message_id]
            continue
        else:
            message = state.message(message_id)
        assert message is not None, "an order names messages that are there"
        since = message.created if message.created is not None else created[message_id]
        line = message.json(name + b":")
        yield message_id, name, line_of(name, encode(message.body())) if line is None else line, since


def keep_newer_previous(fs: FileSystem, folder: str, seq: int) -> None:
    """Keeps a `.prev` that has more than a view of this seq: where both others were put back from a backup, it alone
    has what was written since, and is about to be replaced."""
    previous = Snapshot.open(fs, f"{folder}/{PREVIOUS}")
    if previous is None:
        return
    previous.close()
    if previous.seq > seq:
        kept = quarantine.keep(fs, folder, f"{PREVIOUS}.newer", read_whole(fs, previous.path))
        _LOG.warning("%s: has changes up to %d, the rest up to %d: kept in %s", previous.path, previous.seq, seq, kept)


def refuse_target(fs: FileSystem, folder: str) -> None:
    """Raises where no rename can put a file in the place of `sessions.json`: `CrossDeviceError` where it is a link to
    another file system, `SnapshotUnreadableError` where no file stands there or the link leads nowhere."""
    path = f"{folder}/{SNAPSHOT}"
    real = fs.resolve(path)
    found = fs.stat(real)
    if found is not None and not stat_bits.S_ISREG(found.mode):
        raise SnapshotUnreadableError(path=path, reason=NO_FILE, hint="the journal has everything")
    there, here = fs.stat(os.path.dirname(real)), fs.stat(folder)
    if there is None and here is not None:
        raise SnapshotUnreadableError(path=path, reason=f"it is a link to {real}, and that folder is not there")
    if there is not None and here is not None and there.dev != here.dev:
        raise CrossDeviceError(path=path)


def replace_snapshot(
    fs: FileSystem, folder: str, temporary: str, expected: Identity | None, *, ours: bool, digest: str | None
) -> Replaced:
    """Moves `temporary` to `sessions.json`, if what stands there is still what was read, and keeps what it displaces:
    as `.prev` where it was ours, in quarantine where it was not. Durable on return.

    `expected` is the identity of the file that was read (None: there was none), `digest` that of a foreign one that has
    been merged (and is in quarantine). Where another file is found, nothing of it is lost: it stays in place, or, where
    it came in the very moment of the exchange, gets its name back or is returned, if it is complete.
    """
    path = fs.resolve(f"{folder}/{SNAPSHOT}")
    current = fs.stat(path)
    if identity(current) != expected:
        return Replaced(False)
    if current is None:
        fs.replace(temporary, path)
        _sync_names(fs, folder, path)
        return Replaced(True)
    _like(fs, temporary, current)
    made = identity(fs.stat(temporary))
    if not fs.exchange(temporary, path):
        return _replace_by_link(fs, folder, temporary, path, expected, ours=ours, digest=digest)
    raced = _raced(fs, temporary, expected, digest)
    if isinstance(raced, str):
        # Somebody is in the middle of writing it: the file gets its name back.
        fs.exchange(temporary, path)
        if identity(fs.stat(temporary)) != made:
            quarantine.keep(fs, folder, f"{SNAPSHOT}.raced", read_whole(fs, temporary))
        return Replaced(False)
    with _held(fs, temporary) as fd:
        seen = identity(fs.fstat(fd))
        if raced is None:
            _keep(fs, folder, temporary, ours=ours, kept=digest is not None)
        _sync_names(fs, folder, path)
    return Replaced(True, raced, (fd, seen if raced is not None else expected))


def _sync_names(fs: FileSystem, folder: str, path: str) -> None:
    """The snapshot's folder, and ours: they differ where `sessions.json` is a link."""
    for each in dict.fromkeys((os.path.dirname(path), folder)):
        fs.sync_dir(each)


@contextlib.contextmanager
def _held(fs: FileSystem, path: str) -> Iterator[int]:
    """A descriptor for the caller to keep, given back only where an error leaves the block."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        yield fd
    except BaseException:
        fs.close(fd)
        raise


def _raced(fs: FileSystem, path: str, expected: Identity | None, digest: str | None) -> ForeignFile | str | None:
    """What lies at `path` now, unless it is the file that was read: foreign, or the reason why it cannot be read."""
    stat = fs.stat(path)
    assert stat is not None
    if identity(stat) == expected and digest is None:
        return None
    raw = read_whole(fs, path)
    # Two writes within one tick of the clock leave the same time: only the bytes tell.
    if identity(stat) == expected and hashlib.sha256(raw).hexdigest() == digest:
        return None
    return parse(raw, stat)


def _replace_by_link(
    fs: FileSystem, folder: str, temporary: str, path: str, expected: Identity | None, *, ours: bool, digest: str | None
) -> Replaced:
    """Where two names cannot be exchanged: keep the old one under a second name, then rename over it."""
    kept = f"{temporary}.old"
    fs.link(path, kept)
    if _raced(fs, kept, expected, digest) is not None:
        fs.unlink(kept)
        return Replaced(False)
    fs.replace(temporary, path)
    raced = _raced(fs, kept, expected, digest)
    if isinstance(raced, str):
        # Somebody is in the middle of writing it: the file gets its name back. Ours can be made again.
        fs.replace(kept, path)
        return Replaced(False)
    if raced is None:
        _keep(fs, folder, kept, ours=ours, kept=digest is not None)
    else:
        fs.unlink(kept)
    _sync_names(fs, folder, path)
    # No descriptor stays open: where names cannot be exchanged, an open file may not be renamed either.
    return Replaced(True, raced)


def _keep(fs: FileSystem, folder: str, displaced: str, *, ours: bool, kept: bool) -> None:
    if ours:
        fs.replace(displaced, f"{folder}/{PREVIOUS}")
        return
    if not kept:
        quarantine.keep(fs, folder, f"{SNAPSHOT}.foreign", read_whole(fs, displaced))
    fs.unlink(displaced)


def is_first(fs: FileSystem, folder: str, view: View) -> bool:
    """Whether no snapshot was there before, and the journal has everything from its beginning: then a `.prev` would
    only be a third copy. No segment goes until there is one (`retention.py`), and the next checkpoint makes it."""
    return view.journal.first_seqs()[:1] == [1] and fs.stat(f"{folder}/{PREVIOUS}") is None


def prepare_previous(fs: FileSystem, folder: str, made: str) -> None:
    """Where there is no intact `.prev`, copies a new snapshot for it: before it has its name, so that nobody else can
    be writing into it. The copy is synced; `ensure_previous` gives it its name."""
    if Snapshot.open(fs, f"{folder}/{PREVIOUS}") is not None:
        return
    source = fs.open(made, os.O_RDONLY)
    try:
        copy = fs.open(PREPARED.format(folder), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            size = 0
            while data := fs.pread(source, _CHUNK, size):
                fs.pwrite_all(copy, data, size)
                size += len(data)
            fs.sync(copy)
        finally:
            fs.close(copy)
    finally:
        fs.close(source)


def ensure_previous(fs: FileSystem, folder: str, view: View, now: int) -> None:
    """Puts a `.prev` where there is no intact one: after a foreign file was displaced it is all that is ours beside
    `sessions.json`, and has to be an inode of its own. Durable on return."""
    path = f"{folder}/{PREVIOUS}"
    if Snapshot.open(fs, path) is not None:
        return
    temporary = PREPARED.format(folder)
    try:
        prepared = Snapshot.open(fs, temporary)
        if prepared is None or prepared.seq != view.seq:
            fs.unlink(temporary)
            write_snapshot(fs, temporary, view, now)
        fs.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fs.unlink(temporary)
        raise
    fs.sync_dir(folder)


def remove_stale(fs: FileSystem, folder: str) -> None:
    """Removes temporary files that a crash left. Only under the lock: then nobody is writing one."""
    for name in fs.listdir(folder):
        if name.startswith(f"{SNAPSHOT}.") and name.endswith(TEMPORARY):
            with contextlib.suppress(OSError):
                fs.unlink(f"{folder}/{name}")
    remove_temporary(fs, folder)


def _like(fs: FileSystem, path: str, stat: FileStat) -> None:
    fd = fs.open(path, os.O_RDONLY)
    try:
        fs.chmod_like(fd, stat)
    finally:
        fs.close(fd)
