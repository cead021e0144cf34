"""`NativeSessionManager`: the store as a program uses it.

Everything on sessions and messages is in `sessions_api.py` (one call, one operation), what concerns a workspace as a
whole in `workspaces_api.py`; here are which workspaces are open, what takes several calls, and the life of the manager.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat as stat_bits
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from nomad_sessions.clock import Clock, SystemClock
from nomad_sessions.config import default_data_dir, validate_workspace_id
from nomad_sessions.connections_api import ConnectionCalls
from nomad_sessions.errors import (
    ConflictError,
    DataDirError,
    InvalidInputError,
    SessionNotFoundError,
    StoreClosedError,
    TransactionError,
)
from nomad_sessions.events_api import EventCalls
from nomad_sessions.mail_api import MailCalls
from nomad_sessions.models import Message, Session
from nomad_sessions.operations.reading import Looking
from nomad_sessions.overview_api import OverviewCalls
from nomad_sessions.sessions_api import SessionCalls
from nomad_sessions.storage import attachments
from nomad_sessions.storage._os import REAL, Buffer, FileSystem
from nomad_sessions.streaming import MessageStream, interrupted
from nomad_sessions.sync_api import SyncCalls
from nomad_sessions.task_api import TaskCalls
from nomad_sessions.transaction import Transaction, attach
from nomad_sessions.workspace.attached import attachments_of
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.options import Durability, Options
from nomad_sessions.workspace.store import Operation, Workspace
from nomad_sessions.workspaces_api import WorkspaceCalls

# What is seldom asked for is loaded when it is: a program that only adds messages starts faster.
if TYPE_CHECKING:
    from nomad_sessions.connections import Connection
    from nomad_sessions.events.hub import Hub
    from nomad_sessions.operations.movement import Luggage
    from nomad_sessions.sync.synchronizer import Synchronizer
    from nomad_sessions.task_monitor import TaskMonitor
    from nomad_sessions.workspace.living import Living

__all__ = ["NativeSessionManager"]

_LIVING: weakref.WeakSet[NativeSessionManager] = weakref.WeakSet()
T = TypeVar("T")
_MOVES = 5


class NativeSessionManager(
    SessionCalls, TaskCalls, WorkspaceCalls, EventCalls, OverviewCalls, ConnectionCalls, MailCalls, SyncCalls
):
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
        given = default_data_dir() if data_dir is None else os.fsdecode(data_dir)
        self.data_dir = os.path.abspath(given)
        self._options = Options(durability, lock_timeout, batch_interval)
        self._clock = SystemClock() if clock is None else clock
        self._mutex = threading.Lock()
        self._workspaces: dict[str, Workspace] = {}
        self._in_transaction = threading.local()
        self._closed = False
        self._hub: Hub | None = None
        self._monitors: list[TaskMonitor] = []
        self._synchronizers: list[Synchronizer] = []
        self._connections: set[Connection] = set()
        self._consumers: dict[str, tuple[Workspace, Living]] = {}
        with translated(self.data_dir):
            stat = self._fs.stat(self.data_dir)
        if stat is not None and not stat_bits.S_ISDIR(stat.mode):
            raise DataDirError(path=self.data_dir)
        _LIVING.add(self)

    def _after_fork(self) -> None:
        """In a forked child: another thread, which is not here, may have held the mutex."""
        self._mutex = threading.Lock()
        hub, self._hub = self._hub, None
        if hub is not None:
            hub.after_fork()
        monitors, self._monitors = self._monitors, []
        for monitor in monitors:
            monitor.after_fork()
        connections, self._connections = self._connections, set()
        for each in connections:
            each.after_fork()

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
        result = self._use(workspace_id, lambda workspace: workspace.commit(operation, lazy=lazy))
        if self._hub is not None:
            self._hub.wake(workspace_id)
        return result

    def _attach(self, workspace_id: str, data: Buffer, digest: str | None = None) -> str:
        return self._use(workspace_id, lambda workspace: attach(workspace, data, digest))

    # Several calls as one, streaming, attachments

    @contextlib.contextmanager
    def transaction(self, workspace_id: str) -> Iterator[Transaction]:
        """Yields an object with this manager's calls on sessions, messages and tasks; see `Transaction`.

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
            self._end(workspace_id, transaction)
        finally:
            self._in_transaction.active = False

    def _end(self, workspace_id: str, transaction: Transaction) -> None:
        transaction.commit()
        if self._hub is not None:
            self._hub.wake(workspace_id)

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
        """Gives a session another `directory`, or moves it with its messages, tasks and ids to another workspace.

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
                self._commit(workspace_id, movement.leave(luggage))
                break
            except ConflictError:  # Somebody wrote to it meanwhile.
                if attempt == _MOVES - 1:
                    raise
        return moved

    def _carry_attachments(self, workspace_id: str, to_workspace: str, luggage: Luggage) -> None:
        for body in [luggage.fields, *luggage.messages, *luggage.detached]:
            for digest in attachments_of(body):
                self._attach(to_workspace, self.read_attachment(workspace_id, digest))

    # Life

    def flush(self) -> None:
        """Makes everything written through this manager durable, whatever the durability."""
        for workspace in list(self._workspaces.values()):
            workspace.flush()

    def close(self, *, checkpoint: bool = False) -> None:
        """Ends connections, subscriptions and what is sent elsewhere, syncs, folds small workspaces that were written
        to (with `checkpoint` all that are open), closes every file.

        Safe to call twice; every other call then raises `StoreClosedError`. Where one workspace cannot be closed as it
        should (a full disk), the others are, and its error is raised.
        """
        with self._mutex:
            self._closed = True
            open_ones = list(self._workspaces.values())
            hub, monitors, synchronizers = self._hub, self._monitors, self._synchronizers
            self._end_consumers()
        for synchronizer in synchronizers:
            synchronizer.close()
        for monitor in monitors:
            monitor.close()
        with contextlib.ExitStack() as ending:
            for workspace in open_ones:
                ending.callback(workspace.close, checkpoint=checkpoint)
            if hub is not None:
                ending.callback(hub.close)
            for connection in tuple(self._connections):
                ending.callback(connection.close, timeout=self._options.lock_timeout)

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


def _after_fork_in_child() -> None:
    for manager in list(_LIVING):
        manager._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
