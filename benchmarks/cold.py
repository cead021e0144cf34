"""A child process that does one thing from cold and times it: `python -m benchmarks.cold ACTION JSON`.

The clock starts after the imports of the side that is measured, before its store is opened, and stops when the rows
are in hand. The operating system's page cache is warm for both sides. Nothing but the standard library is imported
before the side's own import, so that the memory figure is what opening adds to the bare import.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
Result = dict[str, float]


def resident_now() -> float:
    """Resident memory in MB, exactly: `VmRSS` is counted per processor and may be off by hundreds of KB."""
    return _megabytes("/proc/self/smaps_rollup", "Rss:")


def highest_yet() -> float:
    """The most that was ever resident, in MB."""
    return _megabytes("/proc/self/status", "VmHWM:")


def _megabytes(file: str, field: str) -> float:
    """A figure of /proc; 0 where there is none."""
    path = Path(file)
    if not path.exists():
        return 0.0
    line = next(line for line in path.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def timed(action: Callable[[], int], expected: int) -> Result:
    """Run the action once and report its time and the memory it took. It must have found `expected` rows."""
    resident, highest = resident_now(), highest_yet()
    start = time.perf_counter_ns()
    found = action()
    elapsed = (time.perf_counter_ns() - start) / 1e6
    if found != expected:
        raise SystemExit(f"found {found} rows instead of {expected}")
    after, peak = resident_now(), highest_yet()
    # A peak counts only where opening raised it above what the import had needed.
    return {"ms": elapsed, "resident": after - resident, "peak": max(after, peak if peak > highest else 0) - resident}


def ours(action: str, spec: Spec) -> Result:
    """One action of ours on the data folder, workspace, session and message that `spec` names."""
    from nomad_sessions import NativeSessionManager

    folder, workspace, session = spec["folder"], spec["workspace"], spec["session"]

    def last() -> int:
        return len(list(NativeSessionManager(folder).get_session_messages(workspace, session, last=spec["count"])))

    def get() -> int:
        return int(NativeSessionManager(folder).get_message(workspace, spec["message"]) is not None)

    def add() -> int:
        manager = NativeSessionManager(folder)
        added = manager.add_message(workspace, session, id=spec["new_id"], role="user", content=spec["content"])
        return int(added.id == spec["new_id"])

    def newest() -> int:
        return len(list(NativeSessionManager(folder).list_sessions(workspace, limit=spec["count"])))

    def everything() -> int:
        return len(list(NativeSessionManager(folder).get_session_messages(workspace, session)))

    def search() -> int:
        return len(searcher(NativeSessionManager(folder)).find(spec["query"], workspace_id=workspace).hits)

    if action == "search":
        from nomad_sessions.search import Searcher as searcher
    actions = {"last": last, "get": get, "add": add, "list": newest, "all": everything, "search": search}
    return timed(actions[action], spec["count"])


def bare(action: str, spec: Spec) -> Result:
    """The same with the standard library's sqlite3: rows fetched as text, not decoded."""
    queries = {
        "last": ("SELECT body FROM messages WHERE session_id = ? ORDER BY place DESC LIMIT ?", ("session", "count")),
        "get": ("SELECT body FROM messages WHERE id = ?", ("message",)),
        "list": ("SELECT body FROM sessions ORDER BY updated DESC LIMIT ?", ("count",)),
        "all": ("SELECT body FROM messages WHERE session_id = ? ORDER BY place", ("session",)),
    }

    def search() -> int:
        return len(sqlite3.connect(spec["database"]).execute(spec["sql"], (spec["match"],)).fetchall())

    def read() -> int:
        query, names = queries[action]
        connection = sqlite3.connect(spec["database"])
        return len(connection.execute(query, tuple(spec[name] for name in names)).fetchall())

    def add() -> int:
        connection = sqlite3.connect(spec["database"])
        connection.execute("PRAGMA synchronous=FULL")
        place = "(SELECT max(place) + 1 FROM messages WHERE session_id = ?)"
        with connection:
            cursor = connection.execute(
                f"INSERT INTO messages VALUES (?, ?, {place}, ?)",
                (spec["new_id"], spec["session"], spec["session"], spec["body"]),
            )
        return cursor.rowcount

    return timed({"add": add, "search": search}.get(action, read), spec["count"])


def openai(action: str, spec: Spec) -> Result:
    """All items of one conversation with the OpenAI Agents SDK, timed inside its event loop."""
    import asyncio

    from benchmarks.work import need

    session_type = need("agents").SQLiteSession

    async def read() -> Result:
        start = time.perf_counter_ns()
        items = await session_type("s", spec["database"]).get_items()
        elapsed = (time.perf_counter_ns() - start) / 1e6
        if action != "all" or len(items) != spec["count"]:
            raise SystemExit(f"found {len(items)} items instead of {spec['count']}")
        return {"ms": elapsed}

    return asyncio.run(read())


def main() -> None:
    """Print the result as one line of JSON."""
    side, action = sys.argv[1].split(":")
    sides = {"ours": ours, "bare": bare, "openai": openai}
    print(json.dumps(sides[side](action, json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
