"""First answers from cold, each in a fresh process beside a bare database with the same rows, in turns."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import appenders, children, ours
from benchmarks.bars import row
from benchmarks.baselines import build_sqlite
from benchmarks.model import Context, Row
from benchmarks.work import PeerMissing, text_of
from nomad_sessions import NativeSessionManager

SESSIONS, QUICK_SESSIONS, PER_SESSION = 500, 100, 100
READ_ALL = 1000


@dataclass(frozen=True)
class _Pair:
    """A workspace of ours and a bare database with the same sessions and messages."""

    seed: ours.Seed
    reading: Path
    writing: Path

    @property
    def messages(self) -> str:
        """How many messages there are, as text."""
        return f"{len(self.seed.sessions) * PER_SESSION:,}"

    @property
    def session(self) -> str:
        """A session in the middle."""
        return self.seed.sessions[len(self.seed.sessions) // 2]

    def spec(self, **more: object) -> dict[str, object]:
        """What both sides are told."""
        place = {"folder": str(self.seed.folder), "workspace": ours.WORKSPACE, "session": self.session}
        return {**place, "database": str(self.reading), **more}


_PAIRS: dict[Path, _Pair] = {}


def _pair(context: Context) -> _Pair:
    """The 50,000 messages that all rows but one share, built once a run."""
    if context.folder not in _PAIRS:
        source = ours.seed(context.make("cold"), context.pick(SESSIONS, QUICK_SESSIONS), PER_SESSION)
        folder = context.make("cold-sqlite")
        build_sqlite(folder / "reading.db", source.snapshot, mode="DELETE")
        build_sqlite(folder / "writing.db", source.snapshot, mode="WAL")
        ours.settle()
        _PAIRS[context.folder] = _Pair(source, folder / "reading.db", folder / "writing.db")
    return _PAIRS[context.folder]


Arguments = Callable[[int], tuple[str, dict[str, object]]]


def _take_turns(context: Context, mine: Arguments, base: Arguments, *, turns: int) -> list[list[dict[str, Any]]]:
    """Run one child of each side in turn. The first pair warms the page cache and the bytecode, and is dropped."""
    results: list[list[dict[str, Any]]] = [[], []]
    for turn in range(turns + 1):
        for place, arguments in enumerate((mine, base)):
            action, spec = arguments(turn)
            outcome = children.run_json("benchmarks.cold", action, json.dumps(spec))
            if turn:
                results[place].append(outcome)
    return results


def _median(outcomes: list[dict[str, Any]], field: str = "ms") -> float:
    return float(statistics.median(outcome[field] for outcome in outcomes))


def _row(
    name: str, what: str, outcomes: list[list[dict[str, Any]]], *, baseline: str = "bare sqlite3", note: str = ""
) -> Row:
    mine, base = (_median(side) for side in outcomes)
    fastest = [min(outcome["ms"] for outcome in side) for side in outcomes]
    least = f"fastest {fastest[0]:.2f} against {fastest[1]:.2f} ms, {len(outcomes[0])} processes each"
    return row(name, what, mine / base, ours=f"{mine:.2f} ms", baseline=f"{base:.2f} ms {baseline}", note=least + note)


def _turns(context: Context) -> int:
    return context.pick(11, 5)


def open_clean(context: Context) -> list[Row]:
    """Open 50,000 messages after a checkpoint and read one session's last 50; what that takes of memory."""
    pair = _pair(context)
    spec = pair.spec(count=50)
    outcomes = _take_turns(context, lambda _: ("ours:last", spec), lambda _: ("bare:last", spec), turns=_turns(context))
    what = f"open {pair.messages} messages from cold, read a session's last 50, after a checkpoint"
    return [_row("cold-open", what, outcomes), _memory_row("cold-memory", "after a checkpoint", outcomes[0])]


def open_worst(context: Context) -> list[Row]:
    """The same when the journal is as long as the checkpoint policy lets it grow."""
    pair = _pair(context)
    worst, added = _worst_moment(context, pair.seed)
    spec = pair.spec(count=50, folder=str(worst.folder))
    outcomes = _take_turns(context, lambda _: ("ours:last", spec), lambda _: ("bare:last", spec), turns=_turns(context))
    what = "the same at the worst moment that the checkpoint policy allows"
    note = f"; {added:,} adds not yet folded"
    return [
        _row("cold-worst", what, outcomes, note=note),
        _memory_row("cold-worst-memory", "at the worst moment", outcomes[0]),
    ]


def _memory_row(name: str, when: str, outcomes: list[dict[str, Any]]) -> Row:
    peak, resident = _median(outcomes, "peak"), _median(outcomes, "resident")
    what = f"memory of that open and read above the bare import, {when}"
    note = f"{resident:.1f} MB when done (Rss of smaps_rollup); the peak is VmHWM"
    baseline = "the same process after its imports"
    return row(name, what, peak, ours=f"{peak:.1f} MB at the peak", baseline=baseline, note=note)


