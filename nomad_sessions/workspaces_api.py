"""The calls on a workspace as a whole: which there are, what they are set to, check and repair, counts.

Everything on sessions and messages is in `sessions_api.py`. Who uses this gives the files (`data_dir`, a file system, a
clock) and the open workspaces.
"""

from __future__ import annotations

import os
import stat as stat_bits
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from nomad_sessions import workspaces
from nomad_sessions.clock import Clock
from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import WorkspaceNotFoundError
from nomad_sessions.operations import listing
from nomad_sessions.operations.plain import plain
from nomad_sessions.operations.reading import Looking
from nomad_sessions.reports import WorkspaceStats, WorkspaceStatus, stats_of, status_of
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.files import make_folder
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.options import Options
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.store import Operation, Workspace

# What is seldom asked for is loaded when it is: a program that only adds messages starts faster.
if TYPE_CHECKING:
    from nomad_sessions.doctor import DoctorReport
    from nomad_sessions.events.hub import Hub
    from nomad_sessions.metrics import Metrics
    from nomad_sessions.usage import Usage
    from nomad_sessions.workspace.check import CheckReport
    from nomad_sessions.workspace.repair import RepairReport

__all__ = ["WorkspaceCalls"]

T = TypeVar("T")


class WorkspaceCalls:
    """The calls on workspaces; `docs/api.md` has them in a table."""

    data_dir: str
    _fs: FileSystem
    _clock: Clock
    _options: Options
    _mutex: threading.Lock
    _workspaces: dict[str, Workspace]
    _hub: Hub | None

    def workspace(self, workspace_id: str) -> Workspace:
        """The open workspace of this id, opened when it is first asked for."""
        raise NotImplementedError

    def _use(self, workspace_id: str, use: Callable[[Workspace], T]) -> T:
        raise NotImplementedError

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        raise NotImplementedError

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        raise NotImplementedError

    def list_workspaces(self) -> list[str]:
        """The ids of all workspaces in the data folder, sorted."""
        found = []
        for name in self._fs.listdir(self.data_dir):
            folder = f"{self.data_dir}/{name}"
            names = ("sessions.json", "journal", "sessions.json.prev")
            stat = self._fs.stat(folder)
            if stat is None or not stat_bits.S_ISDIR(stat.mode):
                continue
            try:
                is_one = any(self._fs.stat(f"{folder}/{each}") is not None for each in names)
            except PermissionError:  # Who asks for what is in it is told; but this one is a file system's own.
                is_one = name != "lost+found"
            if is_one:
                found.append(name)
        return sorted(found)

    def workspace_for(self, path: str | os.PathLike[str], *, create: bool = True) -> str:
        """The workspace of a project folder: of the nearest known folder above it, else of the git root, else its own.

        So any subfolder gives the same. The folder is remembered, unless `create` is False. Durable on return.
        """
        folder = workspaces.folder_of(self._fs, path)
        known = workspaces.known_folders(self._fs, self.data_dir)
        project = workspaces.find_project(self._fs, folder, known)
        if project in known:
            return known[project]
        if not create:
            return workspaces.workspace_id_of(project, known)
        with translated(self.data_dir):
            make_folder(self._fs, self.data_dir)
            return workspaces.remember(self._fs, self.data_dir, project, self._options.lock_timeout)

    def link_workspace(self, workspace_id: str, path: str | os.PathLike[str]) -> None:
        """Says that a project folder (a moved one, say) belongs to this workspace. Durable on return."""
        validate_workspace_id(workspace_id)
        folder = workspaces.folder_of(self._fs, path)
        with translated(self.data_dir):
            make_folder(self._fs, self.data_dir)
            workspaces.link(self._fs, self.data_dir, folder, workspace_id, self._options.lock_timeout)

    def workspace_folders(self) -> dict[str, str]:
        """The project folder of each workspace that has one, by workspace id. Raises `CorruptionError`."""
        return {found: folder for folder, found in workspaces.known_folders(self._fs, self.data_dir).items()}

    def delete_workspace(self, workspace_id: str) -> None:
        """Deletes a workspace with everything in it, quarantine included. Durable on return.

        Raises `WorkspaceNotFoundError`.
        """
        from nomad_sessions.workspace.removal import remove_workspace

        workspace = self.workspace(workspace_id)
        if workspace_id not in self.list_workspaces():
            raise WorkspaceNotFoundError(workspace_id=workspace_id)
        with translated(workspace.folder):
            remove_workspace(self._fs, workspace)
        self.clear_workspace(workspace_id)

    def clear_workspace(self, workspace_id: str) -> None:
        """Drops what is held in memory of a workspace, and reopens it at the next call; never touches data."""
        validate_workspace_id(workspace_id)
        with self._mutex:
            workspace = self._workspaces.pop(workspace_id, None)
        if workspace is not None:
            workspace.close(fold=False)

    def configure_workspace(self, workspace_id: str, **settings: Any) -> Body:
        """Changes settings of a workspace and returns them all. Durable on return.

        `fold="always"` folds after each commit, for folders shared with a tool that knows only `sessions.json` ("auto"
        is the default); `retention={"bytes": n, "days": n}` bounds the journal that is kept for replay.
        """
        workspaces.check_settings(settings)
        change = {"type": "workspace.configured", "sessionId": WORKSPACE, "settings": settings}
        result = self._commit(workspace_id, lambda _view, _stamp: ([change], lambda view: plain(view.settings())))
        # `merged` is the store's own note on other programs' files: nobody's to set.
        return {key: value for key, value in result.items() if key != "merged"}

    def settings(self, workspace_id: str) -> Body:
        """A workspace's own settings, those that have been set: see `configure_workspace`."""
        found = self._use(workspace_id, lambda each: each.read(lambda view: plain(view.settings())))
        return {key: value for key, value in found.items() if key != "merged"}

    def checkpoint(self, workspace_id: str) -> bool:
        """Folds the journal into a fresh `sessions.json`; False when it has everything already. Durable on return."""
        return self._use(workspace_id, lambda workspace: workspace.checkpoint())

    def check(self, workspace_id: str) -> CheckReport:
        """Reads and verifies every byte of a workspace; only reports, and never raises for damage.

        Rows of the mailbox that are no messages as we write them are among the problems, each by its id.
        """
        from nomad_sessions.mail.queue import flaw_of
        from nomad_sessions.workspace.check import check_workspace

        workspace = self.workspace(workspace_id)
        return check_workspace(self._fs, workspace.folder, flaw_of=flaw_of)

    def repair(self, workspace_id: str, *, drop_corrupt: bool = False) -> RepairReport:
        """Mends what can be mended without losing anything. Durable on return.

        With `drop_corrupt` also skips damaged records; they are kept in quarantine.
        """
        from nomad_sessions.workspace.repair import repair_workspace

        workspace = self.workspace(workspace_id)
        try:
            return repair_workspace(self._fs, workspace, drop_corrupt=drop_corrupt)
        finally:
            self.clear_workspace(workspace_id)

    def doctor(self, workspace_id: str | None = None) -> DoctorReport:
        """Whether the data folder and all workspaces in it, or one, lie where they should, and open; changes nothing.

        Finds network mounts, folders that a cloud client syncs and the copies it made there, file systems without
        locks, rights that others have, files that cannot be read. Never raises for what it finds, but
        `WorkspaceNotFoundError` where there is no such workspace.
        """
        from nomad_sessions.doctor import examine

        if workspace_id is not None:
            validate_workspace_id(workspace_id)

        def workspaces() -> list[str]:
            found = self.list_workspaces()
            if workspace_id is not None and workspace_id not in found:
                raise WorkspaceNotFoundError(workspace_id=workspace_id)
            return found if workspace_id is None else [workspace_id]

        return examine(self._fs, self.data_dir, workspaces, self._clock.now())

    def stats(self, workspace_id: str) -> WorkspaceStats:
        """Counts over all sessions and messages, and bytes on disk. Reads everything."""
        return self._use(workspace_id, lambda each: each.read(lambda view: stats_of(self._fs, each.folder, view)))

    def usage(self, workspace_id: str) -> Usage:
        """What the conversations took: tokens, cost, calls of tools; by day, agent and model. Reads everything."""
        from nomad_sessions.usage import usage_of

        return self._use(workspace_id, lambda each: each.read(usage_of))

    def warm(self, workspace_id: str, *, sessions: int = 20) -> int:
        """Reads what a program will ask for first: the list of sessions, and of the newest the messages that lie in
        pieces. Gives the number of messages. Cost: an open, and those messages."""
        return self._read(workspace_id, lambda view: listing.warm(view, sessions))

    def metrics(self) -> Metrics:
        """Numbers on the workspaces that are open, since they were, and on the subscriptions. Cost: a look at the files
        of each of them."""
        from nomad_sessions.metrics import metrics_of

        with self._mutex:
            workspaces, hub = dict(self._workspaces), self._hub
        return metrics_of(workspaces, hub)

    def status(self, workspace_id: str) -> WorkspaceStatus:
        """How the files stand: what the snapshot has, what only the journal has yet. Costs an open."""
        return self._use(
            workspace_id, lambda each: each.read(lambda view: status_of(self._fs, workspace_id, each, view))
        )

    def get_active_session_count(self, workspace_id: str | None = None) -> int:
        """How many sessions are neither closed nor archived, in one workspace or in all."""
        ids = self.list_workspaces() if workspace_id is None else [workspace_id]
        count = 0
        for each in ids:
            rows = self._read(each, lambda view: list(view.summaries().values()))
            count += sum(1 for row in rows if row.closed_at is None and row.archived_at is None)
        return count
