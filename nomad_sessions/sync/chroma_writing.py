"""Changes written into Chroma's collections, and read from them: which of two states of a record counts.

A record with a text is rows in the collection of its kind, one without, or that is gone, a row in the bare one. While
it passes from one to the other it may be in both: the one with the higher rev counts.

Invariant: the first row of a record is deleted last and written last: whatever dies in between, the record is still
told again, because it has not the new rev yet. Verified by
`tests/contract/test_sync_targets.py` and `tests/contract/test_chroma_killed.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from nomad_sessions.embedders import Embedder, Vector, embed_each
from nomad_sessions.errors import EmbeddingRefusedError
from nomad_sessions.sync.chroma_rows import Metadata, Row, bare_id, change_of, key_of, quoted, row_id, rows_of, unquoted
from nomad_sessions.sync.chroma_shelf import Shelf, Written
from nomad_sessions.sync.chroma_shelves import Shelves
from nomad_sessions.sync.target import Change, Key, Kind, Rejected, Stored

__all__ = ["applied", "fetched", "listing", "refilled"]

_NOWHERE: Vector = (1.0,)
_BATCH = 100
_REFUSED = "its text has no vector"


class _Known(NamedTuple):
    """What there is of a record: its first row, and the one without a vector."""

    rows: Metadata | None
    bare: Metadata | None

    @property
    def rev(self) -> int:
        return max((each["rev"] for each in (self.rows, self.bare) if each is not None), default=-1)

    @property
    def ended(self) -> int:
        """The rev at which it ended last, -1 where it never did."""
        there = (each for each in (self.rows, self.bare) if each is not None)
        return max((each["rev"] if each.get("gone") else each.get(_ENDED, -1) for each in there), default=-1)

    def what_counts(self) -> Metadata | None:
        """The one of them that is the record, unless it is gone."""
        there = [each for each in (self.rows, self.bare) if each is not None]
        best = max(there, key=lambda each: int(each["rev"]), default=None)
        return None if best is None or best.get("gone") else best


_UNKNOWN = _Known(None, None)
_LARGEST = 16 << 20
_ENDED = "endedRev"
"""In the first row of a session that came again: the rev at which it had ended."""


def applied(shelves: Shelves, embedder: Embedder, changes: Sequence[Change], *, force: bool) -> list[Rejected]:
    """Writes these, of one workspace, in order; those that have no vector are named. Raises what the embedder and
    Chroma do."""
    rejected = []
    for group in _groups(changes):
        sessions = [] if force else [(each.workspace_id, key) for each in group if (key := _session_of(each))]
        known = _known(shelves, [*((each.workspace_id, each.key) for each in group), *sessions])
        told = group if force else [_unless_ended(each, known) for each in group]
        ended = {} if force else {each.key: known[each.key].ended for each in told if each.key.kind == "session"}
        fresh = [each for each in told if force or each.rev > known[each.key].rev]
        if _ends_session(told[0]) and ended.get(told[0].key, -1) < told[0].rev:
            found = dict(_of_session(shelves, told[0]))
            gone = [Change(told[0].workspace_id, key, told[0].rev, None, told[0].session_id) for key in found]
            _write(shelves, embedder, gone, found, {}, force=False)
            there = known[told[0].key].what_counts()
            if not fresh and there is not None:  # It has come again, and it is written down that it had ended.
                fresh, ended = [change_of("session", there)], {told[0].key: told[0].rev}
        rejected += _write(shelves, embedder, fresh, known, ended, force=force)
    return rejected


def _ends_session(change: Change) -> bool:
    return change.key.kind == "session" and change.body is None


def _session_of(change: Change) -> Key | None:
    """Of a message, its session."""
    if change.key.kind != "message" or change.body is None or change.session_id is None:
        return None
    return Key("session", change.session_id)


def _unless_ended(change: Change, known: dict[Key, _Known]) -> Change:
    """A message of a session that has ended since is gone."""
    session = _session_of(change)
    ended = -1 if session is None else known[session].ended
    return change._replace(rev=ended, body=None) if change.rev < ended else change


def _groups(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """In order, those that end a session apart: with it go messages that were there before, and no others."""
    group: list[Change] = []
    for each in changes:
        if _ends_session(each):
            if group:
                yield group
            yield [each]
            group = []
        else:
            group.append(each)
    if group:
        yield group


def _known(shelves: Shelves, records: Collection[tuple[str, Key]]) -> dict[Key, _Known]:
    bare = shelves.bare.get(bare_id(workspace, key) for workspace, key in records)
    rows = {
        kind: shelf.get(row_id(workspace, key.id) for workspace, key in records if key.kind == kind)
        for kind, shelf in shelves.of.items()
        if any(key.kind == kind for _, key in records)
    }
    return {
        key: _Known(rows[key.kind].get(row_id(workspace, key.id)), bare.get(bare_id(workspace, key)))
        for workspace, key in records
    }


def _of_session(shelves: Shelves, session: Change) -> Iterator[tuple[Key, _Known]]:
    """The messages of a session that are older than this end of it, those that are gone too: a still older state of
    one may be on its way."""
    conditions = [{"workspaceId": session.workspace_id}, {"sessionId": quoted(session.key.id)}]
    rows = shelves.of["message"].listed({"$and": [*conditions, {"chunk": 0}]})
    bare = shelves.bare.listed({"$and": [*conditions, {"kind": "message"}]})
    ids = {each["recordId"]: key_of("message", each) for found in (rows, bare) for each in found}
    for key, known in _known(shelves, [(session.workspace_id, key) for key in ids.values()]).items():
        if known.rev < session.rev:
            yield key, known


def _write(
    shelves: Shelves,
    embedder: Embedder,
    changes: Sequence[Change],
    known: dict[Key, _Known],
    ended: dict[Key, int],
    *,
    force: bool,
) -> list[Rejected]:
    """Makes these what there is of their records, whatever that was; `ended` says when sessions of them ended last."""
    made = {each.key: rows_of(each) for each in changes}
    for each in changes:
        if each.body is not None and ended.get(each.key, -1) >= 0:
            made[each.key][0].metadata[_ENDED] = ended[each.key]
    too_large = [each for each in changes if _size(made[each.key]) > _LARGEST]
    changes = [each for each in changes if each not in too_large]
    with_text = [each for each in changes if made[each.key][0].text]
    same = {each.key for each in with_text if _says_the_same(made[each.key], known[each.key])}
    vectors, rejected = _vectors(embedder, [each for each in with_text if each.key not in same], made)
    for kind, shelf in shelves.of.items():
        here = [each for each in changes if each.key.kind == kind]
        bare = [each for each in here if not made[each.key][0].text]
        _write_bare(shelf, shelves.bare, bare, made, known, force=force)
        rows = [each for each in here if each.key in same or each.key in vectors]
        leaving = [bare_id(each.workspace_id, each.key) for each in rows if known[each.key].bare is not None]
        if force:  # It may have the higher rev, and would count.
            shelves.bare.delete(leaving)
        _write_rows(shelf, [each for each in rows if each.key in same], made, {}, known)
        _write_rows(shelf, [each for each in rows if each.key in vectors], made, vectors, known)
        if not force:
            shelves.bare.delete(leaving)
    reason = f"is larger than {_LARGEST >> 20} MB: more than a server takes at once"
    return rejected + [Rejected(each.key, each.rev, reason) for each in too_large]


def _size(rows: Sequence[Row]) -> int:
    """Of the largest of these as it is sent, about: in characters."""
    texts = ([row.text, *(value for value in row.metadata.values() if isinstance(value, str))] for row in rows)
    return max(sum(map(len, each)) for each in texts)


def _says_the_same(rows: list[Row], known: _Known) -> bool:
    """Whether the text is the one that there is a vector of."""
    return known.rows is not None and known.rows["digest"] == rows[0].metadata["digest"]


def _vectors(
    embedder: Embedder, changes: Sequence[Change], made: dict[Key, list[Row]]
) -> tuple[dict[Key, list[Vector]], list[Rejected]]:
    """The vectors of each record's rows, or why it has none."""
    found = iter(embed_each(embedder, [row.text for each in changes for row in made[each.key]]) if changes else ())
    vectors: dict[Key, list[Vector]] = {}
    rejected = []
    for each in changes:
        of_one = [next(found) for _ in made[each.key]]
        refusal = next((one for one in of_one if isinstance(one, EmbeddingRefusedError)), None)
        if refusal is None:
            vectors[each.key] = [one for one in of_one if not isinstance(one, EmbeddingRefusedError)]
        else:
            rejected.append(Rejected(each.key, each.rev, f"{_REFUSED}: {refusal.reason}"))
    return vectors, rejected