def _worst_moment(context: Context, source: ours.Seed) -> tuple[ours.Seed, int]:
    """A clone with as many single adds as fit before the policy folds them: found on one clone, done on another."""
    limit = _adds_until_fold(ours.clone(source, context.make("worst-probe")))
    worst = ours.clone(source, context.make("worst"))
    added = max(limit - _PROBE_STEP, 0)
    with NativeSessionManager(worst.folder, durability="os") as manager:
        folded = manager.status(ours.WORKSPACE).snapshot_seq
        for number in range(added):
            _add_somewhere(manager, worst, number)
        if manager.status(ours.WORKSPACE).snapshot_seq != folded:
            raise children.ChildFailed("the second clone was folded earlier than the first")
    ours.settle()
    return worst, added


_PROBE_STEP = 250


def _adds_until_fold(probe: ours.Seed) -> int:
    """After how many adds, to a multiple of the step, the manager folds by itself."""
    ceiling = len(probe.sessions) * PER_SESSION * 2
    with NativeSessionManager(probe.folder, durability="os") as manager:
        folded = manager.status(ours.WORKSPACE).snapshot_seq
        for number in range(ceiling):
            _add_somewhere(manager, probe, number)
            if number % _PROBE_STEP == 0 and manager.status(ours.WORKSPACE).snapshot_seq != folded:
                return number
    raise children.ChildFailed(f"{ceiling:,} adds brought no checkpoint")


def _add_somewhere(manager: NativeSessionManager, target: ours.Seed, number: int) -> None:
    session = target.sessions[number % len(target.sessions)]
    manager.add_message(ours.WORKSPACE, session, {"role": "user", "content": text_of(number)})


def get_message(context: Context) -> list[Row]:
    """One message by its id."""
    pair = _pair(context)
    message = _some_message(pair.seed)
    spec = pair.spec(count=1, message=message)
    outcomes = _take_turns(context, lambda _: ("ours:get", spec), lambda _: ("bare:get", spec), turns=_turns(context))
    return [_row("cold-get", f"cold get_message(id) among {pair.messages}", outcomes)]


@cache
def _some_message(source: ours.Seed) -> str:
    with NativeSessionManager(source.folder) as manager:
        session = source.sessions[len(source.sessions) // 3]
        return str(manager.get_session_messages(ours.WORKSPACE, session)[PER_SESSION // 2].id)


def first_add(context: Context) -> list[Row]:
    """The first durable add after opening, with an id that the client gives and that must be looked up."""
    pair = _pair(context)
    target = ours.clone(pair.seed, context.make("first-add"))
    body = json.dumps({"role": "user", "content": text_of(1)}, separators=(",", ":"))
    base = {"content": text_of(1), "body": body, "count": 1, "database": str(pair.writing)}

    def spec(turn: int) -> dict[str, object]:
        return pair.spec(**base, folder=str(target.folder), new_id=f"client-given-{turn}")

    outcomes = _take_turns(
        context, lambda turn: ("ours:add", spec(turn)), lambda turn: ("bare:add", spec(turn)), turns=_turns(context)
    )
    what = "first durable add with a client-given id after opening"
    return [_row("cold-first-add", what, outcomes, baseline="bare sqlite3, WAL, synchronous=FULL")]


def list_newest(context: Context) -> list[Row]:
    """The 50 newest of 500 sessions."""
    pair = _pair(context)
    spec = pair.spec(count=50)
    outcomes = _take_turns(context, lambda _: ("ours:list", spec), lambda _: ("bare:list", spec), turns=_turns(context))
    return [_row("cold-list", f"list the 50 newest of {len(pair.seed.sessions)} sessions from cold", outcomes)]


def read_all(context: Context) -> list[Row]:
    """A whole session of 1,000 messages beside the fastest peer."""
    try:
        version = appenders.installed("openai")
    except PeerMissing as missing:
        context.results.not_run["cold-read-all"] = f"OpenAI Agents SDK {missing}"
        return []
    mine, peer = context.make("read-all"), context.make("read-all-openai")
    appenders.make("ours", mine).fill(READ_ALL)
    appenders.make("openai", peer).fill(READ_ALL)
    ours.settle()
    place = {"folder": str(mine), "workspace": ours.WORKSPACE, "session": ours.SESSION, "count": READ_ALL}
    theirs = {"database": str(peer / "conversation.db"), "count": READ_ALL}
    outcomes = _take_turns(
        context, lambda _: ("ours:all", dict(place)), lambda _: ("openai:all", dict(theirs)), turns=context.pick(9, 2)
    )
    what = f"read all of a {READ_ALL:,}-message session from cold"
    baseline = f"OpenAI Agents SDK {version} SQLiteSession"
    return [_row("cold-read-all", what, outcomes, baseline=baseline)]
