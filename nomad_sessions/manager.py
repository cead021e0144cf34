"""`NativeSessionManager`: the store as a program uses it.

Everything on sessions and messages is in `sessions_api.py` (one call, one operation); here are the workspaces, what
concerns one as a whole, and the life of the manager.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from nomad_sessions import workspaces
from nomad_sessions.clock import Clock, SystemClock
from nomad_sessions.config import default_data_dir, validate_workspace_id
from nomad_sessions.errors import (
    DataDirError,
    InvalidInputError,
    StoreClosedError,
    TransactionError,
    WorkspaceNotFoundError,
)
from nomad_sessions.models import Message, Session
from nomad_sessions.operations import movement
from nomad_sessions.operations.reading import Looking
from nomad_sessions.reports import WorkspaceStats, WorkspaceStatus, stats_of, status_of
from nomad_sessions.sessions_api import SessionCalls
from nomad_sessions.storage import attachments
from nomad_sessions.storage._os import REAL, FileSystem
from nomad_sessions.streaming import MessageStream, interrupted
from nomad_sessions.transaction import Transaction
from nomad_sessions.workspace.check import CheckReport, check_workspace
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.removal import remove_workspace
from nomad_sessions.workspace.repair import RepairReport, repair_workspace
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.store import Durability, Operation, Options, Workspace

__all__ = ["NativeSessionManager", "get_session_manager", "init_session_manager"]

T = TypeVar("T")


class NativeSessionManager(SessionCalls):
    """Sessions and messages in plain files, one folder a workspace, under `data_dir`.

    `data_dir` defaults to NOMAD_SESSIONS_DIR or the user's data folder. `durability`: "full" (synced before a call
    returns), "batch" (within `batch_interval` seconds: at most the newest suffix can be lost to a power cut), "os"
    (survives the process, not the power). `lock_timeout` is how long a write waits for another process, in seconds.

    Safe to share between threads; any number of processes may have the same workspace open; after `fork()` a child goes
    on with descriptors of its own. A context manager. Nothing is created before the first write.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "full",
        lock_timeout: float = 10.0,
        batch_interval: float = 0.05,
        clock: Clock | None = None,
        filesystem: FileSystem | None = None,
    ) -> None:
        """Raises `InvalidInputError` for an unknown durability, `DataDirError` where `data_dir` is a file."""
        if durability not in ("full", "batch", "os"):
            raise InvalidInputError(field="durability", value=durability, reason='must be "full", "batch" or "os"')
        self._fs = REAL if filesystem is None else filesystem
        given = default_data_dir() if data_dir is None else os.fspath(data_dir)
        self.data_dir = os.path.abspath(given)
        self._options = Options(durability, lock_timeout, batch_interval)
        self._clock = SystemClock() if clock is None else clock
        self._mutex = threading.Lock()
        self._workspaces: dict[str, Workspace] = {}
        self._in_transaction = threading.local()
        self._closed = False
        stat = self._stat(self.data_dir)
        if stat is not None and not os.path.stat.S_ISDIR(stat.mode):  # type: ignore[attr-defined]
            raise DataDirError(path=self.data_dir)

    def _stat(self, path: str) -> Any:
        with translated(path):
            return self._fs.stat(path)

    # The three that all calls come down to

    def workspace(self, workspace_id: str) -> Workspace:
        """The open workspace of this id, opened when it is first asked for."""
        workspace = self._workspaces.get(workspace_id)
        if workspace is not None:
            return workspace
        validate_workspace_id(workspace_id)
        with self._mutex:
            if self._closed:
                raise StoreClosedError(path=self.data_dir)
            if workspace_id not in self._workspaces:
                folder = f"{self.data_dir}/{workspace_id}"
                self._workspaces[workspace_id] = Workspace(self._fs, folder, self._clock, self._options)
            return self._workspaces[workspace_id]

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        return self.workspace(workspace_id).read(look)

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        return self.workspace(workspace_id).commit(operation, lazy=lazy)

    def _attach(self, workspace_id: str, data: bytes) -> str:
        workspace = self.workspace(workspace_id)
        with translated(workspace.folder):
            self._fs.mkdir(self.data_dir, 0o700) if self._fs.stat(self.data_dir) is None else None
            return attachments.store(self._fs, workspace.folder, data)

    def commit_lazily(self, workspace_id: str, operation: Operation[T]) -> T:
        """Commits an operation that is synced soon rather than on return (a streamed token)."""
        return self._commit(workspace_id, operation, lazy=True)

    def place_of(self, workspace_id: str) -> tuple[FileSystem, str]:
        """The file system and the folder of a workspace."""
        return self._fs, self.workspace(workspace_id).folder

    # Several calls as one, streaming, attachments

    @contextlib.contextmanager
    def transaction(self, workspace_id: str) -> Iterator[Transaction]:
        """Yields an object with this manager's calls; what they write is committed as one atomic group at the end of the
        block, with one sync, or not at all when an exception leaves it. Nesting raises `TransactionError`.

        The lock is taken only for the commit. Durable on return.
        """
        if getattr(self._in_transaction, "active", False):
            raise TransactionError(message="transactions do not nest: use the one that is open")
        transaction = Transaction(workspace_id, self.workspace(workspace_id))
        self._in_transaction.active = True
        try:
            yield transaction
        except BaseException:
            transaction.rollback()
            raise
        else:
            transaction.commit()
        finally:
            self._in_transaction.active = False

    def stream_message(self, workspace_id: str, session_id: str, **fields: Any) -> MessageStream:
        """A message to be written as it comes from a model: `with m.stream_message(ws, sid, model=…) as s: s.text(d)`.

        `fields` are those of `add_message`; the role is `assistant`. See `MessageStream`.
        """
        return MessageStream(self, workspace_id, session_id, fields)

    def interrupted_messages(self, workspace_id: str) -> list[Message]:
        """The messages that still say `streaming` though nobody writes them: their writer died. The text that had
        arrived is there. Reads every message once."""
        workspace = self.workspace(workspace_id)
        return workspace.read(lambda view: interrupted(view, self._fs, workspace.folder))

    def read_attachment(self, workspace_id: str, sha256: str) -> bytes:
        """The bytes of a file part. Raises `AttachmentMissingError`."""
        return attachments.read(self._fs, self.workspace(workspace_id).folder, sha256)

    def move_session(
        self, workspace_id: str, session_id: str, *, to_workspace: str | None = None, directory: str | None = None
    ) -> Session:
        """Gives a session another `directory`, or moves it with its messages and ids to another workspace.

        The move is a copy that is durable there before it is deleted here: after a crash it may be in both, never in
        none, and repeating the call finishes it.
        """
        return movement.move(self, workspace_id, session_id, to_workspace, directory)

    def carry_attachments(self, workspace_id: str, to_workspace: str, body: Body) -> None:
        """Copies the attachments that a message names to another workspace, durably."""
        for part in body.get("parts") or ():
            digest = (part.get("file") or {}).get("sha256") if isinstance(part, dict) else None
            if digest is not None:
                self._attach(to_workspace, self.read_attachment(workspace_id, digest))

    # Workspaces

    def list_workspaces(self) -> list[str]:
        """The ids of all workspaces in the data folder, sorted."""
        found = []
        for name in self._fs.listdir(self.data_dir):
            folder = f"{self.data_dir}/{name}"
            names = ("sessions.json", "journal", "sessions.json.prev")
            if any(self._fs.stat(f"{folder}/{each}") is not None for each in names if self._is_dir(folder)):
                found.append(name)
        return sorted(found)

    def _is_dir(self, path: str) -> bool:
        stat = self._fs.stat(path)
        return stat is not None and (stat.mode & 0o170000) == 0o040000

    def workspace_for(self, path: str | os.PathLike[str], *, create: bool = True) -> str:
        """The workspace of a project folder, found from any of its subfolders: that of the nearest known folder, else
        of the git root, else of the folder itself. The folder is remembered, unless `create` is False."""
        known = workspaces.known_folders(self._fs, self.data_dir)
        project = workspaces.find_project(self._fs, os.fspath(path), known)
        if project in known:
            return known[project]
        workspace_id = workspaces.workspace_id_of(project)
        if create:
            self.link_workspace(workspace_id, project)
        return workspace_id

    def link_workspace(self, workspace_id: str, path: str | os.PathLike[str]) -> None:
        """Says that a project folder (a moved one, say) belongs to this workspace. Durable on return."""
        validate_workspace_id(workspace_id)
        folder = self._fs.resolve(os.path.abspath(os.fspath(path)))
        with translated(self.data_dir):
            self.workspace(workspace_id).make_parents()
            workspaces.link(self._fs, self.data_dir, folder, workspace_id, self._options.lock_timeout)

    def delete_workspace(self, workspace_id: str) -> None:
        """Deletes a workspace with everything in it, quarantine included. Durable on return.

        Raises `WorkspaceNotFoundError`.
        """
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
        """Changes settings of a workspace and returns them all. `fold="always"` folds after each commit, for folders
        shared with a tool that knows only `sessions.json`; `retention={"bytes": n, "days": n}` bounds the journal that
        is kept for replay. Durable on return."""
        for key in settings:
            if key not in ("fold", "retention"):
                raise InvalidInputError(field=key, value=settings[key], reason="is no setting: fold, retention")
        if settings.get("fold", "auto") not in ("auto", "always"):
            raise InvalidInputError(field="fold", value=settings["fold"], reason='must be "auto" or "always"')
        change = {"type": "workspace.configured", "sessionId": WORKSPACE, "settings": settings}
        return self._commit(workspace_id, lambda _view, _stamp: ([change], lambda view: dict(view.settings())))

    def checkpoint(self, workspace_id: str) -> bool:
        """Folds the journal into a fresh `sessions.json`; False when it has everything already. Durable on return."""
        return self.workspace(workspace_id).checkpoint()

    def check(self, workspace_id: str) -> CheckReport:
        """Reads and verifies every byte of a workspace; only reports, and never raises for damage."""
        workspace = self.workspace(workspace_id)
        return check_workspace(self._fs, workspace.folder)

    def repair(self, workspace_id: str, *, drop_corrupt: bool = False) -> RepairReport:
        """Mends what can be mended without losing anything; with `drop_corrupt` also skips damaged records, which are
        kept in quarantine. Durable on return."""
        workspace = self.workspace(workspace_id)
        try:
            return repair_workspace(self._fs, workspace, drop_corrupt=drop_corrupt)
        finally:
            self.clear_workspace(workspace_id)

    def stats(self, workspace_id: str) -> WorkspaceStats:
        """Counts over all sessions and messages, and bytes on disk. Reads everything."""
        workspace = self.workspace(workspace_id)
        return workspace.read(lambda view: stats_of(self._fs, workspace.folder, view))

    def status(self, workspace_id: str) -> WorkspaceStatus:
        """How the files stand: what the snapshot has, what only the journal has yet. Costs an open."""
        workspace = self.workspace(workspace_id)
        return workspace.read(lambda view: status_of(self._fs, workspace_id, workspace, view))

    def get_active_session_count(self, workspace_id: str | None = None) -> int:
        """How many sessions are neither closed nor archived, in one workspace or in all."""
        ids = self.list_workspaces() if workspace_id is None else [workspace_id]
        count = 0
        for each in ids:
            rows = self.workspace(each).read(lambda view: list(view.summaries().values()))
            count += sum(1 for row in rows if row.closed_at is None and row.archived_at is None)
        return count

    # Life

    def flush(self) -> None:
        """Makes everything written through this manager durable, whatever the durability."""
        for workspace in list(self._workspaces.values()):
            workspace.flush()

    def close(self, *, checkpoint: bool = False) -> None:
        """Syncs, folds small workspaces that were written to (all of those open, with `checkpoint`), gives every
        descriptor back. Safe to call twice; every other call then raises `StoreClosedError`."""
        with self._mutex:
            self._closed = True
            open_ones = list(self._workspaces.values())
        for workspace in open_ones:
            workspace.close(checkpoint=checkpoint)

    def __enter__(self) -> NativeSessionManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"NativeSessionManager({self.data_dir!r})"


_default: NativeSessionManager | None = None
_default_mutex = threading.Lock()


def init_session_manager(data_dir: str | os.PathLike[str] | None = None, **options: Any) -> NativeSessionManager:
    """Makes the manager that `get_session_manager` gives from now on; one made before is closed."""
    global _default
    with _default_mutex:
        if _default is not None:
            _default.close()
        _default = NativeSessionManager(data_dir, **options)
        return _default


def get_session_manager(data_dir: str | os.PathLike[str] | None = None) -> NativeSessionManager:
    """The manager of this process, made when it is first asked for. `data_dir` counts only then."""
    global _default
    with _default_mutex:
        if _default is None:
            _default = NativeSessionManager(data_dir)
        return _default
