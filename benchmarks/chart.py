"""The chart of the README: what one append costs as the conversation grows, ours beside the stores of today.

`python -m benchmarks.chart RESULTS.json CHART.png` draws it again from the figures of an earlier run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.work import need

_OURS = "nomad-sessions (full)"
# Left out of the picture, not of the table: another durability of a store that is drawn, and a file for processes.
_NOT_DRAWN = ("nomad-sessions (os)", "flocked append + fdatasync")
# Colours that stay apart for most colour-blind readers (Okabe and Ito); ours is the only heavy line.
_COLOURS = {
    _OURS: "#D55E00",
    "raw append + fdatasync": "#666666",
    "SQLite WAL FULL": "#0072B2",
    "SQLite WAL NORMAL": "#56B4E9",
    "whole-file JSON rewrite": "#009E73",
    "OpenAI Agents SQLiteSession": "#CC79A7",
    "Strands FileSessionManager": "#E69F00",
    "TinyDB": "#000000",
}


def draw(found: dict[str, Any], path: Path) -> None:
    """Write a PNG of `append_ms` against size from the JSON of a run that had the group `peers`.

    Both axes are logarithmic; a dashed line is a store that does not sync its appends. Raises PeerMissing where
    matplotlib is not installed, ValueError where the run has no peers.
    """
    curves = [peer for peer in found["peers"] if len(peer["append_ms"]) > 1 and peer["name"] not in _NOT_DRAWN]
    if not curves:
        raise ValueError("this run timed no appends by size: run the group peers")
    need("matplotlib").use("Agg")
    pyplot = need("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(9.6, 5.4), dpi=120)
    for peer in curves:
        _draw_curve(axes, peer)
    _label_ends(axes, curves)
    _dress(axes, found)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _points(peer: dict[str, Any]) -> list[tuple[int, float]]:
    """Size and milliseconds, by size; JSON has turned the sizes into strings."""
    return sorted((int(size), cost) for size, cost in peer["append_ms"].items())


def _draw_curve(axes: Any, peer: dict[str, Any]) -> None:
    sizes, costs = zip(*_points(peer), strict=True)
    ours = peer["name"] == _OURS
    axes.plot(
        sizes,
        costs,
        marker="o",
        markersize=5 if ours else 3.5,
        linewidth=3 if ours else 1.6,
        color=_COLOURS.get(peer["name"], "#999999"),
        linestyle="--" if peer["syncs_per_append"] == 0 else "-",
        zorder=3 if ours else 2,
    )


def _label_ends(axes: Any, curves: list[dict[str, Any]]) -> None:
    """The name of each curve at its right end, moved up where the one below would cover it."""
    ends = sorted((cost, size, peer["name"]) for peer in curves for size, cost in [_points(peer)[-1]])
    lowest = 0.0
    for cost, size, name in ends:
        height = max(cost, lowest * 1.42)
        lowest = height
        axes.annotate(
            name,
            xy=(size, cost),
            xytext=(size * 1.25, height),
            va="center",
            fontsize=9,
            color=_COLOURS.get(name, "#999999"),
            fontweight="bold" if name == _OURS else "normal",
            annotation_clip=False,
        )


def _dress(axes: Any, found: dict[str, Any]) -> None:
    machine = found["machine"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("messages already in the conversation")
    axes.set_ylabel("milliseconds for one append of 1 KB, median")
    where = f"{machine['cores']} cores, {machine['file system']}, Python {machine['python']}"
    axes.set_title(f"One append as the conversation grows ({where}; dashed: not synced)", fontsize=11, loc="left")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    # Room for the names at the right.
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 12)
    ticks = sorted({int(size) for peer in found["peers"] for size in peer["append_ms"]})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.yaxis.set_major_formatter(need("matplotlib.ticker").FuncFormatter(lambda cost, _: f"{cost:g}"))
    axes.minorticks_off()


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
