"""`finished`: the work has ended when the awaiting task has, however often that was cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from pathlib import Path

import pytest

from nomad_sessions import AsyncSessionManager, NativeSessionManager
from nomad_sessions.finishing import finished


async def _cancelled_while_working(work: asyncio.Future[str], times: int) -> asyncio.Task[str]:
    waiting = asyncio.ensure_future(finished(work))
    for _ in range(times):
        await asyncio.sleep(0)
        assert waiting.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


def test_what_the_work_gives_and_raises_comes_as_it_is() -> None:
    def gives() -> str:
        return "done"

    def raises() -> str:
        raise ValueError("no")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await finished(loop.run_in_executor(None, gives)) == "done"
        with pytest.raises(ValueError, match="no"):
            await finished(loop.run_in_executor(None, raises))

    asyncio.run(main())


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_task_waits_for_the_end_and_is_cancelled_then(times: int) -> None:
    async def main() -> None:
        work: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting = await _cancelled_while_working(work, times)
        assert not work.cancelled()
        work.set_result("done")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert waiting.cancelled()

    asyncio.run(main())


def test_an_error_of_the_work_is_the_cause_of_the_cancellation() -> None:
    async def main() -> None:
        work: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting = await _cancelled_while_working(work, 1)
        error = ValueError("no")
        work.set_exception(error)
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert caught.value.__cause__ is error

    asyncio.run(main())


def test_a_timeout_is_told_when_the_work_has_ended() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        work: asyncio.Future[str] = loop.create_future()
        loop.call_later(0.05, work.set_result, "done")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await finished(work)
        assert work.done()
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    asyncio.run(main())


def test_what_the_cancellation_was_about_is_let_go_at_once() -> None:
    class Held(Exception):
        pass

    async def main() -> weakref.ref[Held]:
        work: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting = await _cancelled_while_working(work, 1)
        error = Held()
        work.set_exception(error)
        await asyncio.gather(waiting, return_exceptions=True)
        return weakref.ref(error)

    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("what", ["transaction", "stream", "close"])
def test_a_loop_that_is_shut_down_waits_for_what_has_begun(tmp_path: Path, what: str) -> None:
    other = NativeSessionManager(tmp_path)
    other.create_session("w", id="s")
    lock = other.workspace("w").locked()
    m = AsyncSessionManager(tmp_path)
    workspace = m._manager.workspace("w")

    async def work() -> None:
        if what == "transaction":
            async with m.transaction("w") as tx:
                tx.add_message("w", "s", role="user", content="all")
                lock.__enter__()
        elif what == "stream":
            async with m.stream_message("w", "s") as stream:
                await stream.text("all")
                lock.__enter__()
        else:
            await m.add_message("w", "s", role="user", content="all")
            lock.__enter__()
            await m.close()

    async def main() -> asyncio.Task[None]:
        task = asyncio.ensure_future(work())
        while not (other.workspace("w")._lock.held and workspace._writing.locked()):
            await asyncio.sleep(0.005)
        threading.Timer(0.1, lock.__exit__, (None, None, None)).start()
        return task

    assert asyncio.run(main()).cancelled()
    assert (tmp_path / "w" / "sessions.json").is_file() == (what == "close")
    (message,) = other.get_session_messages("w", "s")
    assert (message.content, message.status) == ("all", "completed")
    m._manager.close()
    other.close()
