"""`python -m benchmarks`: run the groups, print the tables, keep the figures.

Exit code 0 when everything that ran is within its bar, 1 when a row misses, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.children import ChildFailed
from benchmarks.model import Context, Row
from benchmarks.work import PeerMissing

# Group name, its module and function. Modules load when their group runs, so that the baselines and the peers can be
# measured in an environment where something else is missing.
GROUPS: dict[str, tuple[str, str]] = {
    "add": ("rows_add", "run"),
    "threads": ("rows_concurrency", "threads"),
    "processes": ("rows_concurrency", "processes"),
    "syncs": ("rows_syncs", "run"),
    "cold-open": ("rows_cold", "open_clean"),
    "cold-worst": ("rows_cold", "open_worst"),
    "cold-get": ("rows_cold", "get_message"),
    "cold-first-add": ("rows_cold", "first_add"),
    "cold-list": ("rows_cold", "list_newest"),
    "cold-read-all": ("rows_cold", "read_all"),
    "warm-list": ("rows_warm", "list_sessions"),
    "import": ("rows_warm", "imports"),
    "bytes": ("rows_disk", "run"),
    "search-build": ("rows_search", "build"),
    "search-warm": ("rows_search", "warm"),
    "search-cold": ("rows_search", "cold"),
    "cli-ls": ("rows_search", "command"),
    "chroma": ("rows_chroma", "run"),
    "mail": ("rows_mail", "run"),
    "import-history": ("rows_import", "run"),
    "event-latency": ("rows_events", "latency"),
    "event-count": ("rows_events", "counting"),
    "sync-mongo": ("rows_sync", "run"),
    "sync-scale": ("rows_sync", "scale"),
    "sync-beside": ("rows_sync", "beside"),
    "peers": ("rows_peers", "run"),
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, as parsed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller counts, under a minute: a look, not a verdict")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"of: {', '.join(GROUPS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw cost against size to FILE (PNG)")
    parser.add_argument("--dir", type=Path, metavar="FOLDER", help="a folder on the disk to measure (default: temp)")
    parsed = parser.parse_args(given)
    unknown = [name for name in parsed.only if not _chosen([name])]
    if unknown:
        parser.error(f"no group is named {unknown[0]!r}; there are: {', '.join(GROUPS)}")
    return parsed


def _chosen(names: Sequence[str]) -> list[str]:
    """The groups whose name begins with one of the names; all of them for no name."""
    return [group for group in GROUPS if not names or any(group.startswith(name) for name in names)]


def _run_group(context: Context, name: str) -> None:
    module, function = GROUPS[name]
    start = time.monotonic()
    try:
        run: Callable[[Context], list[Row] | None] = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        rows = run(context) or []
    except (ImportError, PeerMissing, ChildFailed) as error:
        context.results.not_run[name] = str(error)
        context.say(f"{name}: not run: {error}")
        return
    context.results.rows += rows
    for row in rows:
        measured, verdict = report.number(row.measured, row.unit), row.verdict
        context.say(f"{row.name}: {measured}, {row.rule} {row.bar:g}: {verdict} ({row.ours} | {row.baseline})")
    context.say(f"  [{name} took {time.monotonic() - start:.1f} s]")


def main() -> int:
    """Run what was asked for."""
    options = arguments()
    start = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="nomad-bench-", dir=options.dir))
    context = Context(folder, options.quick, say=lambda line: print(line, file=sys.stderr, flush=True))
    try:
        for name in _chosen(options.only):
            _run_group(context, name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    where = report.machine(folder.parent)
    print(report.text(context.results, where))
    found = report.as_json(context.results, where, quick=options.quick, seconds=time.monotonic() - start)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.chart is not None:
        from benchmarks import chart

        chart.draw(found, options.chart)
    return int(any(row.verdict != "ok" for row in context.results.rows))


if __name__ == "__main__":
    sys.exit(main())
