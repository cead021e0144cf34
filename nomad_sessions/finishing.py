"""What has begun is awaited to its end, also by a task that is cancelled meanwhile.

Invariant: when `finished` returns or raises, what it was given has ended. Verified by `tests/unit/test_finishing.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["finished"]

T = TypeVar("T")


async def finished(work: Awaitable[T]) -> T:
    """What `work` gives, or its error. Where the task is cancelled meanwhile, once or more, `work` goes on, and the
    cancellation is raised when it has ended, with the error of `work`, if any, as its cause.

    `asyncio.shield` alone would leave `work` behind: who cancels a task and awaits it could not rely on its end.
    """
    future = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if future.cancelled() else future.exception())
    return future.result()
