"""`AsyncSessionManager`: the same calls as coroutines, run on threads of their own.

Invariant: cancelling an awaited write before a thread has taken it up means that it was not done; from then on the
commit finishes, whatever happens to the one who awaited it. Verified by `tests/unit/test_aio.py`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.streaming import MessageStream

if TYPE_CHECKING:
    from nomad_sessions.transaction import Transaction

__all__ = ["AsyncMessageStream", "AsyncSessionManager"]

T = TypeVar("T")
_THREADS = 8
_OWN = frozenset({"transaction", "stream_message", "close", "commit_lazily", "place_of", "carry_attachments"})


class AsyncSessionManager:
    """`NativeSessionManager` for asyncio: every call of it is a coroutine here, with the same arguments, result, errors
    and durability. An async context manager. Takes the same options, or shares an existing `manager` (which it then
    does not close).

    Calls run on up to eight threads; concurrent writes share syncs.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        manager: NativeSessionManager | None = None,
        **options: Any,
    ) -> None:
        self._owned = manager is None
        self._manager = NativeSessionManager(data_dir, **options) if manager is None else manager
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="nomad-sessions")

    async def _run(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(call, *args, **kwargs))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., Any]: ...

    def stream_message(self, workspace_id: str, session_id: str, **fields: Any) -> AsyncMessageStream:
        """As `NativeSessionManager.stream_message`, for `async with`."""
        return AsyncMessageStream(self, self._manager.stream_message(workspace_id, session_id, **fields))

    @asynccontextmanager
    async def transaction(self, workspace_id: str) -> AsyncIterator[Transaction]:
        """As `NativeSessionManager.transaction`. Calls on the yielded object only buffer, and are plain calls; the
        commit is awaited at the end of the block."""
        from nomad_sessions.transaction import Transaction

        workspace = self._manager.workspace(workspace_id)
        transaction = await self._run(Transaction, workspace_id, workspace)
        try:
            yield transaction
        except BaseException:
            transaction.rollback()
            raise
        await asyncio.shield(self._run(transaction.commit))

    async def close(self, *, checkpoint: bool = False) -> None:
        """As `NativeSessionManager.close`; waits for calls that are under way."""
        if self._owned:
            await self._run(self._manager.close, checkpoint=checkpoint)
        self._threads.shutdown(wait=False)

    async def __aenter__(self) -> AsyncSessionManager:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(self.close())


def _coroutine(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def method(self: AsyncSessionManager, /, *args: Any, **kwargs: Any) -> Any:
        return await self._run(getattr(self._manager, name), *args, **kwargs)

    return method


for _name, _call in inspect.getmembers(NativeSessionManager, inspect.isfunction):
    if not _name.startswith("_") and _name not in _OWN:
        setattr(AsyncSessionManager, _name, _coroutine(_name, _call))


class AsyncMessageStream:
    """A message while it is written, for `async with`: the calls of `MessageStream`, as coroutines."""

    def __init__(self, manager: AsyncSessionManager, stream: MessageStream) -> None:
        self._manager = manager
        self._stream = stream

    @property
    def message(self) -> Any:
        """The message as it was added, and after the end as it is."""
        return self._stream.message

    async def __aenter__(self) -> AsyncMessageStream:
        await self._manager._run(self._stream.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The end must be written also when the task that streams is being cancelled.
        await asyncio.shield(self._manager._run(self._stream.__exit__, kind, error, trace))

    async def text(self, delta: str) -> None:
        """More of the answer."""
        await self._manager._run(self._stream.text, delta)

    async def thinking(self, delta: str) -> None:
        """More of the model's reasoning."""
        await self._manager._run(self._stream.thinking, delta)

    async def tool_call(self, id: str, name: str, arguments_delta: str = "") -> None:
        """A call of a tool, or more of its arguments."""
        await self._manager._run(self._stream.tool_call, id, name, arguments_delta)

    def usage(self, usage: dict[str, Any] | None = None, /, **tokens: Any) -> None:
        """What the answer cost; written at the end."""
        self._stream.usage(usage, **tokens)

    def abort(self, reason: str = "") -> None:
        """Says that the answer ends here, incomplete."""
        self._stream.abort(reason)
