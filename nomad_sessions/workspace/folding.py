"""When the journal is folded into the snapshot, and the steps of it.

The policy: when the journal above the snapshot has outgrown three quarters of it (and `FLOOR` bytes), when a foreign
file was merged, after every commit where the workspace says `fold: always`, when a small workspace is closed cleanly,
and on request. So every byte kept is written a small number of times, however many messages come. While much comes at
once it is folded later: see `Folding.bulk`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from nomad_sessions.errors import CrossDeviceError, SnapshotUnreadableError, StorageError, StoreClosedError
from nomad_sessions.storage import checksum, codec
from nomad_sessions.storage.journal import TablesDamaged
from nomad_sessions.storage.snapshot import SnapshotChanged
from nomad_sessions.workspace import checkpoint
from nomad_sessions.workspace.adopt import forget_spent, is_merged, merge_foreign
from nomad_sessions.workspace.displaced import Displaced, stray
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.foreign import ForeignFile
from nomad_sessions.workspace.recovery import SNAPSHOT, Opened, is_left_alone
from nomad_sessions.workspace.retention import prune
from nomad_sessions.workspace.view import View

if TYPE_CHECKING:
    from nomad_sessions.workspace.store import Workspace

__all__ = ["BULK", "FLOOR", "FRACTION", "SMALL", "Bulk", "Folding"]

_LOG = logging.getLogger("nomad_sessions")
FRACTION = 0.75
FLOOR = 1 << 20
BULK = 64 << 20
BULK_LEAST = 16 << 20
BULK_SEGMENT = 32 << 20
SMALL = 1 << 20
_NEARLY = 0.9  # What is still to come is only about known.
_ROTATE_ABOVE = 32 * 1024
_OUTGROWN = 1 << 20
_ATTEMPTS = 5
_PATIENCE = 10.0
_STEP = 0.01


@dataclass
class Bulk:
    """Much that is written at once. `share` is how much of it all, from 0 to 1, the next commit completes: 0 where that
    is not known. `before` are the bytes that were appended before it."""

    before: int
    share: float = 0.0

    def to_come(self, appended: int) -> float:
        """About how many bytes are still to come: without end where that is not known."""
        share = self.share
        return (appended - self.before) * (1 / share - 1) if share > 0 else inf


class Folding:
    """Checkpoints of one workspace handle."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.wanted = False
        self.due = False
        self.displaced = Displaced(workspace.fs, workspace.folder)
        self._postponed_to = 0
        self._bulks: list[Bulk] = []
        self.segment_bytes = 0

    def after_fork(self) -> None:
        """In a forked child: the descriptors of displaced files are the parent's to watch."""
        self.displaced.abandon()
        self.displaced = Displaced(self._workspace.fs, self._workspace.folder)

    def look_at(self, view: View) -> None:
        """Says by `due` whether `after_commit` has to look closer. Cheap: asked in every commit, under the guard of the
        view. It raises nothing: the commit is written by then."""
        self.due = self.wanted or bool(self.displaced) or view.pending_bytes >= FLOOR
        if not self.due:
            try:
                self.due = _folds_always(view)
            except (StorageError, OSError, SnapshotChanged):  # What is damaged is looked at closer.
                self.due = True

    def after_commit(self) -> None:
        """Folds if the policy says so. A failure postpones the next attempt: the commit itself is safe already, and
        after a sync that failed it is the next commit that is told."""
        try:
            with self._workspace.guarded():  # It may have gone to rest since.
                opened = self._workspace.look()
                try:
                    always = _folds_always(opened.view)
                except (SnapshotChanged, TablesDamaged, FileNotFoundError):
                    always = self._workspace.read(_folds_always)
                    opened = self._workspace.look()
        except (StorageError, OSError) as error:
            _LOG.warning("%s: checkpoint postponed: %s", self._workspace.folder, error)
            return
        if opened.unreadable is not None:
            return
        view = opened.view
        size = opened.seen[2] if opened.seen is not None else 0
        pending = view.pending_bytes
        self.wanted = self.wanted or self.displaced.touched()
        if not (self.wanted or always or self._is_due(pending, size)):
            return
        try:
            self.checkpoint(patient=False)
        except (StorageError, OSError) as error:
            _LOG.warning("%s: checkpoint postponed: %s", self._workspace.folder, error)
            self._postponed_to = pending + max(FLOOR, pending // 4)

    def _is_due(self, pending: int, size: int) -> bool:
        """Whether the journal has outgrown a snapshot of this size. In a bulk not before what is still to come will not
        outgrow the next one, too, so that it is folded once; or, where that is not known, before there is much."""
        if pending < max(FLOOR, FRACTION * size, self._postponed_to):
            return False
        bulks = self._bulks
        if not bulks:
            return True
        appended = self._workspace.counters.bytes_appended
        to_come = sum(bulk.to_come(appended) for bulk in bulks)
        if to_come == inf:
            return pending >= BULK
        return pending >= BULK_LEAST and to_come < _NEARLY * FRACTION * (size + pending)

    @contextlib.contextmanager
    def bulk(self) -> Iterator[Bulk]:
        """While it lasts, much is written at once: folding waits for most of it, or, where its `share` is not told,
        until `BULK` bytes have come, sealing a segment until `BULK_SEGMENT` have; and both are made up for at the
        end."""
        checksum.hurry()
        codec.hurry()
        bulk = Bulk(self._workspace.counters.bytes_appended)
        self._count(bulk, begins=True)
        try:
            yield bulk
        finally:
            self._count(bulk, begins=False)
        # Closed by another thread meanwhile: what was committed stands.
        with contextlib.suppress(StoreClosedError):
            self.after_commit()
            self._seal_large()

    def _count(self, bulk: Bulk, *, begins: bool) -> None:
        with self._workspace.guarded():
            others = [each for each in self._bulks if each is not bulk]
            self._bulks = [*others, bulk] if begins else others
            self.segment_bytes = BULK_SEGMENT if self._bulks else 0

    def _seal_large(self) -> None:
        """Seals a live segment that has outgrown what one is outside of a bulk: who opens the workspace reads it. Where
        that fails the next commit does it."""
        workspace = self._workspace
        try:
            if workspace.look().view.journal.end < _OUTGROWN:
                return
            with workspace.locked(), workspace.guarded():
                view = workspace.current_to_write()
                if view.journal.end >= _OUTGROWN:
                    self._rotate(view)
        except (StorageError, OSError, SnapshotChanged) as error:
            _LOG.warning("%s: sealing postponed: %s", workspace.folder, error)

    def holds_on(self) -> bool:
        """Whether the workspace must stay open: for a bulk."""
        return bool(self._bulks)

    def at_close(self, *, demanded: bool) -> None:
        """The checkpoint of a clean close: on demand, or of a small workspace."""
        if demanded:
            self.checkpoint()
            return
        # The journal has everything; the next close tries again.
        with contextlib.suppress(StorageError, OSError):
            if self._workspace.fs.stat(self._workspace.folder) is None:
                return  # Somebody deleted the workspace: the lock would make its folder again.
            opened = self._workspace.look()
            if opened.unreadable is None and opened.view.pending_bytes < SMALL:
                size = opened.seen[2] if opened.seen is not None else 0
                if size < SMALL:
                    self.checkpoint(patient=False)

    def checkpoint(self, *, patient: bool = True) -> bool:
        """Folds now. False when the snapshot has everything already. Durable on return.

        Where another program is writing the file it waits for it, if `patient`, without the lock; and raises
        `SnapshotUnreadableError` when that takes too long: the journal has everything.
        """
        workspace, fs = self._workspace, self._workspace.fs
        began = fs.monotonic()
        until = began + (_PATIENCE if patient else 0.0)
        workspace.look()
        checkpoint.refuse_target(fs, workspace.folder)
        while True:
            reason = "another program keeps writing it; the journal has everything"
            with workspace.locked():
                for _ in range(_ATTEMPTS):
                    try:
                        done = self._attempt()
                    except SnapshotUnreadableError as error:
                        reason = error.reason
                        break
                    if done is not None:
                        workspace.counters.checkpoints += done
                        workspace.counters.checkpoint_seconds += (fs.monotonic() - began) * done
                        return done
            if fs.monotonic() >= until:
                raise SnapshotUnreadableError(path=f"{workspace.folder}/{SNAPSHOT}", reason=reason)
            fs.sleep(_STEP)

    def _attempt(self) -> bool | None:
        """One attempt; None when the file was no longer the one that was read. Under the lock."""
        workspace = self._workspace
        try:
            self._ready()
            # A view of its own: it reads everything, and readers must not wait for it.
            opened = workspace.load(wait=False, distrust=workspace.distrusts)
            view = opened.view
            if opened.foreign is not None and not is_merged(view, opened.foreign):
                # Written since we merged it, perhaps within one tick of the clock: only afresh is it seen.
                with workspace.guarded():
                    workspace.reload()
                return None
            ours = view.base is not None and view.base.path.endswith(SNAPSHOT) and opened.unreadable is None
            if ours and view.seq == view.floor:
                self.wanted = False
                return False
            if not ours and view.seq == 0 and opened.seen is None:
                return False
            if self._fold(view, opened, ours):
                self._postponed_to = 0
                return True
        except SnapshotChanged:
            with workspace.guarded():
                workspace.reload(distrust=True)
            return None
        except TablesDamaged:
            with workspace.guarded():
                workspace.distrust_tables()
            return None
        with workspace.guarded():
            workspace.reload()
        return None

    def _ready(self) -> None:
        """Merges a foreign file, syncs the journal and seals its segment, so that the snapshot ends where one does."""
        workspace = self._workspace
        workspace.still_locked()
        with workspace.guarded():
            view = workspace.current_to_write()
            for found in self.displaced.written():
                self._take_in(found)
            for path, found in stray(workspace.fs, workspace.folder):
                self._take_in(found)
                workspace.fs.unlink(path)
            view = workspace.current_to_write()
        workspace.flush()
        if view.journal.end > _ROTATE_ABOVE:
            with workspace.guarded():
                self._rotate(view)

    def _rotate(self, view: View) -> None:
        view.prepare(view.live.places)  # A seal tells of each of them.
        self._workspace.rotate(view)

    def _fold(self, view: View, opened: Opened, ours: bool) -> bool:
        """One attempt; False when the file to be replaced was no longer the one that was read."""
        workspace, fs, folder = self._workspace, self._workspace.fs, self._workspace.folder
        if opened.unreadable is not None and not is_left_alone(opened.seen, workspace.now()):
            raise SnapshotUnreadableError(path=f"{folder}/{SNAPSHOT}", reason=opened.unreadable)
        checkpoint.remove_stale(fs, folder)
        checkpoint.keep_newer_previous(fs, folder, view.seq)
        if view.pending_bytes + (opened.seen[2] if opened.seen is not None else 0) >= FLOOR:
            checksum.hurry()
        made = [f"{folder}/{SNAPSHOT}.{os.getpid()}.tmp"]
        first = opened.seen is None and checkpoint.is_first(fs, folder, view)
        if not (ours or first):
            made.append(checkpoint.PREPARED.format(folder))
        with translated(folder):
            try:
                checkpoint.write_snapshot(fs, made[0], view, workspace.now())
                if not (ours or first):
                    checkpoint.prepare_previous(fs, folder, made[0])
                if not self._put_in_place(made[0], opened, ours):
                    return False
                if not first:
                    self._ensure_previous()
            except OSError as error:
                if error.errno == errno.EXDEV:  # The same device, mounted twice.
                    raise CrossDeviceError(path=f"{folder}/{SNAPSHOT}") from error
                raise
            finally:
                for each in made:
                    with contextlib.suppress(OSError):
                        fs.unlink(each)
            forget_spent(fs, folder, view)
        with workspace.guarded():
            workspace.reload()
            with translated(folder):
                prune(fs, folder, workspace.current(), workspace.now())
        return True

    def _put_in_place(self, temporary: str, opened: Opened, ours: bool) -> bool:
        """Makes the new file `sessions.json`; False when the one to be replaced was no longer the one that was read."""
        workspace, fs, folder = self._workspace, self._workspace.fs, self._workspace.folder
        digest = opened.foreign.digest if opened.foreign is not None else None
        if not workspace.still_locked():
            return False  # Others may have written: what they folded must not be replaced by less.
        replaced = checkpoint.replace_snapshot(fs, folder, temporary, opened.seen, ours=ours, digest=digest)
        if opened.unreadable is not None and replaced.done:
            _LOG.warning("%s/%s: %s; it was moved to quarantine", folder, SNAPSHOT, opened.unreadable)
        if replaced.displaced is not None:
            self.displaced.watch(*replaced.displaced)
        if replaced.raced is not None:
            self._take_in(replaced.raced)
        if replaced.done:
            self.wanted = replaced.raced is not None
        return replaced.done

    def _ensure_previous(self) -> None:
        """Writes `.prev` where there is none that is intact. From the new snapshot: the displaced one, which the view
        reads, may be being written into by another program this moment."""
        workspace = self._workspace
        with contextlib.suppress(SnapshotChanged):  # Written into again already: the next checkpoint sees to it.
            opened = workspace.load(wait=False, distrust=False)
            base = opened.view.base
            if base is not None and base.path.endswith(SNAPSHOT):
                checkpoint.ensure_previous(workspace.fs, workspace.folder, opened.view, workspace.now())

    def _take_in(self, found: ForeignFile) -> None:
        """Merges what another program wrote into a file that was no longer, or not for long, `sessions.json`."""
        workspace = self._workspace
        with workspace.guarded():
            while True:
                view = workspace.current_to_write()
                changes = merge_foreign(workspace.fs, workspace.folder, view, found)
                if workspace.still_locked():
                    break
            if changes:
                workspace.absorb_into(view, changes)


def _folds_always(view: View) -> bool:
    return bool(view.settings().get("fold") == "always")
