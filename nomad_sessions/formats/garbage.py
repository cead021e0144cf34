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
    """Who wants it, and how it was before the first of them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._wanting: set[object] = set()
        self._before = gc.get_threshold()
        self._set = self._before

    def want(self, who: object) -> None:
        """For one more."""
        with self._guard:
            if not self._wanting:
                self._before = self._set = gc.get_threshold()
                if 0 < self._before[0] < _RARELY:  # 0: it is switched off.
                    self._set = (_RARELY, *self._before[1:])
            self._wanting.add(who)
            gc.set_threshold(*self._set)

    def give_back(self, who: object) -> None:
        """For one less, if it wanted it; as it was, where that was the last and the program has set nothing else."""
        with self._guard:
            if who in self._wanting:
                self._wanting.remove(who)
                self._restore()

    def after_fork(self) -> None:
        """In a forked child: those who want it are threads of the parent."""
        self._guard = threading.Lock()
        if self._wanting:
            self._wanting.clear()
            self._restore()

    def _restore(self) -> None:
        if not self._wanting and gc.get_threshold() == self._set:
            gc.set_threshold(*self._before)


_SETTING = _Setting()


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """While it lasts, in whichever threads, Python looks for cycles once in some millions of objects."""
    who = object()
    try:
        _SETTING.want(who)  # In here: Ctrl-C may come as soon as it is set.
        yield
    finally:
        _SETTING.give_back(who)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_SETTING.after_fork)