def _write_rows(
    shelf: Shelf,
    changes: Sequence[Change],
    made: dict[Key, list[Row]],
    vectors: dict[Key, list[Vector]],
    known: dict[Key, _Known],
) -> None:
    """Writes rows with their vectors; where none are given, those that there are stay.

    A row that gets another vector is deleted and written anew: Chroma's index, told to move one, loses the way to some
    of those beside it, a third of them where many are alike (measured with chromadb 1.5.9).
    """
    shelf.delete([name for each in changes if each.key in vectors for name in _there(each, known)])
    shelf.put(
        Written(row, vector, known[each.key].rows or {})
        for each in changes
        for row, vector in reversed(list(zip(made[each.key], vectors.get(each.key, repeat(None)), strict=False)))
    )


def _write_bare(
    shelf: Shelf,
    bare: Shelf,
    changes: Sequence[Change],
    made: dict[Key, list[Row]],
    known: dict[Key, _Known],
    *,
    force: bool,
) -> None:
    leaving = [name for each in changes for name in _there(each, known)]
    if force:
        shelf.delete(leaving)
    bare.put(Written(made[each.key][0], _NOWHERE, known[each.key].bare or {}) for each in changes)
    if not force:
        shelf.delete(leaving)


def _there(change: Change, known: dict[Key, _Known]) -> Iterable[str]:
    """The rows that there are of a record; the first last, for it knows how many there are."""
    rows = known[change.key].rows
    count = rows["chunks"] if rows else 0
    return (row_id(change.workspace_id, change.key.id, n) for n in reversed(range(count)))


