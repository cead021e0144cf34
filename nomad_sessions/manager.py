"""`NativeSessionManager`: the store as a program uses it.

Everything on sessions and messages is in `sessions_api.py` (one call, one operation); here are the workspaces, what
concerns one as a whole, and the life of the manager.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat as stat_bits
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from nomad_sessions import workspaces
from nomad_sessions.clock import Clock, SystemClock
from nomad_sessions.config import default_data_dir, validate_workspace_id
from nomad_sessions.errors import (
    ConflictError,
    DataDirError,
    InvalidInputError,
    SessionNotFoundError,
    StoreClosedError,
    TransactionError,
    WorkspaceNotFoundError,
)
from nomad_sessions.models import Message, Session
from nomad_sessions.operations import sessions
from nomad_sessions.operations.plain import plain
from nomad_sessions.operations.reading import Looking
from nomad_sessions.reports import WorkspaceStats, WorkspaceStatus, stats_of, status_of
from nomad_sessions.sessions_api import SessionCalls
from nomad_sessions.storage import attachments
from nomad_sessions.storage._os import REAL, FileSystem
from nomad_sessions.storage.files import make_folder
from nomad_sessions.streaming import MessageStream, interrupted
from nomad_sessions.transaction import Transaction, attach
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.store import Durability, Operation, Options, Workspace

# What is seldom asked for is loaded when it is: a program that only adds messages starts faster.
if TYPE_CHECKING:
    from nomad_sessions.doctor import DoctorReport
    from nomad_sessions.operations.movement import Luggage
    from nomad_sessions.workspace.check import CheckReport
    from nomad_sessions.workspace.repair import RepairReport

__all__ = ["NativeSessionManager"]

T = TypeVar("T")
_MOVES = 5


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
        with translated(self.data_dir):
            stat = self._fs.stat(self.data_dir)
        if stat is not None and not stat_bits.S_ISDIR(stat.mode):
            raise DataDirError(path=self.data_dir)

    # The three that all calls come down to

    def workspace(self, workspace_id: str) -> Workspace:
        """The open workspace of this id, opened when it is first asked for."""
        try:
            return self._workspaces[workspace_id]  # It was checked when it came in.
        except (KeyError, TypeError):
            validate_workspace_id(workspace_id)
        with self._mutex:
            if self._closed:
                raise StoreClosedError(path=self.data_dir)
            if workspace_id not in self._workspaces:
                folder = f"{self.data_dir}/{workspace_id}"
                self._workspaces[workspace_id] = Workspace(self._fs, folder, self._clock, self._options)
            return self._workspaces[workspace_id]

    def _use(self, workspace_id: str, use: Callable[[Workspace], T]) -> T:
        while True:
            workspace = self.workspace(workspace_id)
            try:
                return use(workspace)
            except StoreClosedError:
                # Unless another thread has cleared this workspace since we looked it up: then nothing was done.
                if self._closed or self._workspaces.get(workspace_id) is workspace:
                    raise

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        return self._use(workspace_id, lambda workspace: workspace.read(look))

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        return self._use(workspace_id, lambda workspace: workspace.commit(operation, lazy=lazy))

    def _attach(self, workspace_id: str, data: bytes) -> str:
        return self._use(workspace_id, lambda workspace: attach(workspace, data))

    # Several calls as one, streaming, attachments

    @contextlib.contextmanager
    def transaction(self, workspace_id: str) -> Iterator[Transaction]:
        """Yields an object with this manager's calls on sessions and messages; see `Transaction`.

        What they write is committed as one atomic group at the end of the block, with one sync, or not at all when an
        exception leaves it. The lock is taken only for the commit. Durable on return. Nesting raises
        `TransactionError`.
        """
        if getattr(self._in_transaction, "active", False):
            raise TransactionError(message="transactions do not nest: use the one that is open")
        transaction = self._begin(workspace_id)
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

    def _begin(self, workspace_id: str) -> Transaction:
        return Transaction(workspace_id, functools.partial(self._use, workspace_id))

    def stream_message(self, workspace_id: str, session_id: str, **fields: Any) -> MessageStream:
        """A message to be written as it comes from a model: `with m.stream_message(ws, sid, model=…) as s: s.text(d)`.

        `fields` are those of `add_message`; the role is `assistant`. See `MessageStream`.
        """
        return MessageStream(self, workspace_id, session_id, fields)

    def interrupted_messages(self, workspace_id: str) -> list[Message]:
        """The messages that still say `streaming` though nobody writes them: their writer died.

        The text that had arrived is there. Reads every message once.
        """
        return self._use(workspace_id, lambda each: each.read(lambda view: interrupted(view, self._fs, each.folder)))

    def read_attachment(self, workspace_id: str, sha256: str) -> bytes:
        """The bytes of a file part. Raises `AttachmentMissingError`."""
        if not isinstance(sha256, str):
            raise InvalidInputError(field="sha256", value=sha256, reason="must be a str: the sha256 of a file part")
        return attachments.read(self._fs, self.workspace(workspace_id).folder, sha256)

    def move_session(
        self, workspace_id: str, session_id: str, *, to_workspace: str | None = None, directory: str | None = None
    ) -> Session:
        """Gives a session another `directory`, or moves it with its messages and ids to another workspace.

        The move is a copy that is durable there before it is deleted here: after a crash it may be in both, never in
        none, and repeating the call finishes it, also one that had finished. `movedFrom` of the session then names this
        workspace. Raises `AlreadyExistsError` where another session there has its id. Cost: the session is read and
        written once.
        """
        if to_workspace is not None:
            validate_workspace_id(to_workspace)
        if to_workspace is None or to_workspace == workspace_id:
            if directory is None and to_workspace is None:
                raise InvalidInputError(field="to_workspace", value=None, reason="say where to: this or directory")
            return self.update_session(workspace_id, session_id, {} if directory is None else {"directory": directory})
        from nomad_sessions.operations import movement

        for attempt in range(_MOVES):
            try:
                luggage = self._read(workspace_id, movement.pack(session_id))
            except SessionNotFoundError:
                if self.get_session(to_workspace, session_id) is None:
                    raise
                changes = {} if directory is None else {"directory": directory}
                return self.update_session(to_workspace, session_id, changes)
            self._carry_attachments(workspace_id, to_workspace, luggage)
            moved = self._commit(to_workspace, movement.arrive(workspace_id, to_workspace, luggage, directory))
            try:
                leave = sessions.delete(session_id, children=False, forks=False, if_rev=luggage.rev)
                self._commit(workspace_id, leave)
                break
            except ConflictError:  # Somebody wrote to it meanwhile.
                if attempt == _MOVES - 1:
                    raise
        return moved

    def _carry_attachments(self, workspace_id: str, to_workspace: str, luggage: Luggage) -> None:
        for body in [*luggage.messages, *luggage.detached]:
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
            stat = self._fs.stat(folder)
            if stat is None or not stat_bits.S_ISDIR(stat.mode):
                continue
            if any(self._fs.stat(f"{folder}/{each}") is not None for each in names):
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

    def checkpoint(self, workspace_id: str) -> bool:
        """Folds the journal into a fresh `sessions.json`; False when it has everything already. Durable on return."""
        return self._use(workspace_id, lambda workspace: workspace.checkpoint())

    def check(self, workspace_id: str) -> CheckReport:
        """Reads and verifies every byte of a workspace; only reports, and never raises for damage."""
        from nomad_sessions.workspace.check import check_workspace

        workspace = self.workspace(workspace_id)
        return check_workspace(self._fs, workspace.folder)

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

    # Life

    def flush(self) -> None:
        """Makes everything written through this manager durable, whatever the durability."""
        for workspace in list(self._workspaces.values()):
            workspace.flush()

    def close(self, *, checkpoint: bool = False) -> None:
        """Syncs, folds small workspaces that were written to (with `checkpoint` all that are open), closes every file.

        Safe to call twice; every other call then raises `StoreClosedError`. Where one workspace cannot be closed as it
        should (a full disk), the others are, and its error is raised.
        """
        with self._mutex:
            self._closed = True
            open_ones = list(self._workspaces.values())
        with contextlib.ExitStack() as ending:
            for workspace in open_ones:
                ending.callback(workspace.close, checkpoint=checkpoint)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __enter__(self) -> NativeSessionManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"NativeSessionManager({self.data_dir!r})"
