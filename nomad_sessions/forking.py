"""A lock that a forked child has anew: a thread that is not there may have held the parent's.

Verified by `tests/unit/test_forking.py`.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType

__all__ = ["Mutex"]

_LIVING: weakref.WeakSet[Mutex] = weakref.WeakSet()


class Mutex:
    """A lock for `with`. In a forked child it is free."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _LIVING.add(self)

    def after_fork(self) -> None:
        """In a forked child."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def _after_fork_in_child() -> None:
    for each in list(_LIVING):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
