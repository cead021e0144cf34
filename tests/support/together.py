"""Threads of a test: they begin at the same moment, and what one of them raises fails the test."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["together"]


def together(*works: Callable[[], object]) -> None:
    """Runs all at once, each in a thread of its own; the first error of any is raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    hook, threading.excepthook = threading.excepthook, lambda _: None
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    threading.excepthook = hook
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]