def refilled(shelves: Shelves, embedder: Embedder, kind: Kind, rows: Iterable[Metadata]) -> list[Rejected]:
    """Writes the records of these first rows, of any workspaces, where there is none or an older state."""
    rejected = []
    batch: list[Change] = []
    for each in (change_of(kind, metadata) for metadata in rows):
        if batch and (batch[-1].workspace_id != each.workspace_id or len(batch) >= _BATCH):
            rejected += applied(shelves, embedder, batch, force=False)
            batch = []
        batch.append(each)
    return rejected + (applied(shelves, embedder, batch, force=False) if batch else [])


def listing(shelves: Shelves, workspace_id: str, kind: Kind) -> list[Stored]:
    """What there is of a kind, by code point. Cost: the metadata of all of it is read."""
    where = {"workspaceId": workspace_id}
    found: dict[str, tuple[int, bool]] = {}
    bare = shelves.bare.listed({"$and": [where, {"kind": kind}]})
    rows = shelves.of[kind].listed({"$and": [where, {"chunk": 0}]})
    for name, rev, there in (*_revs(rows), *_revs(bare)):
        if name not in found or found[name][0] < rev:
            found[name] = (rev, there)
    return sorted(Stored(unquoted(name), rev) for name, (rev, there) in found.items() if there)


def _revs(rows: Iterable[Metadata]) -> Iterator[tuple[str, int, bool]]:
    return ((each["recordId"], each["rev"], not each.get("gone")) for each in rows)


def fetched(shelves: Shelves, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Change]:
    """The records of these ids, without those that are not there."""
    known = _known(shelves, [(workspace_id, Key(kind, each)) for each in ids])
    there = ((key.id, each.what_counts()) for key, each in known.items())
    return {name: change_of(kind, metadata) for name, metadata in there if metadata is not None}
