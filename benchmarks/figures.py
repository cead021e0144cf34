"""Writes docs/figures.md from a results file: `python -m benchmarks.figures results.json docs/figures.md`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_INTRO = """# Measured

Each figure is a ratio formed in one run, ours and its baseline in turns on the same disk ({machine}).
`make bench` measures them anew; [`benchmarks/README.md`](../benchmarks/README.md) says how each is formed. A row that
misses its bar says so; what was tried is below.

| what | measured | bar | ours | baseline | |
|---|---|---|---|---|---|
"""
_PEERS = """
## Beside the peers

Appending 1 KB to one conversation, p50 in milliseconds, by the number of messages that it has already. *Kept*: messages
found of 1,000 that 4 processes appended, 250 each.

| store | syncs an append | at 100 | at 1,000 | at 10,000 | at 50,000 | kept |
|---|---|---|---|---|---|---|
"""


def page(results: dict[str, Any], tried: str) -> str:
    """The page for these results; `tried` is what follows the tables."""
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    lines = [_INTRO.format(machine=machine)]
    for row in results["rows"]:
        measured = f"{row['measured']:.2f} {row['unit'].strip()}" if row["unit"] else f"{row['measured']:g}"
        verdict = "ok" if row["verdict"] == "ok" else "**misses**"
        cells = [row["what"], measured, f"{row['rule']} {row['bar']:g}", row["ours"], row["baseline"], verdict]
        lines.append(f"| {' | '.join(cells)} |\n")
    lines.append(_PEERS)
    for peer in results["peers"]:
        times = " | ".join(f"{value:.3f}" for value in (peer["append_ms"] or {}).values()) or "| | |"
        kept = f"{peer['kept']} of {peer['kept_of']}" if peer["kept_of"] else "not run"
        lines.append(f"| {peer['name']} | {peer['sync_calls'] or 'none'} | {times} | {peer['failures'] or kept} |\n")
    return "".join(lines) + tried


def main() -> None:
    """Reads the results, keeps what stands below the tables, writes the page."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    tried = before[before.find("\n## What misses") :] if "\n## What misses" in before else ""
    target.write_text(page(json.loads(source.read_text(encoding="utf-8")), tried), encoding="utf-8")


if __name__ == "__main__":
    main()
