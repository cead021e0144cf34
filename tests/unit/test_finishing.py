"""`finished`: the work has ended when the awaiting task has, however often that was cancelled."""

from __future__ import annotations

import asyncio

import pytest

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
    async def gives() -> str:
        await asyncio.sleep(0)
        return "done"

    async def raises() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    async def main() -> None:
        assert await finished(gives()) == "done"
        with pytest.raises(ValueError, match="no"):
            await finished(raises())

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
