"""Whether the log still has the past that an index was made of: a workspace may have been deleted and made anew, or an
older copy put back, and may have gone further since.

Invariant: a proof holds as long as the log goes on from where it was made, and no more once that has another past. No
two records have the same id; a delta has none, so of a log that ends in one, where it lies tells it too. Verified by
`tests/unit/test_search_pasts.py`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from nomad_sessions.errors import JournalCorruptError
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import Entry, Segment
from nomad_sessions.workspace.archive import archives, entries_of
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.store import Workspace

__all__ = ["Proof", "Spot", "follows", "holds", "prove"]


class Spot(NamedTuple):
    """A record, and where it lies: the first seq of its segment, byte offset and length of its line."""

    seq: int
    segment: int
    offset: int
    length: int


class Proof(NamedTuple):
    """The last record of a log, and the last of its records that has an id (it, or one before it), with this one. Where
    what is kept has none, the last record alone."""

    last: Spot
    named: Spot
    id: str | None

    def text(self) -> str:
        """To be noted."""
        return encode(self).decode()

    @classmethod
    def of(cls, text: str) -> Proof | None:
        """As it was noted; None for nothing, and for what is no proof: somebody's index may be damaged."""
        try:
            last, named, name = decode(text.encode())
            return cls(Spot(*last), Spot(*named), name)
        except (ValueError, TypeError):
            return None


def prove(workspace: Workspace, seq: int, known: Proof | None) -> Proof | None:
    """The proof of the journal up to this record; None where it has no such record.

    Cost: of the segment that has it the bytes that follow a `known` proof, which holds; else all. Raises what reading
    that does.
    """
    last: Spot | None = None
    for first in reversed([each for each in _firsts(workspace) if each <= seq]):
        if known is not None and known.last.segment == first and known.last.seq <= seq:
            entries = _entries(workspace, first, seq, known.last)
            last = last or (_spot(entries[-1], first) if entries else known.last)
            named = _named(entries, first) or (known.named, known.id)
            return Proof(last, *named) if last.seq == seq else None
        entries = _entries(workspace, first, seq)
        if last is None:
            if not entries or entries[-1].record["seq"] != seq:
                return None
            last = _spot(entries[-1], first)
        found = _named(entries, first)
        if found is not None:
            return Proof(last, *found)
    return Proof(last, last, None) if last is not None else None


def holds(workspace: Workspace, proof: Proof) -> bool:
    """Whether the log is the one that was proved, up to there: by the journal, or, where the last record was one that
    somebody recorded, by what was carried over. False where nothing can be proved any more. Cost: two lines."""
    last, named = _record(workspace, proof.last), _record(workspace, proof.named)
    if last is not None and named is not None:
        return bool(named.get("id") == proof.id)
    return proof.last == proof.named and proof.id is not None and _carried_id(workspace, proof.last.seq) == proof.id


def follows(workspace: Workspace, since: int, until: int) -> bool:
    """Whether the journal has every record between these seqs: a snapshot from elsewhere, put here, has a past of which
    it has none. Cost: the last segment of them, and a seal for each other."""
    firsts = _firsts(workspace)
    among = [*[each for each in firsts if each <= since][-1:], *(each for each in firsts if each > since)]
    if not among:
        return since >= until
    return all(_last(workspace, a) + 1 == b for a, b in pairwise(among)) and _last(workspace, among[-1]) >= until


def _firsts(workspace: Workspace) -> list[int]:
    return Journal(workspace.fs, workspace.folder).first_seqs()


def _open(workspace: Workspace, first: int) -> Segment:
    return Segment.open(workspace.fs, f"{workspace.folder}/journal", first, writable=False)


def _entries(workspace: Workspace, first: int, until: int, after: Spot | None = None) -> list[Entry]:
    segment = _open(workspace, first)
    try:
        found = segment.scan(*((after.offset + after.length, after.seq + 1) if after is not None else ()))
        return [each for each in found.entries if each.record["seq"] <= until]
    finally:
        segment.close()


def _spot(entry: Entry, first: int) -> Spot:
    return Spot(entry.record["seq"], first, entry.offset, entry.length)


def _named(entries: list[Entry], first: int) -> tuple[Spot, str] | None:
    return next(((_spot(each, first), each.record["id"]) for each in reversed(entries) if "id" in each.record), None)


def _record(workspace: Workspace, spot: Spot) -> Body | None:
    """The record that lies there, if it has this seq."""
    try:
        segment = _open(workspace, spot.segment)
    except FileNotFoundError:
        return None
    try:
        record = segment.record(spot.offset, spot.length)
    except JournalCorruptError:
        return None
    finally:
        segment.close()
    return record if record.get("seq") == spot.seq else None


def _carried_id(workspace: Workspace, seq: int) -> str | None:
    for first in reversed([each for each in archives(workspace.fs, workspace.folder) if each <= seq]):
        entries = entries_of(workspace.fs, workspace.folder, first)
        return next((each.record.get("id") for each in entries if each.record["seq"] == seq), None)
    return None


def _last(workspace: Workspace, first: int) -> int:
    """The last seq in a segment; of an empty one, that before it."""
    segment = _open(workspace, first)
    try:
        seal = segment.seal()
        if seal is not None:
            return seal.last_seq
        entries = segment.scan().entries
        return int(entries[-1].record["seq"]) if entries else first - 1
    finally:
        segment.close()
