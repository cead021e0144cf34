"""What a run is made of: the context it runs in, and the rows that it yields.

A row always carries the two figures that its ratio was formed from, so that a ratio can be checked by eye, and
says which side syncs: a ratio against something that does not reach the disk would mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Rule = Literal["at most", "at least", "exactly"]


@dataclass(frozen=True)
class Row:
    """One line of the table of bars: `measured` is the ratio (or count) that `bar` bounds."""

    name: str
    what: str
    measured: float
    rule: Rule
    bar: float
    ours: str
    baseline: str
    syncs: str
    unit: str = "x"
    note: str = ""
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`ok` or `MISSES`, on the unrounded figure."""
        kept = {
            "at most": self.measured <= self.bar,
            "at least": self.measured >= self.bar,
            "exactly": self.measured == self.bar,
        }[self.rule]
        return "ok" if kept else "MISSES"


@dataclass
class PeerResult:
    """What one store did with the same work. Times in milliseconds; None where it was not run."""

    name: str
    installed: str
    error: str = ""
    syncs_per_append: float | None = None
    sync_calls: str = ""
    append_ms: dict[int, float] = field(default_factory=dict)
    written_per_append: float | None = None
    kept: int | None = None
    kept_of: int = 0
    failures: str = ""
    seconds: float | None = None


@dataclass
class Results:
    """Everything that one run found, in the order in which it was measured."""

    rows: list[Row] = field(default_factory=list)
    peers: list[PeerResult] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)


@dataclass
class Context:
    """Where and how thoroughly to measure. `folder` lies on the disk under test; groups make their own in it."""

    folder: Path
    quick: bool
    results: Results = field(default_factory=Results)
    say: Callable[[str], None] = print

    def pick(self, full: int, quick: int) -> int:
        """The count to use: `full`, or `quick` under `--quick`."""
        return quick if self.quick else full

    def make(self, name: str) -> Path:
        """A new empty folder on the disk under test."""
        path = self.folder / name
        serial = 1
        while path.exists():
            serial += 1
            path = self.folder / f"{name}-{serial}"
        path.mkdir(parents=True)
        return path
