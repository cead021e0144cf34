"""Whether the log still has the past that an index was made of: a workspace may have been deleted and made anew, or an
older copy put back, and may have gone further since.

Invariant: what `proof_at` gives for a seq is the same as long as the log goes on from there, and another once it has
another past. No two records have the same id; a delta has none, so of a log that ends in one, the place where it ends
tells it too. Verified by `tests/unit/test_search_pasts.py`.
"""

from __future__ import annotations

from itertools import pairwise

from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import Entry, Segment
from nomad_sessions.workspace.archive import archives, entries_of
from nomad_sessions.workspace.store import Workspace

__all__ = ["follows", "is_of", "proof", "proof_at"]


def proof(last_id: str, segment: int, end: int) -> str:
    """The proof of a log whose last record that has an id has this one, and whose last record ends there."""
    return f"{last_id} {segment} {end}"


def proof_at(workspace: Workspace, seq: int) -> str:
    """What proves the log up to this record, which is in the journal; "" where it is not, or none with an id before it.

    Cost: the bytes of the segment that has it. Raises what reading that does.
    """
    place: tuple[int, int] | None = None
    for first in reversed([each for each in Journal(workspace.fs, workspace.folder).first_seqs() if each <= seq]):
        entries = [each for each in _entries(workspace, first) if each.record["seq"] <= seq]
        if place is None:
            if not entries or entries[-1].record["seq"] != seq:
                return ""
            place = first, entries[-1].offset + entries[-1].length
        found = next((each.record["id"] for each in reversed(entries) if "id" in each.record), None)
        if found is not None:
            return proof(found, *place)
    return ""


def is_of(workspace: Workspace, seq: int, known: str) -> bool:
    """Whether the log has the record of this seq with this proof: in the journal, or, where it was a recorded event, in
    what was carried over from it. False where nothing can be proved any more."""
    found = proof_at(workspace, seq)
    return found == known if found else bool(known) and _carried_id(workspace, seq) == known.split(maxsplit=1)[0]


def _carried_id(workspace: Workspace, seq: int) -> str | None:
    for first in reversed([each for each in archives(workspace.fs, workspace.folder) if each <= seq]):
        entries = entries_of(workspace.fs, workspace.folder, first)
        return next((each.record.get("id") for each in entries if each.record["seq"] == seq), None)
    return None


def follows(workspace: Workspace, since: int, until: int) -> bool:
    """Whether the journal has every record between these seqs: a snapshot from elsewhere, put here, has a past of which
    it has none. Cost: the last segment of them, and a seal for each other."""
    firsts = Journal(workspace.fs, workspace.folder).first_seqs()
    among = [*[each for each in firsts if each <= since][-1:], *(each for each in firsts if each > since)]
    if not among:
        return since >= until
    return all(_last(workspace, a) + 1 == b for a, b in pairwise(among)) and _last(workspace, among[-1]) >= until


def _last(workspace: Workspace, first: int) -> int:
    """The last seq in a segment; of an empty one, that before it."""
    segment = Segment.open(workspace.fs, f"{workspace.folder}/journal", first, writable=False)
    try:
        seal = segment.seal()
        if seal is not None:
            return seal.last_seq
    finally:
        segment.close()
    entries = _entries(workspace, first)
    return entries[-1].record["seq"] if entries else first - 1


def _entries(workspace: Workspace, first: int) -> list[Entry]:
    segment = Segment.open(workspace.fs, f"{workspace.folder}/journal", first, writable=False)
    try:
        return segment.scan().entries
    finally:
        segment.close()
