"""How many workspaces have files open at once: beyond that, those that were not asked for lately rest.

A process may have only so many files open (often 1,024), and an open workspace has two or three of them. So as many are
open as a quarter of that limit; who comes beyond it makes others give their files back, the one first that was not
asked for since all were looked at the last time (the clock algorithm, or second chance: it costs a call no more than
setting a flag). A workspace that rests is read again by the next call.

Invariant: what rests has lost nothing and says nothing else than before; one that is at work, or holds on to something,
does not rest (`Workspace.rest`). Verified by `tests/unit/test_resting.py`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

from nomad_sessions.storage._os import most_files

__all__ = ["AWAKE", "Awake"]

_FILES_EACH = 4  # Two or three are the workspace's, the rest is left to the program around it.
_LEAST = 8


class _Resting(Protocol):
    """What can rest: `used` says that it was asked for since the flag was taken away."""

    used: bool

    def rest(self) -> bool:
        """Gives its files back, and says whether it has none open now."""
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
        self._all: deque[weakref.ref[_Resting]] = deque()

    def came(self, one: _Resting) -> None:
        """Says that `one` has opened its files; others rest, if there are too many. Cost: little, but for those."""
        with self._guard:
            self._all.append(weakref.ref(one))
            for _ in range(2 * len(self._all)):
                if len(self._all) <= self._most():
                    return
                reference = self._all.popleft()
                each = reference()
                if each is None or (each is not one and not each.used and each.rest()):
                    continue
                each.used = False
                self._all.append(reference)


def _most_awake() -> int:
    return max(_LEAST, most_files() // _FILES_EACH)


AWAKE = Awake(_most_awake)
"""Those of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=AWAKE.forget)
