"""Timing two or more sides in turns, so that a slow minute of the disk falls on all of them alike.

Invariant: within one `interleave` every side gets as many blocks as every other, and no side is always first.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns


@dataclass(frozen=True)
class Side:
    """One thing to time. `before` runs untimed ahead of each block (a fresh folder, a warm-up call)."""

    name: str
    call: Callable[[], object]
    before: Callable[[], object] | None = None
    per_block: int | None = None


@dataclass
class Sample:
    """The times of one side, in milliseconds, one list a block."""

    blocks: list[list[float]] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        """All times, in the order in which they were taken."""
        return [value for block in self.blocks for value in block]

    @property
    def p50(self) -> float:
        """The median time in milliseconds."""
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        """The time that one call in a hundred exceeds."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

    @property
    def mean(self) -> float:
        """The mean, which unlike the median contains the checkpoints that fell into the run."""
        return statistics.fmean(self.values)


def interleave(sides: Sequence[Side], *, blocks: int, per_block: int) -> dict[str, Sample]:
    """Time `per_block` calls of each side in turn, `blocks` times over, starting one side later each time."""
    samples = {side.name: Sample() for side in sides}
    # What the imports left is out of the collector's way: one side's large library must not slow all sides down.
    gc.collect()
    gc.freeze()
    for block in range(blocks):
        shift = block % len(sides)
        for side in (*sides[shift:], *sides[:shift]):
            if side.before is not None:
                side.before()
            # Garbage of the side before must not be collected on this side's time.
            gc.collect()
            samples[side.name].blocks.append(_time_block(side.call, side.per_block or per_block))
    gc.unfreeze()
    return samples


def _time_block(call: Callable[[], object], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = perf_counter_ns()
        call()
        times.append((perf_counter_ns() - start) / 1e6)
    return times


def block_ratios(ours: Sample, base: Sample) -> list[float]:
    """The ratio of the medians of each pair of neighbouring blocks: its spread says how far to trust the ratio."""
    pairs = zip(ours.blocks, base.blocks, strict=True)
    return sorted(statistics.median(mine) / statistics.median(theirs) for mine, theirs in pairs)


def spread(ours: Sample, base: Sample) -> str:
    """The middle half of the block ratios, as text."""
    ratios = block_ratios(ours, base)
    return f"blocks {ratios[len(ratios) // 4]:.2f} to {ratios[(len(ratios) * 3) // 4]:.2f}"
