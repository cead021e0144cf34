"""What one durable add costs beside a raw synced append, at three sizes of the workspace, and what no sync saves."""

from __future__ import annotations

from benchmarks import ours
from benchmarks.bars import compared
from benchmarks.baselines import RawAppend
from benchmarks.model import Context, Row
from benchmarks.timing import Sample, Side, interleave
from benchmarks.work import text_of

SIZES = (100, 10_000, 50_000)
PER_SESSION = 100
# Adds go to so many sessions in turn, as several agents at work do it; each has been added to before the clock starts.
IN_USE = 4


class _Target:
    """A clone of a seed with a warm handle on it; `renew` starts over, so that a small workspace stays small."""

    def __init__(self, context: Context, size: int, durability: ours.Durability, *, keep: bool) -> None:
        self._context, self._size, self._durability, self._keep = context, size, durability, keep
        self._number = 0
        self._fresh = IN_USE
        self._prepare()

    def _prepare(self) -> None:
        self._seed = ours.seed(self._context.make(f"seed-{self._size}"), self._size // PER_SESSION, PER_SESSION)
        self._manager = ours.opened(self._seed, self._durability)
        for session in self._seed.sessions[:IN_USE]:
            self._add_to(session)

    def _add_to(self, session: str) -> None:
        self._number += 1
        self._manager.add_message(ours.WORKSPACE, session, {"role": "user", "content": text_of(self._number)})

    def renew(self) -> None:
        """A new workspace of the size, unless the size is so large that a block of adds does not change it."""
        if not self._keep:
            self.close()
            self._prepare()

    def record_size(self) -> int:
        """Bytes that one add puts into the journal."""
        return ours.record_size(self._manager, self._seed.sessions[0])

    def add(self) -> None:
        """One add of 1 KB, to the sessions in use in turn."""
        self._add_to(self._seed.sessions[self._number % min(IN_USE, len(self._seed.sessions))])

    def add_first(self) -> None:
        """One add of 1 KB to a session that this handle has not touched, as long as there are such sessions."""
        self._add_to(self._seed.sessions[self._fresh % len(self._seed.sessions)])
        self._fresh += 1

    def close(self) -> None:
        """Let go of the handle without folding what was added."""
        self._manager.close()


def run(context: Context) -> list[Row]:
    """Five rows: the ratio at each size, the growth between the sizes, and `durability="os"` beside `full`."""
    targets = {size: _Target(context, size, "full", keep=size >= 10_000) for size in SIZES}
    unsynced = _Target(context, 10_000, "os", keep=True)
    size = targets[10_000].record_size()
    raw = RawAppend(context.make("raw"), size)
    raw.open()
    ours.settle()
    sides = [Side("raw", lambda: raw.append(""))]
    sides += [Side(str(count), target.add, target.renew) for count, target in targets.items()]
    sides += [Side("os", unsynced.add), Side("first", targets[SIZES[-1]].add_first)]
    samples = interleave(sides, blocks=context.pick(24, 12), per_block=context.pick(25, 15))
    raw.close()
    for target in (*targets.values(), unsynced):
        target.close()
    return [_at_size(count, samples, size) for count in SIZES] + [_growth(samples), _unsynced(samples)]


def _at_size(count: int, samples: dict[str, Sample], record: int) -> Row:
    mine, base = samples[str(count)], samples["raw"]
    note = f"; p99 {mine.p99:.2f} against {base.p99:.2f} ms, mean {mine.mean:.3f} ms"
    if count == SIZES[-1]:
        note += f"; to a session not touched before {samples['first'].p50:.3f} ms"
    what = f"durable add of 1 KB, p50, workspace of {count:,} messages"
    baseline = f" raw append + fdatasync of {record} bytes"
    extra = {"ours_ms": mine.p50, "base_ms": base.p50, "ours_p99_ms": mine.p99, "ours_mean_ms": mine.mean}
    return compared(f"add-{count}", what, mine, base, baseline=baseline, note=note, extra=extra)


def _growth(samples: dict[str, Sample]) -> Row:
    small, large = (samples[str(count)] for count in (SIZES[0], SIZES[-1]))
    what = f"growth of that p50 from {SIZES[0]:,} to {SIZES[-1]:,} messages"
    ours, baseline = f" at {SIZES[-1]:,}", f" at {SIZES[0]:,}, ours too"
    return compared("add-growth", what, large, small, ours=ours, baseline=baseline)


def _unsynced(samples: dict[str, Sample]) -> Row:
    what = 'add with durability="os", p50, workspace of 10,000 messages'
    return compared("add-os", what, samples["os"], samples["10000"], baseline=', ours with "full"')
