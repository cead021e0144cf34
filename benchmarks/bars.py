"""What each figure is held to, in one table, and the making of a row from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.model import Row, Rule
from benchmarks.timing import Sample, spread

# So many processes at once, each adding so many messages to one session.
PROCESSES = 4
EACH = 250


class Bar(NamedTuple):
    """`syncs` says which side reaches the disk; `unit` is `x` for a ratio and empty for a count."""

    rule: Rule
    limit: float
    syncs: str
    unit: str = "x"


_READ = "neither: both read"

BARS: dict[str, Bar] = {
    "add-100": Bar("at most", 1.6, "both sync"),
    "add-10000": Bar("at most", 1.6, "both sync"),
    "add-50000": Bar("at most", 1.6, "both sync"),
    "add-growth": Bar("at most", 1.15, "both sync"),
    "add-os": Bar("at most", 0.6, "only the baseline syncs"),
    "threads": Bar("at least", 3.0, "both sync; callers waiting together share one sync"),
    "processes-kept": Bar("exactly", PROCESSES * EACH, "syncs", unit=""),
    "processes-rate": Bar("at least", 0.5, "both sync each append"),
    "syncs": Bar("exactly", 1, "counted by strace -f over adds that meet no checkpoint", unit=""),
    "cold-open": Bar("at most", 2.0, _READ),
    "cold-memory": Bar("at most", 10.0, "neither", unit=" MB"),
    "cold-worst": Bar("at most", 4.0, _READ),
    "cold-worst-memory": Bar("at most", 10.0, "neither", unit=" MB"),
    "cold-get": Bar("at most", 2.0, _READ),
    "cold-first-add": Bar("at most", 2.0, "both sync"),
    "cold-list": Bar("at most", 3.0, _READ),
    "cold-read-all": Bar("at most", 1.0, _READ),
    "warm-list": Bar("at most", 1.5, _READ),
    "import": Bar("at most", 1.3, "neither"),
    "bytes-written": Bar("at most", 3.5, 'each append synced; in a quick run durability="os"'),
    "disk-used": Bar("at most", 1.3, "not a timing"),
    "search-build": Bar("at least", 0.5, "neither"),
    "search-size": Bar("at most", 2.5, "not a timing", unit=" bytes"),
    "search-warm": Bar("at most", 1.5, _READ),
    "search-cold": Bar("at most", 2.0, _READ),
    "chroma-push": Bar("at most", 1.3, "both as Chroma does"),
    "import-history": Bar("at least", 1 / 3, "ours syncs each session"),
    "import-memory": Bar("at most", 300, "not a timing", unit=" MB"),
    "event-latency": Bar("at most", 50, "each event synced", unit=" ms"),
    "event-count": Bar("at most", 20, "neither: both read", unit=" ms"),
    "mail-cycle": Bar("at most", 2.0, "both sync each of the three steps"),
    "mail-growth": Bar("at most", 1.25, "both sync"),
    "sync-first-push": Bar("at least", 0.5, "the server, for both: majority, journaled"),
    "sync-scale": Bar("at least", 0.5, "the server, for both: majority, journaled"),
    "sync-steady": Bar("at most", 2.0, "ours each call, the server each batch", unit=" s"),
    "sync-beside": Bar("at most", 1.1, "both each call"),
    "cli-ls": Bar("at most", 1.3, _READ),
}


def row(
    name: str,
    what: str,
    measured: float,
    *,
    ours: str,
    baseline: str,
    note: str = "",
    extra: Mapping[str, float] | None = None,
) -> Row:
    """The row of a bar: what was measured, the two figures that it was formed from, and what there is to say."""
    rule, limit, syncs, unit = BARS[name]
    return Row(name, what, measured, rule, limit, ours, baseline, syncs, unit, note, dict(extra or {}))


def compared(
    name: str,
    what: str,
    mine: Sample,
    base: Sample,
    *,
    ours: str = "",
    baseline: str,
    note: str = "",
    extra: Mapping[str, float] | None = None,
) -> Row:
    """The row of two timings, by their medians; `ours` and `baseline` say what else there is to say of each side."""
    return row(
        name,
        what,
        mine.p50 / base.p50,
        ours=f"{mine.p50:.3f} ms{ours}",
        baseline=f"{base.p50:.3f} ms{baseline}",
        note=spread(mine, base) + note,
        extra=extra,
    )
