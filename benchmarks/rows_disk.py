"""What 50,000 appends write to the disk and what they occupy once folded.

Bytes written are `wchar` of /proc/self/io: what the process handed to write calls. `write_bytes` is printed beside
it; it counts whole pages, so that any store that syncs records of 1 KB one by one, the raw append included, shows
several times the bytes there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import children, ours
from benchmarks.bars import row
from benchmarks.model import Context, Row
from benchmarks.work import MESSAGE_CHARS
from nomad_sessions import NativeSessionManager


def run(context: Context) -> list[Row]:
    """Two rows: bytes written per byte kept, and disk used per byte of live JSON after a checkpoint."""
    count = context.pick(50_000, 5_000)
    folder = context.make("soak")
    grown = children.append_alone("ours" if not context.quick else "ours-os", folder, count=count, size=0)
    if grown["failures"]:
        raise children.ChildFailed(f"an append failed: {grown['failures']}")
    with NativeSessionManager(folder) as manager:
        manager.checkpoint(ours.WORKSPACE)
        used = _without_history(folder / ours.WORKSPACE)
    store = json.loads((folder / ours.WORKSPACE / "sessions.json").read_bytes())
    store.pop("nomad", None)
    return [_written_row(grown, count, _json_bytes(store["messages"])), _used_row(used, _json_bytes(store), count)]


def _json_bytes(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _without_history(workspace: Path) -> dict[str, int]:
    """Bytes of each file that is neither a journal segment nor `.prev`."""
    files = (path for path in workspace.rglob("*") if path.is_file())
    kept = (path for path in files if path.parent.name != "journal" and path.suffix != ".prev")
    return {str(path.relative_to(workspace)): path.stat().st_size for path in kept}


def _written_row(grown: dict[str, Any], count: int, kept: int) -> Row:
    each = kept / (count + 1)
    worst = max(written / (number * each) for number, written in grown["curve"] if number > count // 5)
    what = f"bytes written per byte of message kept, over {count:,} appends"
    note = (
        f"at its highest on the way {worst:.2f} x; {grown['wchar'] / (count * MESSAGE_CHARS):.2f} x the bare "
        f"text; whole pages dirtied (write_bytes) {grown['write_bytes'] / 1e6:,.1f} MB"
    )
    ours = f"{grown['wchar'] / 1e6:,.1f} MB to write calls (wchar)"
    baseline = f"{kept / 1e6:,.1f} MB, the JSON of the messages"
    return row("bytes-written", what, grown["wchar"] / kept, ours=ours, baseline=baseline, note=note)


def _used_row(used: dict[str, int], live: int, count: int) -> Row:
    total = sum(used.values())
    what = f"disk used after {count:,} appends and a checkpoint, without segments and .prev"
    baseline = f"{live / 1e6:,.1f} MB, the JSON of the live data"
    note = ", ".join(f"{name} {size:,}" for name, size in sorted(used.items()) if size) or "no files"
    return row("disk-used", what, total / live, ours=f"{total / 1e6:,.1f} MB", baseline=baseline, note=note)
