"""Events: how long from a call in one process to the callback in another, and what a count of many takes."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from benchmarks import children, ours
from benchmarks.bars import row
from benchmarks.model import Context, Row
from nomad_sessions import Event, EventFilter, NativeSessionManager
from nomad_sessions.search import Searcher

_TOLD, _QUICK_TOLD = 2_000, 300
_EVERY = 0.004
_EVENTS, _QUICK_EVENTS = 417_205, 40_000
_TIMES = 15
_TYPES = ("session.idle", "session.updated", "message.updated", "message.part.updated", "session.compacted")
_BEGIN = 1_760_748_071_727

_TELL = """
import sys, time
from nomad_sessions import NativeSessionManager
with NativeSessionManager(sys.argv[1]) as manager:
    for number in range(int(sys.argv[2])):
        manager.record_event(sys.argv[3], "tick", {"at": time.time_ns()})
        time.sleep(float(sys.argv[4]))
"""


def latency(context: Context) -> list[Row]:
    """Another process records events, each synced; a callback here notes how old each is."""
    folder, count = context.make("events-latency"), context.pick(_TOLD, _QUICK_TOLD)
    ages: list[float] = []
    done = threading.Event()

    def note(event: Event) -> None:
        ages.append((time.time_ns() - event.properties["at"]) / 1e6)
        if len(ages) == count:
            done.set()

    with NativeSessionManager(folder) as manager:
        manager.create_session(ours.WORKSPACE)
        manager.subscribe(ours.WORKSPACE, types="tick", callback=note)
        command = [sys.executable, "-c", _TELL, str(folder), str(count), ours.WORKSPACE, str(_EVERY)]
        told = subprocess.run(command, cwd=children.ROOT, check=False)
        if told.returncode or not done.wait(30):
            raise children.ChildFailed(f"{len(ages)} of {count} events arrived")
    p95 = statistics.quantiles(ages, n=20)[-1]
    what = "from the call in one process to the callback in another, p95"
    return [
        row(
            "event-latency",
            what,
            p95,
            ours=f"p50 {statistics.median(ages):.2f} ms, longest {max(ages):.1f} ms, the sync of the event among it",
            baseline="nothing",
        )
    ]


def counting(context: Context) -> list[Row]:
    """Filtered counts with a page of 20, through an index that is there."""
    folder, count = context.make("events-many"), context.pick(_EVENTS, _QUICK_EVENTS)
    chance = random.Random(1)
    with NativeSessionManager(folder, durability="os") as manager, Searcher(manager) as searcher:
        for first in range(0, count, 5_000):
            batch = [_event(chance, number) for number in range(first, min(first + 5_000, count))]
            manager.record_events(ours.WORKSPACE, batch)
        manager.checkpoint(ours.WORKSPACE)
        start = time.perf_counter()
        assert searcher.events(ours.WORKSPACE).total == count
        built = time.perf_counter() - start
        searcher.events(ours.WORKSPACE, query="word1")
        worst = max(_median(ask) for ask in _questions(searcher, count))
    return [
        row(
            "event-count",
            f"a filtered count and page of {count:,} events, the slowest of seven kinds of question, p50",
            worst,
            ours=f"the index made in {built:.1f} s",
            baseline="nothing",
        )
    ]


def _event(chance: random.Random, number: int) -> dict[str, object]:
    part = {"type": chance.choice(["text", "tool"])}
    session = f"ses_{number % 900}"
    return {
        "type": chance.choice(_TYPES),
        "properties": {"sessionID": session, "part": part, "title": f"word{number % 1000} kanban"},
        "session_id": session,
        "timestamp": _BEGIN + number * 50_000,
    }


def _questions(searcher: Searcher, count: int) -> list[Callable[[], object]]:
    middle = _BEGIN + count * 25_000
    filters = [
        EventFilter("session.idle"),
        EventFilter("session.*"),
        EventFilter(session_id="ses_5"),
        EventFilter(has_tool=True),
        EventFilter(is_agent_task=False),
        EventFilter("session.idle", after=_BEGIN + 90_000_000, before=middle),
    ]
    asked: list[Callable[[], object]] = [
        lambda wanted=each: searcher.events(ours.WORKSPACE, wanted)  # type: ignore[misc]
        for each in filters
    ]
    return [*asked, lambda: searcher.events(ours.WORKSPACE, EventFilter("session.idle"), query="word77")]


def _median(ask: Callable[[], object]) -> float:
    times = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
