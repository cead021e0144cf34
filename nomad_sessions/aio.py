"""`AsyncSessionManager`: the same calls as coroutines, run on threads of their own.

Invariant: cancelling an awaited write before a thread has taken it up means that it was not done; from then on the
commit finishes, whatever happens to the one who awaited it. Verified by `tests/unit/test_aio.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from nomad_sessions.aio_calls import AsyncCalls
from nomad_sessions.aio_connections import AsyncConnectionCalls
from nomad_sessions.aio_events import AsyncEventCalls
from nomad_sessions.aio_mail import AsyncMailCalls
from nomad_sessions.aio_tasks import AsyncTaskCalls
from nomad_sessions.clock import Clock
from nomad_sessions.errors import StoreClosedError, TransactionError
from nomad_sessions.finishing import finished
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Message
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.streaming import MessageStream
from nomad_sessions.transaction import Transaction
from nomad_sessions.workspace.options import Durability

__all__ = ["AsyncMessageStream", "AsyncSessionManager"]

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = 8
_IN_TRANSACTION: ContextVar[frozenset[int]] = ContextVar("nomad_sessions_in_transaction", default=frozenset())


class AsyncSessionManager(AsyncCalls, AsyncEventCalls, AsyncTaskCalls, AsyncConnectionCalls, AsyncMailCalls):
    """`NativeSessionManager` for asyncio: every call of it is a coroutine here, with the same arguments, result, errors
    and durability. An async context manager.

    Takes the same options, or shares an existing `manager`, which it then does not close. Calls run on up to eight
    threads; concurrent writes share syncs. A write that is cancelled while it waits for a thread is not done; later it
    is finished.
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
        manager: NativeSessionManager | None = None,
    ) -> None:
        """Raises as `NativeSessionManager` does."""
        self._owned = manager is None
        if manager is None:
            manager = NativeSessionManager(
                data_dir,
                durability=durability,
                lock_timeout=lock_timeout,
                batch_interval=batch_interval,
                clock=clock,
                filesystem=filesystem,
            )
        super().__init__(manager, _new_threads())
        _LIVING.add(self)

    def _after_fork(self) -> None:
        """In a forked child: the threads are not here, and what is handed to them would wait for ever."""
        self._threads = _new_threads()

    @property
    def data_dir(self) -> str:
        """The folder of all workspaces."""
        return self._manager.data_dir

    def stream_message(self, workspace_id: str, session_id: str, **fields: Any) -> AsyncMessageStream:
        """As `NativeSessionManager.stream_message`, for `async with`."""
        return AsyncMessageStream(self, self._manager.stream_message(workspace_id, session_id, **fields))

    @asynccontextmanager
    async def transaction(self, workspace_id: str) -> AsyncIterator[Transaction]:
        """As `NativeSessionManager.transaction`, for `async with`; nesting in one task raises `TransactionError`.

        Calls on the yielded object only buffer, and are plain calls: no `await`. The commit is awaited at the end of
        the block, to its end even when the task is cancelled meanwhile.
        """
        active = _IN_TRANSACTION.get()
        if id(self) in active:
            raise TransactionError(message="transactions do not nest: use the one that is open")
        transaction = await self._run(self._manager._begin, workspace_id)
        _IN_TRANSACTION.set(active | {id(self)})
        try:
            yield transaction
        except BaseException:
            transaction.rollback()
            raise
        else:
            await finished(self._begun(self._manager._end, workspace_id, transaction))
        finally:
            _IN_TRANSACTION.set(active)

    async def close(self, *, checkpoint: bool = False) -> None:
        """As `NativeSessionManager.close`, after the calls that are under way."""
        if self._closed:
            return
        try:
            if self._owned:
                await finished(self._begun(self._manager.close, checkpoint=checkpoint))
        finally:
            self._closed = True
            self._threads.shutdown(wait=False)

    async def __aenter__(self) -> AsyncSessionManager:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncMessageStream:
    """A message while it is written, for `async with`: the calls of `MessageStream`, as coroutines.

    Cancelling the task that streams ends the message as `aborted`, with the text that had arrived.
    """

    def __init__(self, owner: AsyncSessionManager, stream: MessageStream) -> None:
        self._owner = owner
        self._stream = stream
        self._after_fork()
        _LIVING.add(self)

    def _after_fork(self) -> None:
        # A cancelled call may still be at work on its thread when the next one, or the end, comes.
        self._one_at_a_time = threading.Lock()

    def _alone(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._one_at_a_time:
            return call(*args, **kwargs)

    def _submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._owner._closed:
            raise StoreClosedError(path=self._owner.data_dir)
        return self._owner._threads.submit(self._alone, call, *args, **kwargs)

    @property
    def message(self) -> Message:
        """The message as it was added, and after the end as it is."""
        return self._stream.message

    async def __aenter__(self) -> AsyncMessageStream:
        """As `MessageStream`. Cancelled while the message is being added, it ends it at once, as `aborted`."""
        entering = self._submit(self._stream.__enter__)
        try:
            await asyncio.shield(asyncio.wrap_future(entering))
        except asyncio.CancelledError as error:
            if not entering.cancel():  # It is being added, or was: nobody else will end it.
                with contextlib.suppress(Exception):
                    await self._finished(self._end_at_once, entering, error)
            raise
        return self

    def _end_at_once(self, entering: Future[MessageStream], why: asyncio.CancelledError) -> None:
        entering.result()  # Before the turn is taken, which it may not have yet.
        self._alone(self._stream.__exit__, type(why), why, None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `MessageStream`. The message has ended when this has, also where the task is cancelled meanwhile."""
        await self._finished(self._alone, self._stream.__exit__, kind, error, trace)

    async def _finished(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        # Who streams may end after the manager was closed. Then its threads are gone, and the loop has some.
        threads = None if self._owner._closed else self._owner._threads
        loop = asyncio.get_running_loop()
        return await finished(loop.run_in_executor(threads, functools.partial(call, *args, **kwargs)))

    async def text(self, delta: str) -> None:
        """More of the answer."""
        await asyncio.wrap_future(self._submit(self._stream.text, delta))

    async def thinking(self, delta: str) -> None:
        """More of the model's reasoning."""
        await asyncio.wrap_future(self._submit(self._stream.thinking, delta))

    async def tool_call(self, id: str, name: str, arguments_delta: str = "") -> None:
        """A call of a tool, or more of its arguments (a piece of JSON text); calls may be interleaved."""
        await asyncio.wrap_future(self._submit(self._stream.tool_call, id, name, arguments_delta))

    def usage(self, usage: Mapping[str, Any] | None = None, /, **tokens: Any) -> None:
        """What the answer cost; written at the end. Not a coroutine: nothing is written yet."""
        self._stream.usage(usage, **tokens)

    def abort(self, reason: str = "") -> None:
        """Says that the answer ends here, incomplete. Not a coroutine: nothing is written yet."""
        self._stream.abort(reason)


_LIVING: weakref.WeakSet[AsyncSessionManager | AsyncMessageStream] = weakref.WeakSet()


def _new_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="nomad-sessions")


def _after_fork_in_child() -> None:
    for each in list(_LIVING):
        each._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
