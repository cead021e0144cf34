"""Several calls as one: buffered, read by themselves, committed under the lock as one atomic group with one sync."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from nomad_sessions.errors import TransactionError
from nomad_sessions.operations.reading import Looking
from nomad_sessions.sessions_api import SessionCalls
from nomad_sessions.storage import attachments
from nomad_sessions.storage._os import Buffer
from nomad_sessions.storage.files import make_folder
from nomad_sessions.task_api import TaskCalls
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.overlay import Overlay
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.store import Operation, Stamp, Workspace
from nomad_sessions.workspace.view import View

__all__ = ["Transaction", "attach"]

T = TypeVar("T")
Use = Callable[[Callable[[Workspace], Any]], Any]
"""Calls its argument with the open workspace, which may be another one each time."""


def attach(workspace: Workspace, data: Buffer, digest: str | None = None) -> str:
    """Keeps the bytes of a file part, before any record names them; returns their SHA-256, which is `digest` where the
    caller has it. Durable on return."""
    digest = digest or attachments.name_of(data)
    with workspace.syncing():
        make_folder(workspace.fs, os.path.dirname(workspace.folder))
        if not attachments.is_kept(workspace.fs, workspace.folder, data, digest):
            return attachments.store(workspace.fs, workspace.folder, data, digest)
    with workspace.locked(), translated(workspace.folder):
        return attachments.store(workspace.fs, workspace.folder, data, digest)


class _Recorded:
    """The time and ids that a call got, to be handed out again when it is repeated at the commit."""

    def __init__(self, stamp: Stamp) -> None:
        stamp.leap()  # Another process may commit before this does.
        self._stamp = stamp
        self.now = stamp.now
        self._ids: list[str] = []
        self._next = 0

    def id(self) -> str:
        if self._next == len(self._ids):
            self._ids.append(self._stamp.id())
        self._next += 1
        return self._ids[self._next - 1]

    def rewind(self) -> None:
        self._next = 0


class Transaction(SessionCalls, TaskCalls):
    """What `manager.transaction(workspace_id)` yields: the manager's calls on sessions, messages and tasks, not
    committed yet.

    Reads see the transaction's own writes. Nothing is written until the block ends (but the bytes of attachments, which
    nothing names then); an exception writes nothing. If anybody else wrote meanwhile, every call is decided again at
    the end against the newest state: one that no longer fits (its session was deleted by another process) raises, and
    then nothing of the transaction is written. `rev`, and a session's `updated_at`, are in what it returns as if it
    were committed at once. Not for several threads.
    """

    def __init__(self, workspace_id: str, use: Use) -> None:
        self._workspace_id = workspace_id
        self._use = use
        self._calls: list[tuple[Operation[Any], _Recorded, list[Body]]] = []
        self._overlay: Overlay = use(lambda workspace: workspace.read(Overlay))
        self._ended = False

    def _check(self, workspace_id: str) -> None:
        if self._ended:
            raise TransactionError(message="this transaction has ended: begin another")
        if workspace_id != self._workspace_id:
            raise TransactionError(
                message=f"this transaction is of workspace {self._workspace_id!r}, not {workspace_id!r}"
            )

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        self._check(workspace_id)
        value: T = self._use(lambda workspace: workspace.read(lambda _: look(self._overlay)))
        return value

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        self._check(workspace_id)

        def run(workspace: Workspace, view: View) -> tuple[_Recorded, list[Body], T]:
            stamp = _Recorded(workspace.stamp(view))
            changes, result = operation(self._overlay, stamp)
            self._overlay.take(changes, stamp.now)
            return stamp, changes, result(self._overlay)

        stamp: _Recorded
        changes: list[Body]
        value: T
        stamp, changes, value = self._use(lambda workspace: workspace.read(lambda view: run(workspace, view)))
        self._calls.append((operation, stamp, changes))
        return value

    def _attach(self, workspace_id: str, data: bytes) -> str:
        self._check(workspace_id)
        digest: str = self._use(lambda workspace: attach(workspace, data))
        return digest

    def commit(self) -> None:
        """Writes everything as one group. What the context manager calls at the end of its block."""
        self._check(self._workspace_id)
        self._ended = True
        if self._calls:
            self._use(lambda workspace: workspace.commit(self._all))

    def rollback(self) -> None:
        """Forgets everything; the transaction has ended."""
        self._ended = True
        self._calls.clear()

    def _all(self, view: View, _: Stamp) -> tuple[list[Body], Callable[[View], None]]:
        return self._decided(view), lambda _: None

    def _decided(self, view: View) -> list[Body]:
        """The changes of all calls, at the state that this view is at."""
        if self._overlay.fits(view):
            return [change for _, _, changes in self._calls for change in changes]
        overlay = Overlay(view)
        group: list[Body] = []
        for operation, stamp, _ in self._calls:
            stamp.rewind()
            changes, _result = operation(overlay, stamp)
            overlay.take(changes, stamp.now)
            group += changes
        return group
