"""Search beside bare FTS5: the same queries on the same index, the same texts put into one; and the command's start.

The texts are words drawn as in a language (the n-th most frequent one n times as rare as the first), so that a query
may have thousands of hits or two hundred.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import statistics
import subprocess
import time
from contextlib import closing
from functools import cache, partial
from itertools import accumulate
from pathlib import Path

from benchmarks import children, ours
from benchmarks.bars import row
from benchmarks.model import Context, Row
from benchmarks.timing import Side, interleave
from nomad_sessions import NativeSessionManager
from nomad_sessions.search import Searcher

SESSIONS, QUICK_SESSIONS, PER_SESSION = 500, 100, 100
_KNOWN = 20_000
_WORDS_A_TEXT = 150
QUERY = (
    "SELECT rowid, rank, snippet(words, -1, '[', ']', '…', 24) FROM words WHERE words MATCH ? ORDER BY rank LIMIT 20"
)


@cache
def vocabulary() -> list[str]:
    """Words that are none, the most frequent first."""
    chance = random.Random(1)
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(_KNOWN)]


@cache
def _weights() -> list[float]:
    return list(accumulate(1 / (rank + 1) for rank in range(_KNOWN)))


def text_of(number: int) -> str:
    """Text `number`, of about 1 KB."""
    return " ".join(random.Random(number).choices(vocabulary(), cum_weights=_weights(), k=_WORDS_A_TEXT))


def _queries() -> list[tuple[str, str]]:
    """Queries as a person types them and as FTS5 takes them: frequent and rare, two words, a phrase, a prefix."""
    words = vocabulary()
    two, phrase = f"{words[50]} {words[60]}", f'"{words[2]} {words[3]}"'
    single = [(words[rank], words[rank]) for rank in (100, 500, 3000)]
    return [*single, (two, two.replace(" ", " AND ")), (phrase, phrase), (f"{words[800][:3]}*", f"{words[800][:3]}*")]


_SEEDS: dict[Path, ours.Seed] = {}


def _seed(context: Context) -> ours.Seed:
    """The messages that all rows share, made once a run."""
    if context.folder not in _SEEDS:
        sessions = context.pick(SESSIONS, QUICK_SESSIONS)
        _SEEDS[context.folder] = ours.seed(context.make("search"), sessions, PER_SESSION, text=text_of)
    return _SEEDS[context.folder]


def _index(source: ours.Seed) -> Path:
    return source.folder / ours.WORKSPACE / "index.sqlite"


def build(context: Context) -> list[Row]:
    """A first search, which makes the index, beside one transaction of bare inserts; and what the index takes."""
    source = _seed(context)
    count = len(source.sessions) * PER_SESSION
    texts = [text_of(number) for number in range(count)]
    mine, base = [], []
    for _ in range(context.pick(3, 2)):
        for end in ("", "-wal", "-shm"):
            _index(source).with_name(f"index.sqlite{end}").unlink(missing_ok=True)
        with NativeSessionManager(source.folder) as manager, Searcher(manager) as searcher:
            start = time.perf_counter()
            searcher.find("word", workspace_id=ours.WORKSPACE)
            mine.append(time.perf_counter() - start)
        base.append(_bare_build(context, texts))
    best, bare = min(mine), min(base)
    ours.settle()
    size = _index(source).stat().st_size / sum(map(len, texts))
    what = f"make the index of {count:,} messages of 1 KB"
    baseline = f"{bare:.2f} s bare FTS5 inserts in one transaction"
    return [
        row("search-build", what, bare / best, ours=f"{best:.2f} s", baseline=baseline),
        row(
            "search-size",
            "the index's size for each byte of text",
            size,
            ours=f"{_index(source).stat().st_size / 1e6:.0f} MB, the texts among them",
            baseline=f"{sum(map(len, texts)) / 1e6:.0f} MB of text",
        ),
    ]


def _bare_build(context: Context, texts: list[str]) -> float:
    folder = context.make("search-bare")
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE VIRTUAL TABLE words USING fts5(body)")
        start = time.perf_counter()
        database.execute("BEGIN")
        database.executemany("INSERT INTO words (rowid, body) VALUES (?, ?)", enumerate(texts, 1))
        database.execute("COMMIT")
        elapsed = time.perf_counter() - start
    shutil.rmtree(folder)
    return elapsed


def warm(context: Context) -> list[Row]:
    """Queries on an open handle beside the bare query on the same index: the median of their ratios."""
    source = _seed(context)
    ratios, each = [], []
    with (
        NativeSessionManager(source.folder) as manager,
        Searcher(manager) as searcher,
        closing(sqlite3.connect(f"file:{_prepared(source)}?mode=ro", uri=True)) as bare,
    ):
        for query, match in _queries():
            sides = [
                Side("ours", partial(searcher.find, query, workspace_id=ours.WORKSPACE)),
                Side("bare", partial(_ask, bare, match)),
            ]
            samples = interleave(sides, blocks=context.pick(9, 4), per_block=5)
            mine, base = samples["ours"].p50, samples["bare"].p50
            ratios.append(mine / base)
            each.append(f"{mine:.2f}/{base:.2f}")
    count = len(source.sessions) * PER_SESSION
    what = f"search {count:,} messages, with true total and snippets: median over {len(each)} queries"
    middle = statistics.median(ratios)
    note = f"ours/bare in ms for each query: {', '.join(each)}; the highest ratio {max(ratios):.2f}"
    return [
        row("search-warm", what, middle, ours="see note", baseline="the bare FTS5 query on the same index", note=note)
    ]


def _ask(database: sqlite3.Connection, match: str) -> list[tuple[object, ...]]:
    return database.execute(QUERY, (match,)).fetchall()


def _prepared(source: ours.Seed) -> Path:
    """The index, made by a search."""
    with NativeSessionManager(source.folder) as manager, Searcher(manager) as searcher:
        searcher.find("word", workspace_id=ours.WORKSPACE)
    return _index(source)


def cold(context: Context) -> list[Row]:
    """The first search of a fresh process beside a bare script that opens the same index."""
    source = _seed(context)
    index = _prepared(source)
    query, match = _queries()[1]
    with NativeSessionManager(source.folder) as manager, Searcher(manager) as searcher:
        found = len(searcher.find(query, workspace_id=ours.WORKSPACE).hits)
    spec: dict[str, object] = {
        "folder": str(source.folder),
        "workspace": ours.WORKSPACE,
        "session": "",
        "database": str(index),
    }
    spec |= {"query": query, "match": match, "count": found, "sql": QUERY}
    times: dict[str, list[float]] = {"ours:search": [], "bare:search": []}
    for turn in range(context.pick(11, 5) + 1):
        for action, kept in times.items():
            outcome = children.run_json("benchmarks.cold", action, json.dumps(spec))
            if turn:
                kept.append(outcome["ms"])
    mine, base = (statistics.median(each) for each in times.values())
    what = f"the first search of a process among {len(source.sessions) * PER_SESSION:,} messages"
    baseline = f"{base:.2f} ms a bare script on the same index"
    return [row("search-cold", what, mine / base, ours=f"{mine:.2f} ms", baseline=baseline)]


def command(context: Context) -> list[Row]:
    """`nomad-sessions ls` in a large workspace beside `nomad-sessions --help`: whole processes."""
    source = _seed(context)
    place = ["--data-dir", str(source.folder), "--workspace", ours.WORKSPACE]
    commands = {"ls": ["ls", *place], "help": ["--help"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(context.pick(11, 5) + 1):
        for name, arguments in commands.items():
            start = time.perf_counter()
            subprocess.run(children.python("nomad_sessions.cli", *arguments), check=True, capture_output=True)
            if turn:
                times[name].append((time.perf_counter() - start) * 1000)
    mine, base = (statistics.median(each) for each in times.values())
    what = f"the command `ls` in a workspace of {len(source.sessions) * PER_SESSION:,} messages"
    return [row("cli-ls", what, mine / base, ours=f"{mine:.0f} ms", baseline=f"{base:.0f} ms `--help`")]
