"""Failures put into a model file system, and the proof that each one happened."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeAlias

Effect: TypeAlias = Literal["none", "part", "all"]
"""How much of the call is done before the error comes; "part" is half of a write, and "none" for other calls."""


class Killed(BaseException):
    """The process is dead. No handler of the store catches it, and each later call of the process raises it again."""


@dataclass(eq=False)
class Fault:
    """Fires at the `nth` call that matches, counted from the injection; with `forever`, at each later one too.

    As a context manager it ends with the block, and fails the test when it never fired.
    """

    error: int | BaseException | None
    ops: Collection[str] | None
    nth: int
    forever: bool
    effect: Effect
    among: list[Fault] = field(repr=False)
    seen: int = 0
    fired: int = 0

    def meets(self, op: str) -> bool:
        """Count this call and say whether the fault strikes it."""
        if self.ops is not None and op not in self.ops:
            return False
        self.seen += 1
        struck = self.seen == self.nth or (self.forever and self.seen > self.nth)
        self.fired += struck
        return struck

    def exception(self, path: str) -> BaseException | None:
        """What to raise: a new OSError for an errno; None for a short write that reports no error."""
        if isinstance(self.error, int):
            return OSError(self.error, os.strerror(self.error), path)
        return self.error

    def remove(self) -> None:
        """No longer strike."""
        if self in self.among:
            self.among.remove(self)

    def assert_fired(self) -> None:
        """Fail unless it struck: a fault that never happened proves nothing."""
        assert self.fired, f"the fault never fired: {self.seen} of {self.nth} matching calls came, ops={self.ops}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()
        if error is None:
            self.assert_fired()
