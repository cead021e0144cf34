"""How many syncs one durable add costs, counted from outside with strace."""

from __future__ import annotations

from benchmarks import children, ours
from benchmarks.bars import row
from benchmarks.model import Context, Row

APPENDS = 50


def run(context: Context) -> list[Row]:
    """One row; without strace it is reported as not run."""
    folder = context.make("syncs")
    ours.Ours(folder).fill(2000)
    counted = children.count_syncs("ours", folder, appends=APPENDS, size=0)
    if counted is None:
        context.results.not_run["syncs"] = "strace is not installed"
        return []
    what = "syncs for one durable add_message"
    note = f"counted over {APPENDS} adds"
    return [row("syncs", what, counted.per_append, ours=counted.describe(), baseline="none", note=note)]
