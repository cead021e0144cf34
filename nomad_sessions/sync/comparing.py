"""Store and target side by side, whole: what a target lacks, has in an older state, or should not have.

Both sides are looked at in the order of ids, range by range; of a range only the digests are compared where they are
the same. Verified by `tests/unit/test_verifying.py` and `tests/unit/test_outbox.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple, Protocol

from nomad_sessions.sync.target import Key, Kind, Stored

__all__ = ["RANGE", "Difference", "Problem", "Range", "Scanned", "compared"]

RANGE = 1_000
"""How many records of ours a range has."""

Problem = Literal["missing", "stale", "ahead", "extra"]


class Difference(NamedTuple):
    """A record that a target has otherwise: `missing` there, `stale` (an older state), `ahead` (a rev that is above
    ours: the target is of another past), or `extra` (it is gone here, or never was). Revs are None where it is not."""

    key: Key
    problem: Problem
    ours: int | None
    theirs: int | None


class Range(NamedTuple):
    """One range that was compared: of a kind, up to and with the id `last` ("" for the end), how many records of ours,
    and what differs."""

    kind: Kind
    last: str
    records: int
    differences: list[Difference]


class Scanned(Protocol):
    """What has records by kind, in the order of their ids; a `SyncTarget` is."""

    def scan(self, workspace_id: str, kind: Kind, *, after: str = "", limit: int = 1000) -> list[Stored]:
        """See `SyncTarget`."""
        ...


def compared(
    ours: Sequence[Stored], target: Scanned, workspace_id: str, kind: Kind, *, after: str = ""
) -> Iterator[Range]:
    """Compares all of a kind that come after an id. `ours` are sorted by id. Cost: one scan of the target, in pages.

    Raises `TargetUnavailableError`; what was compared until then needs no repetition: go on `after` its `last`.
    """
    theirs = _Ahead(_scanned(target, workspace_id, kind, after))
    mine = iter([each for each in ours if each.id > after])
    while True:
        here = list(islice(mine, RANGE))
        last = here[-1].id if len(here) == RANGE else ""
        there = list(theirs.up_to(last))
        differences = [] if _digest(here) == _digest(there) else list(_differences(kind, here, there))
        yield Range(kind, last, len(here), differences)
        if not last:
            return


def _scanned(target: Scanned, workspace_id: str, kind: Kind, after: str) -> Iterator[Stored]:
    while page := target.scan(workspace_id, kind, after=after, limit=RANGE):
        yield from page
        after = page[-1].id
        if len(page) < RANGE:
            return


class _Ahead:
    """An iterator that can be taken from up to an id."""

    def __init__(self, source: Iterator[Stored]) -> None:
        self._source = source
        self._next = next(source, None)

    def up_to(self, last: str) -> Iterator[Stored]:
        """Those up to and with this id; all that are left for ""."""
        while self._next is not None and (not last or self._next.id <= last):
            yield self._next
            self._next = next(self._source, None)


def _digest(rows: Iterable[Stored]) -> bytes:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.id}\0{row.rev}\n".encode("utf-8", "surrogatepass"))
    return digest.digest()


def _differences(kind: Kind, here: list[Stored], there: list[Stored]) -> Iterator[Difference]:
    ours, theirs = dict(here), dict(there)
    for identifier in sorted({**ours, **theirs}):
        mine, other = ours.get(identifier), theirs.get(identifier)
        if mine == other:
            continue
        if other is None:
            problem: Problem = "missing"
        elif mine is None:
            problem = "extra"
        else:
            problem = "stale" if other < mine else "ahead"
        yield Difference(Key(kind, identifier), problem, mine, other)
