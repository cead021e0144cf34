"""Several writers at once: eight threads of one process that share a sync, four processes that share a session."""

from __future__ import annotations

import statistics
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import children, ours
from benchmarks.bars import EACH, PROCESSES, row
from benchmarks.model import Context, Row
from benchmarks.work import RECORD_BYTES, text_of
from nomad_sessions import NativeSessionManager

THREADS = 8


def threads(context: Context) -> list[Row]:
    """The throughput of eight threads on one manager beside that of one thread, in turns."""
    source = ours.seed(context.make("threads"), 10, 100)
    each = context.pick(60, 25)
    rates: dict[int, list[float]] = {1: [], THREADS: []}
    with NativeSessionManager(source.folder) as manager:
        _throughput(manager, source.sessions, THREADS, 5)
        for _ in range(context.pick(7, 5)):
            rates[1].append(_throughput(manager, source.sessions, 1, each * 4))
            rates[THREADS].append(_throughput(manager, source.sessions, THREADS, each))
    one, many = statistics.median(rates[1]), statistics.median(rates[THREADS])
    what = f"{THREADS} threads adding durably, throughput"
    mine, base = f"{many:,.0f} adds/s with {THREADS} threads", f"{one:,.0f} adds/s with one, ours too"
    return [row("threads", what, many / one, ours=mine, baseline=base)]


def _throughput(manager: NativeSessionManager, sessions: tuple[str, ...], count: int, each: int) -> float:
    """Adds per second of `count` threads that start together."""
    barrier = threading.Barrier(count + 1)

    def add(number: int) -> None:
        barrier.wait()
        for message in range(each):
            manager.add_message(ours.WORKSPACE, sessions[number], {"role": "user", "content": text_of(message)})

    running = [threading.Thread(target=add, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    barrier.wait()
    start = perf_counter()
    for thread in running:
        thread.join()
    return count * each / (perf_counter() - start)


def processes(context: Context) -> list[Row]:
    """Four processes adding to one session beside four processes appending to one flocked file, in turns."""
    rates: dict[str, list[float]] = {"ours": [], "flocked": []}
    problems: list[str] = []
    kept = 0
    size = RECORD_BYTES
    for turn in range(context.pick(5, 2)):
        mine = _prepared(context, turn)
        rates["ours"].append(_rate(children.append_together("ours", mine, processes=PROCESSES, each=EACH, size=0)))
        kept, found, size = _examine(mine)
        problems += found
        base = context.make(f"flocked-{turn}")
        rates["flocked"].append(
            _rate(children.append_together("flocked", base, processes=PROCESSES, each=EACH, size=size))
        )
    return [_kept_row(kept, problems), _rate_row(rates, size)]


def _prepared(context: Context, turn: int) -> Path:
    """A data folder whose one session exists, so that all four find it."""
    folder = context.make(f"processes-{turn}")
    with NativeSessionManager(folder) as manager:
        manager.create_session(ours.WORKSPACE, id=ours.SESSION)
    ours.settle()
    return folder


def _rate(results: list[dict[str, Any]]) -> float:
    """Appends per second from the first start to the last end (one monotonic clock for all processes)."""
    failures = [failure for result in results for failure in result["failures"]]
    if failures:
        raise children.ChildFailed(f"an append failed: {failures[0]}")
    elapsed = max(result["end"] for result in results) - min(result["start"] for result in results)
    return float(sum(result["acked"] for result in results) / elapsed)


def _examine(folder: Path) -> tuple[int, list[str], int]:
    """How many messages are there, what is wrong with them, and the bytes that each took in the journal."""
    with NativeSessionManager(folder) as manager:
        messages = list(manager.get_session_messages(ours.WORKSPACE, ours.SESSION))
        report = manager.check(ours.WORKSPACE)
        journal = manager.status(ours.WORKSPACE).journal_bytes
    revisions = sorted(message.rev for message in messages)
    problems = [f"{problem.kind}: {problem.detail}" for problem in report.problems]
    if revisions and revisions != list(range(revisions[0], revisions[0] + len(revisions))):
        problems.append("the seq of the messages has a gap")
    return len({message.id for message in messages}), problems, max(journal // max(len(messages), 1), 1)


def _kept_row(kept: int, problems: list[str]) -> Row:
    wanted = PROCESSES * EACH
    what = f"{PROCESSES} processes x {EACH} adds to one session: kept, no error, no gap in seq"
    note = "; ".join(problems[:3]) or "check() finds nothing"
    measured = 0 if problems else kept
    return row("processes-kept", what, measured, ours=f"{kept:,} of {wanted:,}", baseline="none", note=note)


def _rate_row(rates: dict[str, list[float]], size: int) -> Row:
    mine, base = statistics.median(rates["ours"]), statistics.median(rates["flocked"])
    what = f"the throughput of those {PROCESSES} processes"
    baseline = f"{base:,.0f} appends/s of {size} bytes to one flocked file"
    return row("processes-rate", what, mine / base, ours=f"{mine:,.0f} adds/s", baseline=baseline)
