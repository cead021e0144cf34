"""When the journal is folded into the snapshot, and the steps of it.

The policy: when the journal above the snapshot has outgrown three quarters of it (and `FLOOR` bytes), when a foreign
file was merged, after every commit where the workspace says `fold: always`, when a small workspace is closed cleanly,
and on request. So every byte kept is written a small number of times, however many messages come.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from nomad_sessions.errors import DurabilityLostError, SnapshotUnreadableError, StorageError
from nomad_sessions.storage import quarantine
from nomad_sessions.workspace import checkpoint, recovery
from nomad_sessions.workspace.adopt import merge_foreign
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.recovery import SNAPSHOT, Opened
from nomad_sessions.workspace.retention import prune
from nomad_sessions.workspace.view import View

if TYPE_CHECKING:
    from nomad_sessions.workspace.store import Workspace

__all__ = ["FLOOR", "FRACTION", "SMALL", "Folding"]

_LOG = logging.getLogger("nomad_sessions")
FRACTION = 0.75
FLOOR = 1 << 20
SMALL = 1 << 20
_ROTATE_ABOVE = 32 * 1024
_ATTEMPTS = 5
_ABANDONED_MS = 10_000


class Folding:
    """Checkpoints of one workspace handle."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.wanted = False
        self._postponed_to = 0

    def due(self, view: View) -> bool:
        """Whether `after_commit` has to look closer. Cheap: asked after every commit."""
        return self.wanted or view.pending_bytes >= FLOOR or view.settings().get("fold") == "always"

    def after_commit(self) -> None:
        """Folds if the policy says so. A failure postpones the next attempt: the commit itself is safe already."""
        workspace = self._workspace
        with workspace.guarded():
            opened = workspace.opened
            if opened is None or opened.unreadable is not None:
                return
            view = opened.view
            pending = view.pending_bytes
            always = view.settings().get("fold") == "always"
            size = opened.seen[2] if opened.seen is not None else 0
            if not (self.wanted or always) and pending < max(FLOOR, FRACTION * size, self._postponed_to):
                return
            try:
                self.checkpoint()
            except StorageError as error:
                _LOG.warning("%s: checkpoint postponed: %s", workspace.folder, error)
                self._postponed_to = pending + max(FLOOR, pending // 4)
                if isinstance(error, DurabilityLostError):
                    raise

    def at_close(self, *, demanded: bool) -> None:
        """The checkpoint of a clean close: on demand, or of a small workspace."""
        opened = self._workspace.opened
        if demanded:
            self.checkpoint()
        elif opened is not None and opened.unreadable is None and opened.view.pending_bytes < SMALL:
            size = opened.seen[2] if opened.seen is not None else 0
            if size < SMALL:
                with contextlib.suppress(StorageError):  # The journal has everything; the next close tries again.
                    self.checkpoint()

    def checkpoint(self) -> bool:
        """Folds now. False when the snapshot has everything already. Durable on return."""
        workspace = self._workspace
        with workspace.guarded(), workspace.locked():
            for _ in range(_ATTEMPTS):
                view = workspace.current(writing=True)
                opened = workspace.opened
                assert opened is not None
                ours = view.base is not None and view.base.path.endswith(SNAPSHOT) and opened.unreadable is None
                if ours and view.seq == view.floor:
                    return False
                if not ours and view.seq == 0 and opened.seen is None:
                    return False
                if self._fold(view, opened, ours):
                    self.wanted = False
                    self._postponed_to = 0
                    return True
                workspace.reload()
        raise SnapshotUnreadableError(
            path=f"{workspace.folder}/{SNAPSHOT}", reason="another program keeps writing it; the journal has everything"
        )

    def _fold(self, view: View, opened: Opened, ours: bool) -> bool:
        """One attempt; False when the file to be replaced was no longer the one that was read."""
        workspace, fs, folder = self._workspace, self._workspace.fs, self._workspace.folder
        if opened.unreadable is not None and not self._abandoned(opened):
            raise SnapshotUnreadableError(path=f"{folder}/{SNAPSHOT}", reason=opened.unreadable)
        journal = view.journal
        if journal.live is not None:
            workspace.flush()
            if journal.end > _ROTATE_ABOVE:
                workspace.rotate(view)
        checkpoint.remove_stale(fs, folder)
        temporary = f"{folder}/{SNAPSHOT}.{os.getpid()}.tmp"
        with translated(folder):
            try:
                checkpoint.write_snapshot(fs, temporary, view, workspace.now())
                replaced = checkpoint.replace_snapshot(fs, folder, temporary, opened.seen, ours)
            finally:
                with contextlib.suppress(OSError):
                    fs.unlink(temporary)
            if replaced.done and not ours and opened.seen is not None:
                checkpoint.ensure_previous(fs, folder, view, workspace.now())
        if replaced.raced is not None:
            self._take_in(replaced.raced)
        if not replaced.done:
            return False
        workspace.reload()
        prune(fs, folder, workspace.current(), workspace.now())
        return True

    def _abandoned(self, opened: Opened) -> bool:
        """Whether an unreadable file has been left alone long enough to take it for dead."""
        assert opened.seen is not None
        return self._workspace.now() - opened.seen[3] // 1_000_000 > _ABANDONED_MS

    def _take_in(self, raw: bytes) -> None:
        """A foreign program wrote the file in the very moment it was exchanged: merge what it wrote."""
        workspace = self._workspace
        quarantine.keep(workspace.fs, workspace.folder, f"{SNAPSHOT}.raced", raw)
        foreign = recovery.parse(raw)
        if foreign is None:
            return
        workspace.reload()
        view = workspace.current()
        workspace.absorb_into(view, merge_foreign(workspace.fs, workspace.folder, view, foreign))
