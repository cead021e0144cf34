"""The two tables as text (Markdown that also reads well in a terminal) and everything as JSON.

Nothing is left out of either: a group that could not run and a peer that is not installed appear with the reason.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.model import PeerResult, Results, Row
from benchmarks.work import MESSAGE_CHARS


def disk_of(folder: Path) -> str:
    """The type of the file system that holds `folder`, `unknown` where the system does not say."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    entries = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    within = [(point, kind) for point, kind in entries if folder.resolve().is_relative_to(point)]
    return max(within, key=lambda entry: len(entry[0]))[1] if within else "unknown"


def machine(folder: Path) -> dict[str, str]:
    """Where the figures come from."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": str(os.cpu_count()),
        "file system": disk_of(folder),
    }


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]

    def drawn(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([drawn(header), rule, *(drawn(line) for line in lines)])


def number(value: float, unit: str) -> str:
    """A figure with its unit: counts without decimals, ratios with two."""
    text = f"{value:,.0f}" if value >= 100 or (unit == "" and value == int(value)) else f"{value:.2f}"
    return f"{text}{' ' if unit == 'x' else ''}{unit}"


def rows_table(rows: Sequence[Row]) -> str:
    """What was measured beside its bar, one line a row; `notes` says more."""
    header = ("what", "measured", "bar", "ours", "baseline", "who syncs", "verdict")
    lines = [
        (
            row.what,
            number(row.measured, row.unit),
            f"{row.rule} {row.bar:,g}{row.unit if row.unit != 'x' else ' x'}",
            row.ours,
            row.baseline,
            row.syncs,
            row.verdict,
        )
        for row in rows
    ]
    return table(header, lines)


def notes(rows: Sequence[Row]) -> str:
    """The remarks of the rows, each under the row's name."""
    return "\n".join(f"  {row.name}: {row.note}" for row in rows if row.note)


def peers_table(peers: Sequence[PeerResult]) -> str:
    """The stores beside each other: p50 of an append by size, what was synced and written, what four processes kept."""
    sizes = sorted({size for peer in peers for size in peer.append_ms})
    header = (
        "store",
        "version",
        "syncs an append",
        "KB written an append",
        *(f"ms at {size:,}" for size in sizes),
        "4 processes kept",
        "4 processes a second",
        "remarks",
    )
    return table(header, [_peer_line(peer, sizes) for peer in peers])


def _peer_line(peer: PeerResult, sizes: Sequence[int]) -> tuple[str, ...]:
    written, kept = peer.written_per_append, peer.kept
    # A rate of messages that were lost would look fast.
    rate = f"{peer.kept_of / peer.seconds:,.0f}" if peer.seconds and kept == peer.kept_of else "-"
    return (
        peer.name,
        peer.installed or "-",
        peer.sync_calls or "-",
        "-" if written is None else f"{written / MESSAGE_CHARS:,.1f}",
        *(f"{peer.append_ms[size]:.3f}" if size in peer.append_ms else "-" for size in sizes),
        "-" if kept is None else f"{kept:,} of {peer.kept_of:,}",
        rate,
        peer.error or peer.failures,
    )


def text(results: Results, where: dict[str, str]) -> str:
    """The whole report."""
    parts = [", ".join(f"{name} {value}" for name, value in where.items())]
    if where["file system"] in {"tmpfs", "ramfs"}:
        parts.append("WARNING: this file system is memory, where a sync costs nothing. Choose a disk with --dir.")
    if results.rows:
        parts += [rows_table(results.rows), notes(results.rows)]
    if results.peers:
        parts.append(f"The same work, messages of {MESSAGE_CHARS:,} characters in one conversation (p50):")
        parts.append(peers_table(results.peers))
    parts += [f"not run: {name}: {reason}" for name, reason in results.not_run.items()]
    missed = [row.name for row in results.rows if row.verdict != "ok"]
    if results.rows:
        parts.append(f"{len(results.rows) - len(missed)} of {len(results.rows)} rows ok" + _listed(missed))
    return "\n\n".join(part for part in parts if part)


def _listed(missed: Sequence[str]) -> str:
    return f"; MISSES: {', '.join(missed)}" if missed else ""


def as_json(results: Results, where: dict[str, str], *, quick: bool, seconds: float) -> dict[str, Any]:
    """Everything that was found, ready for `json.dump`."""
    return {
        "machine": where,
        "quick": quick,
        "seconds": round(seconds, 1),
        "rows": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in results.rows],
        "peers": [dataclasses.asdict(peer) for peer in results.peers],
        "not_run": results.not_run,
    }
