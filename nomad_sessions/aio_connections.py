"""The calls on connections as coroutines; `aio_calls.py` has the others.

Invariant: a call that was cancelled has left no client connected when it ends. Verified by
`tests/unit/test_connections_aio.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from nomad_sessions.errors import StoreClosedError
from nomad_sessions.finishing import finished
from nomad_sessions.manager import NativeSessionManager

if TYPE_CHECKING:
    from nomad_sessions.connections import Connection, ConnectionInfo
    from nomad_sessions.events.delivery import Callback, Deliver
    from nomad_sessions.events.subscription import Subscription

__all__ = ["AsyncConnectionCalls"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncConnectionCalls:
    """The calls on connections that `AsyncSessionManager` has of `NativeSessionManager`."""

    _manager: NativeSessionManager
    _threads: ThreadPoolExecutor
    _closed: bool

    def _run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        raise NotImplementedError

    async def open_session(
        self,
        workspace_id: str,
        session_id: str,
        *,
        client: str | None = None,
        exclusive: bool = False,
        expires_after: float | None = None,
    ) -> Connection:
        """Connects a client to an open session; for `async with`."""
        call = functools.partial(self._manager.open_session, workspace_id, session_id, client=client)
        return await self._connected(functools.partial(call, exclusive=exclusive, expires_after=expires_after))

    async def resume_session(
        self,
        workspace_id: str,
        session_id: str,
        *,
        client: str | None = None,
        exclusive: bool = False,
        expires_after: float | None = None,
    ) -> Connection:
        """Opens a closed or archived session again, and connects to it; for `async with`. Durable on return."""
        call = functools.partial(self._manager.resume_session, workspace_id, session_id, client=client)
        return await self._connected(functools.partial(call, exclusive=exclusive, expires_after=expires_after))

    async def connections(self, workspace_id: str, session_id: str | None = None) -> list[ConnectionInfo]:
        """Who is connected to a session, or to any of the workspace, by session and client."""
        return await self._run(self._manager.connections, workspace_id, session_id)

    async def follow_session(
        self,
        workspace_id: str,
        session_id: str,
        *,
        since: int | None = None,
        callback: Callback | None = None,
        deliver: Deliver | None = None,
    ) -> Subscription:
        """A session as it is, and then everything that happens to it, for `async for`, or for a callback."""
        return await self._run(
            self._manager.follow_session, workspace_id, session_id, since=since, callback=callback, deliver=deliver
        )

    async def _connected(self, call: Callable[[], Connection]) -> Connection:
        """Connects on a thread; who is cancelled meanwhile will not hold the connection: it is closed first."""
        if self._closed:
            raise StoreClosedError(path=self._manager.data_dir)
        connecting = self._threads.submit(call)
        try:
            return await asyncio.shield(asyncio.wrap_future(connecting))
        except asyncio.CancelledError:
            if not connecting.cancel():
                with contextlib.suppress(Exception):  # That of connecting: the cancellation is what counts.
                    await finished(asyncio.get_running_loop().run_in_executor(None, _close, connecting))
            raise


def _close(connecting: Future[Connection]) -> None:
    connecting.result().close()
