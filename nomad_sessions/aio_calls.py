"""The calls of `NativeSessionManager` as coroutines, one method for each, so that editors and type checkers see them.

Invariant: the names, parameters and results are those of `NativeSessionManager`. Verified by `tests/unit/test_aio.py`,
which compares the signatures.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nomad_sessions.doctor import DoctorReport
from nomad_sessions.errors import StoreClosedError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Message, Page, Session
from nomad_sessions.operations.listing import UNSET, Unset
from nomad_sessions.reports import WorkspaceStats, WorkspaceStatus
from nomad_sessions.usage import Usage
from nomad_sessions.workspace.check import CheckReport
from nomad_sessions.workspace.repair import RepairReport
from nomad_sessions.workspace.state import Body

if TYPE_CHECKING:
    from nomad_sessions.metrics import Metrics
    from nomad_sessions.sync.synchronizer import Synchronizer
    from nomad_sessions.sync.target import SyncTarget

__all__ = ["AsyncCalls"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncCalls:
    """What `AsyncSessionManager` has of `NativeSessionManager`: the docstrings there say what a call does, costs and
    raises, and what is durable when it returns."""

    def __init__(self, manager: NativeSessionManager, threads: ThreadPoolExecutor) -> None:
        self._manager = manager
        self._threads = threads
        self._closed = False

    async def _run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `call` on a thread. Cancelled before a thread has taken it up, it does not run; later, it finishes."""
        return await self._begun(call, *args, **kwargs)

    def _begun(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """`call`, which runs on a thread now, or as soon as one is free."""
        if self._closed:
            raise StoreClosedError(path=self._manager.data_dir)
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, functools.partial(call, *args, **kwargs))

    # Sessions and messages

    async def list_sessions(
        self,
        workspace_id: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        archived: bool | None = None,
        parent_id: str | Unset | None = UNSET,
        updated_since: int | None = None,
    ) -> Page[Session]:
        """Sessions by `updated_at`, newest first, ties by their last change. Everything, unless `limit` says less."""
        return await self._run(
            self._manager.list_sessions,
            workspace_id,
            limit=limit,
            cursor=cursor,
            archived=archived,
            parent_id=parent_id,
            updated_since=updated_since,
        )

    async def get_session(self, workspace_id: str, session_id: str) -> Session | None:
        """One session, or None."""
        return await self._run(self._manager.get_session, workspace_id, session_id)

    async def create_session(
        self, workspace_id: str, data: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Session:
        """Creates a session, from a mapping in either spelling, keywords, or both."""
        return await self._run(self._manager.create_session, workspace_id, data, **fields)

    async def update_session(
        self,
        workspace_id: str,
        session_id: str,
        changes: Mapping[str, Any] | None = None,
        /,
        *,
        if_rev: int | None = None,
        **fields: Any,
    ) -> Session:
        """Changes fields; None removes one. With `if_rev`, only if the session is at that `rev`."""
        return await self._run(self._manager.update_session, workspace_id, session_id, changes, if_rev=if_rev, **fields)

    async def delete_session(
        self, workspace_id: str, session_id: str, *, children: bool = False, forks: bool = False
    ) -> list[str]:
        """Deletes a session with its messages; returns the ids of the sessions that went. Durable on return."""
        return await self._run(self._manager.delete_session, workspace_id, session_id, children=children, forks=forks)

    async def fork_session(
        self, workspace_id: str, session_id: str, *, message_id: str | None = None, title: str | None = None
    ) -> Session:
        """A new session with copies of the visible messages, up to and including `message_id`. Durable on return."""
        return await self._run(self._manager.fork_session, workspace_id, session_id, message_id=message_id, title=title)

    async def revert(
        self, workspace_id: str, session_id: str, message_id: str | None = None, *, reason: str | None = None
    ) -> Session:
        """Keeps `message_id` and hides what follows; without it, hides the last message. Durable on return."""
        return await self._run(self._manager.revert, workspace_id, session_id, message_id, reason=reason)

    async def unrevert(self, workspace_id: str, session_id: str) -> Session:
        """Shows again everything that reverts hid since the last added message. Durable on return."""
        return await self._run(self._manager.unrevert, workspace_id, session_id)

    async def children(self, workspace_id: str, session_id: str) -> Page[Session]:
        """The sessions whose `parent_id` is this one, newest first; an empty page for an unknown id."""
        return await self._run(self._manager.children, workspace_id, session_id)

    async def close_session(self, workspace_id: str, session_id: str) -> Session:
        """Marks a session as closed now (`closed_at`). Durable on return."""
        return await self._run(self._manager.close_session, workspace_id, session_id)

    async def reopen_session(self, workspace_id: str, session_id: str) -> Session:
        """Takes the mark of `close_session` away. Durable on return."""
        return await self._run(self._manager.reopen_session, workspace_id, session_id)

    async def archive_session(self, workspace_id: str, session_id: str) -> Session:
        """Marks a session as archived now (`archived_at`). Durable on return."""
        return await self._run(self._manager.archive_session, workspace_id, session_id)

    async def unarchive_session(self, workspace_id: str, session_id: str) -> Session:
        """Takes the mark of `archive_session` away. Durable on return."""
        return await self._run(self._manager.unarchive_session, workspace_id, session_id)

    async def get_session_messages(
        self,
        workspace_id: str,
        session_id: str,
        *,
        last: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        include_reverted: bool = False,
    ) -> Page[Message]:
        """A session's messages in order: all, or the `last` n, or pages of `limit`; none for an unknown session."""
        return await self._run(
            self._manager.get_session_messages,
            workspace_id,
            session_id,
            last=last,
            limit=limit,
            cursor=cursor,
            include_reverted=include_reverted,
        )

    async def get_message(self, workspace_id: str, message_id: str) -> Message | None:
        """One message, visible or hidden by a revert, or None."""
        return await self._run(self._manager.get_message, workspace_id, message_id)

    async def add_message(
        self, workspace_id: str, session_id: str, data: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Message:
        """Adds a message at the end of a session: `add_message(ws, sid, {"role": "user", "content": "hi"})`."""
        return await self._run(self._manager.add_message, workspace_id, session_id, data, **fields)

    async def add_messages(
        self, workspace_id: str, session_id: str, items: Iterable[Mapping[str, Any]]
    ) -> list[Message]:
        """Adds several messages as one atomic group with one sync, as `add_message` adds one. Durable on return."""
        return await self._run(self._manager.add_messages, workspace_id, session_id, items)

    async def update_message(
        self,
        workspace_id: str,
        message_id: str,
        changes: Mapping[str, Any] | None = None,
        /,
        *,
        if_rev: int | None = None,
        **fields: Any,
    ) -> Message:
        """Changes fields of a message; None removes one. With `if_rev`, only if it is at that `rev`. Durable on
        return."""
        return await self._run(self._manager.update_message, workspace_id, message_id, changes, if_rev=if_rev, **fields)

    async def append_to_message(
        self, workspace_id: str, message_id: str, text: str, *, part: int | None = None, sync: bool = True
    ) -> None:
        """Adds text at the end of a message's content, or of part number `part`. Cost: the text and some 50 bytes."""
        return await self._run(self._manager.append_to_message, workspace_id, message_id, text, part=part, sync=sync)

    async def delete_message(self, workspace_id: str, message_id: str) -> None:
        """Deletes one message. Durable on return."""
        return await self._run(self._manager.delete_message, workspace_id, message_id)

    async def compact_session(
        self, workspace_id: str, session_id: str, summary: str, *, before: str | None = None, **fields: Any
    ) -> Message:
        """Adds `summary` as an assistant message that stands for everything before message `before` (None: all so
        far)."""
        return await self._run(
            self._manager.compact_session, workspace_id, session_id, summary, before=before, **fields
        )

    # Workspaces and the manager

    async def interrupted_messages(self, workspace_id: str) -> list[Message]:
        """The messages that still say `streaming` though nobody writes them: their writer died."""
        return await self._run(self._manager.interrupted_messages, workspace_id)

    async def read_attachment(self, workspace_id: str, sha256: str) -> bytes:
        """The bytes of a file part. Raises `AttachmentMissingError`."""
        return await self._run(self._manager.read_attachment, workspace_id, sha256)

    async def move_session(
        self, workspace_id: str, session_id: str, *, to_workspace: str | None = None, directory: str | None = None
    ) -> Session:
        """Gives a session another `directory`, or moves it with its messages and ids to another workspace."""
        return await self._run(
            self._manager.move_session, workspace_id, session_id, to_workspace=to_workspace, directory=directory
        )

    async def list_workspaces(self) -> list[str]:
        """The ids of all workspaces in the data folder, sorted."""
        return await self._run(
            self._manager.list_workspaces,
        )

    async def workspace_for(self, path: str | os.PathLike[str], *, create: bool = True) -> str:
        """The workspace of a project folder: of the nearest known folder above it, else of the git root, else its
        own."""
        return await self._run(self._manager.workspace_for, path, create=create)

    async def link_workspace(self, workspace_id: str, path: str | os.PathLike[str]) -> None:
        """Says that a project folder (a moved one, say) belongs to this workspace. Durable on return."""
        return await self._run(self._manager.link_workspace, workspace_id, path)

    async def workspace_folders(self) -> dict[str, str]:
        """The project folder of each workspace that has one, by workspace id."""
        return await self._run(self._manager.workspace_folders)

    async def delete_workspace(self, workspace_id: str) -> None:
        """Deletes a workspace with everything in it, quarantine included. Durable on return."""
        return await self._run(self._manager.delete_workspace, workspace_id)

    async def clear_workspace(self, workspace_id: str) -> None:
        """Drops what is held in memory of a workspace, and reopens it at the next call; never touches data."""
        return await self._run(self._manager.clear_workspace, workspace_id)

    async def configure_workspace(self, workspace_id: str, **settings: Any) -> Body:
        """Changes settings of a workspace and returns them all. Durable on return."""
        return await self._run(self._manager.configure_workspace, workspace_id, **settings)

    async def settings(self, workspace_id: str) -> Body:
        """A workspace's own settings, those that have been set."""
        return await self._run(self._manager.settings, workspace_id)

    async def start_sync(self, *targets: SyncTarget) -> Synchronizer:
        """Keeps copies of all workspaces up to date from now on, in the background."""
        return await self._run(self._manager.start_sync, *targets)

    async def warm(self, workspace_id: str, *, sessions: int = 20) -> int:
        """Reads what a program will ask for first; gives the number of messages."""
        return await self._run(self._manager.warm, workspace_id, sessions=sessions)

    async def metrics(self) -> Metrics:
        """Numbers on the workspaces that are open, since they were, and on the subscriptions."""
        return await self._run(self._manager.metrics)

    async def checkpoint(self, workspace_id: str) -> bool:
        """Folds the journal into a fresh `sessions.json`; False when it has everything already. Durable on return."""
        return await self._run(self._manager.checkpoint, workspace_id)

    async def check(self, workspace_id: str) -> CheckReport:
        """Reads and verifies every byte of a workspace; only reports, and never raises for damage."""
        return await self._run(self._manager.check, workspace_id)

    async def repair(self, workspace_id: str, *, drop_corrupt: bool = False) -> RepairReport:
        """Mends what can be mended without losing anything. Durable on return."""
        return await self._run(self._manager.repair, workspace_id, drop_corrupt=drop_corrupt)

    async def doctor(self, workspace_id: str | None = None) -> DoctorReport:
        """Whether the data folder and all workspaces in it, or one, lie where they should, and open."""
        return await self._run(self._manager.doctor, workspace_id)

    async def usage(self, workspace_id: str) -> Usage:
        """What the conversations took, by day, agent and model."""
        return await self._run(self._manager.usage, workspace_id)

    async def stats(self, workspace_id: str) -> WorkspaceStats:
        """Counts over all sessions and messages, and bytes on disk. Reads everything."""
        return await self._run(self._manager.stats, workspace_id)

    async def status(self, workspace_id: str) -> WorkspaceStatus:
        """How the files stand: what the snapshot has, what only the journal has yet. Costs an open."""
        return await self._run(self._manager.status, workspace_id)

    async def get_active_session_count(self, workspace_id: str | None = None) -> int:
        """How many sessions are neither closed nor archived, in one workspace or in all."""
        return await self._run(self._manager.get_active_session_count, workspace_id)

    async def flush(self) -> None:
        """Makes everything written through this manager durable, whatever the durability."""
        return await self._run(
            self._manager.flush,
        )
