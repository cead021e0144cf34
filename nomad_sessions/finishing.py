"""What has begun is awaited to its end, also by a task that is cancelled meanwhile.

Invariant: when `finished` returns or raises, what it was given has ended. Verified by `tests/unit/test_finishing.py`.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

__all__ = ["finished"]

T = TypeVar("T")


async def finished(work: asyncio.Future[T]) -> T:
    """What `work` gives, or its error. Where the task is cancelled meanwhile, once or more, `work` goes on, and the
    cancellation is raised when it has ended, with the error of `work`, if any, as its cause.

    `asyncio.shield` alone would leave `work` behind: who cancels a task and awaits it could not rely on its end. `work`
    is what a thread does, and no coroutine: a task made of one is cancelled with all others when the loop is shut down.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return work.result()
    try:
        raise cancelled from (None if work.cancelled() else work.exception())
    finally:
        del cancelled  # Its traceback has this frame: a cycle, which would hold on to `work` and all that it has.
