"""How many syncs one durable add costs, counted from outside with strace."""

from __future__ import annotations

from benchmarks import children, ours
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
    return [
        Row(
            name="syncs",
            what="syncs for one durable add_message",
            measured=counted.per_append,
            rule="exactly",
            bar=1,
            unit="",
            ours=counted.describe(),
            baseline="none",
            syncs=f"counted by strace -f over {APPENDS} adds that meet no checkpoint",
        )
    ]
