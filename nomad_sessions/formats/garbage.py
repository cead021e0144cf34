"""Python's search for garbage that refers to itself, made rarely while records come by the thousand.

An import makes and drops millions of objects, and hardly a cycle among them: to look for cycles as often as usual
takes a tenth of all the time. What is dropped without a cycle is freed at once, as ever. The setting is the process's.
Verified by `tests/unit/test_garbage.py`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator

__all__ = ["rarely_collected"]

_RARELY = 5_000_000  # containers made, and not freed, between two looks: more than a session of an import has


class _Setting:
    """How many want it, and how it was before the first of them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._wanted = 0
        self._before = gc.get_threshold()

    def want(self) -> None:
        """For one more."""
        with self._guard:
            self._wanted += 1
            if self._wanted == 1:
                self._before = gc.get_threshold()
                if 0 < self._before[0] < _RARELY:  # 0: it is switched off.
                    gc.set_threshold(_RARELY, *self._before[1:])

    def give_back(self) -> None:
        """For one less; as it was, where that was the last."""
        with self._guard:
            self._wanted = max(0, self._wanted - 1)
            if not self._wanted:
                gc.set_threshold(*self._before)

    def after_fork(self) -> None:
        """In a forked child: those who want it are threads of the parent."""
        self._guard = threading.Lock()
        if self._wanted:
            self._wanted = 0
            gc.set_threshold(*self._before)


_SETTING = _Setting()


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """While it lasts, in whichever threads, Python looks for cycles once in some millions of objects."""
    _SETTING.want()
    try:
        yield
    finally:
        _SETTING.give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SETTING.after_fork)
