"""How many workspaces have files open at once: beyond that, those that were not asked for lately rest.

A process may have only so many files open (often 1,024), and an open workspace has two or three of them. So as many are
open as a sixth of that limit; who comes beyond it makes others give their files back, the one first that was not asked
for since all were looked at the last time (the clock algorithm, or second chance: it costs a call no more than setting
a flag). A workspace that rests is read again by the next call.

Invariant: what rests has lost nothing and says nothing else than before; one that is at work, or holds on to something,
does not rest (`Workspace.rest`). Verified by `tests/unit/test_resting.py`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from nomad_sessions.storage._os import FileSystem, most_files

__all__ = ["AWAKE", "Awake"]

_FILES_EACH = 6  # Up to three are its own: half of them all are left to its work, and to the program around it.
_LEAST = 8


class _Resting(Protocol):
    """What can rest: `used` says that it was asked for since the flag was taken away. One of another file system (of a
    test, say) has none of our files."""

    fs: FileSystem
    used: bool

    def rest(self) -> bool:
        """Gives its files back, and says whether it has none open now. Raises nothing for what stands in the way."""
        ...


class Awake:
    """Those that have files open, of this process. Safe for any number of threads."""

    def __init__(self, most: Callable[[], int]) -> None:
        """`most()` is how many may be."""
        self._most = most
        self.forget()

    def forget(self) -> None:
        """In a forked child: none has, and another thread, which is not here, may have held the guard."""
        self._guard = threading.Lock()
        self._all: OrderedDict[int, weakref.ref[_Resting]] = OrderedDict()
        self._sweep_at = 0

    def few(self) -> int:
        """How many files of another kind may be open at once, for each kind: what the workspaces leave is for these."""
        return max(_LEAST, self._most() // 8)

    def __len__(self) -> int:
        return len(self._all)

    def came(self, one: _Resting) -> None:
        """Says that `one` is about to open its files; others rest, if there are too many. Cost: little, but for those.

        The guard is not held while one rests: that syncs, and what it logs may come back here.
        """
        with self._guard:
            self._all[id(one)] = weakref.ref(one)
            if len(self._all) > self._sweep_at:
                self._all = OrderedDict((key, each) for key, each in self._all.items() if each() is not None)
                self._sweep_at = 2 * len(self._all) + _LEAST
        for _ in range(2 * len(self._all)):
            with self._guard:
                if len(self._all) <= self._most():
                    return
                key, reference = self._all.popitem(last=False)
            rests = False
            try:
                rests = _rests(reference(), one)
            finally:
                if not rests:
                    with self._guard:
                        self._all[key] = reference


def _rests(each: _Resting | None, newest: _Resting) -> bool:
    """Whether one has no files open now: it was not asked for since the last look, and rests."""
    if each is None:
        return True
    asked, each.used = each.used, False
    return each is not newest and each.fs is newest.fs and not asked and each.rest()


def _most_awake() -> int:
    return max(_LEAST, most_files() // _FILES_EACH)


AWAKE = Awake(_most_awake)
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=AWAKE.forget)
