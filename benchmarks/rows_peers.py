"""The second table: the same appends, one conversation, given to the stores that people have today.

Each is timed in turns with the raw append and with ours in one run, its syncs are counted with strace, and four
processes write one conversation of it at once, after which a fresh reader counts what was kept.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from time import perf_counter

from benchmarks import appenders, children
from benchmarks.model import Context, PeerResult
from benchmarks.timing import Side, interleave
from benchmarks.work import RECORD_BYTES, Appender, PeerMissing, text_of

SIZES = (100, 1000, 10_000, 50_000)
QUICK_SIZES = (100, 1000)
SYNC_APPENDS = 20
# So many messages are there when the syncs and the bytes of an append are counted.
TRACE_SIZE = 1000
PROCESSES = 4


def run(context: Context) -> None:
    """Fill `context.results.peers`, a store that is not installed or not yet there included, with the reason."""
    found: dict[str, PeerResult] = {}
    for key in appenders.KEYS:
        result = _present(key)
        context.results.peers.append(result)
        if not result.error:
            found[key] = result
    for key, result in found.items():
        context.say(f"  syncs of {result.name}")
        _count_syncs(context, key, result)
    for size in QUICK_SIZES if context.quick else SIZES:
        context.say(f"  appends at {size:,} messages")
        _time_appends(context, found, size)
    if context.quick:
        context.results.not_run["peers, four processes at once"] = "left out of a quick run"
        return
    for key, result in found.items():
        if appenders.appender_type(key).shared:
            context.say(f"  four processes on {result.name}")
            _four_processes(context, key, result)


def _present(key: str) -> PeerResult:
    try:
        kind = appenders.appender_type(key)
        return PeerResult(kind.name, appenders.installed(key))
    except PeerMissing as missing:
        return PeerResult(appenders.appender_type(key).name, "", error=str(missing))
    except ImportError as broken:
        # Not its text, which holds a path of this machine.
        return PeerResult(key, "", error=f"cannot be imported ({broken.name})")


def _count_syncs(context: Context, key: str, result: PeerResult) -> None:
    folder = context.make(f"trace-{key}")
    appenders.make(key, folder).fill(TRACE_SIZE)
    counted = children.count_syncs(key, folder, appends=SYNC_APPENDS, size=RECORD_BYTES)
    if counted is None:
        result.sync_calls = "not counted (no strace)"
        return
    result.syncs_per_append = counted.per_append
    result.sync_calls = counted.describe()
    result.written_per_append = counted.written / counted.appends


def _time_appends(context: Context, found: dict[str, PeerResult], size: int) -> None:
    """The p50 of an append to a conversation of `size` messages, all stores in turns."""
    stores = {key: _filled(context, key, size) for key in found}
    os.sync()
    sides = [_side(key, store) for key, store in stores.items()]
    blocks = context.pick(12, 8) if size <= 1000 else 5
    for key, sample in interleave(sides, blocks=blocks, per_block=10).items():
        found[key].append_ms[size] = sample.p50
    for key, store in stores.items():
        store.close()
        expected = size + _WARM_UP + blocks * next(side.per_block or 0 for side in sides if side.name == key)
        if store.kept() != expected:
            found[key].failures = f"kept {store.kept()} of {expected} from one process"
        shutil.rmtree(store.folder)


_WARM_UP = 2


def _filled(context: Context, key: str, size: int) -> Appender:
    store = appenders.make(key, context.make(f"peer-{key}-{size}"))
    store.fill(size)
    store.open()
    return store


def _side(key: str, store: Appender) -> Side:
    """As many appends a block as fit into about 30 ms: a whole-file rewrite is not given ten."""
    store.append(text_of(0))
    start = perf_counter()
    store.append(text_of(1))
    cost = perf_counter() - start
    return Side(key, lambda: store.append(text_of(2)), per_block=min(max(int(0.03 / cost), 1), 10))


def _four_processes(context: Context, key: str, result: PeerResult) -> None:
    each = 250
    folder = context.make(f"four-{key}")
    store = appenders.make(key, folder)
    store.fill(1)
    os.sync()
    result.kept_of = PROCESSES * each
    try:
        outcomes = children.append_together(key, folder, processes=PROCESSES, each=each, size=RECORD_BYTES)
    except children.ChildFailed as failed:
        result.failures = str(failed).strip().splitlines()[-1]
        return
    result.failures = _most_common(outcomes)
    result.seconds = max(o["end"] for o in outcomes) - min(o["start"] for o in outcomes)
    try:
        result.kept = max(store.kept() - 1, 0)
    except Exception as error:  # whatever a damaged store of any library raises is the finding
        result.failures = f"cannot be read afterwards: {type(error).__name__}"


def _most_common(outcomes: Sequence[dict[str, object]]) -> str:
    counted: Counter[str] = Counter()
    for outcome in outcomes:
        failures = outcome["failures"]
        if isinstance(failures, dict):
            counted.update(failures)
    return "; ".join(f"{count} x {text}" for text, count in counted.most_common(2))
