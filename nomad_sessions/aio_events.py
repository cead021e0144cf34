"""The calls on events as coroutines, for `AsyncSessionManager`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Event

if TYPE_CHECKING:
    from nomad_sessions.events.cursors import CursorInfo
    from nomad_sessions.events.delivery import Callback, Deliver
    from nomad_sessions.events.subscription import Subscription

__all__ = ["AsyncEventCalls"]

_EVENTS_AT_ONCE = 256

P = ParamSpec("P")
T = TypeVar("T")


class AsyncEventCalls:
    """What `AsyncSessionManager` has of the calls on events: the docstrings of `NativeSessionManager` say the rest."""

    _manager: NativeSessionManager

    async def _run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `call` on a thread."""
        raise NotImplementedError

    async def subscribe(
        self,
        workspace_id: str | None = None,
        *,
        types: str | Iterable[str] = (),
        session_id: str | None = None,
        message_id: str | None = None,
        recorded: bool | None = None,
        has_tool: bool | None = None,
        is_agent_task: bool | None = None,
        since: int | None = None,
        cursor: str | None = None,
        callback: Callback | None = None,
        deliver: Deliver | None = None,
    ) -> Subscription:
        """Everything that happens from now on, for `async for`, or for a callback."""
        return await self._run(
            self._manager.subscribe,
            workspace_id,
            types=types,
            session_id=session_id,
            message_id=message_id,
            recorded=recorded,
            has_tool=has_tool,
            is_agent_task=is_agent_task,
            since=since,
            cursor=cursor,
            callback=callback,
            deliver=deliver,
        )

    async def events(
        self,
        workspace_id: str,
        *,
        since: int | None = None,
        until: int | None = None,
        types: str | Iterable[str] = (),
        session_id: str | None = None,
        message_id: str | None = None,
        recorded: bool | None = None,
        has_tool: bool | None = None,
        is_agent_task: bool | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> AsyncIterator[Event]:
        """What happened, in order, for `async for`: the log is read on another thread."""
        found = await self._run(
            self._manager.events,
            workspace_id,
            since=since,
            until=until,
            types=types,
            session_id=session_id,
            message_id=message_id,
            recorded=recorded,
            has_tool=has_tool,
            is_agent_task=is_agent_task,
            after=after,
            before=before,
            limit=limit,
            newest_first=newest_first,
        )
        while batch := await self._run(list, islice(found, _EVENTS_AT_ONCE)):
            for event in batch:
                yield event

    async def record_event(
        self,
        workspace_id: str,
        type: str,
        properties: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        message_id: str | None = None,
    ) -> int:
        """Records what happened outside of the store; gives the seq. Durable on return."""
        return await self._run(
            self._manager.record_event, workspace_id, type, properties, session_id=session_id, message_id=message_id
        )

    async def record_events(self, workspace_id: str, items: Iterable[Mapping[str, Any]]) -> list[int]:
        """The same for several events, with one sync: all of them, or none."""
        return await self._run(self._manager.record_events, workspace_id, items)

    async def list_cursors(self, workspace_id: str) -> list[CursorInfo]:
        """The cursors of a workspace, by name."""
        return await self._run(self._manager.list_cursors, workspace_id)

    async def delete_cursor(self, workspace_id: str, cursor: str) -> bool:
        """Forgets a durable cursor; False when there is none. Durable on return."""
        return await self._run(self._manager.delete_cursor, workspace_id, cursor)
