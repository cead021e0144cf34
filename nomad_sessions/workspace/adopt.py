"""Taking in a `sessions.json` that another program wrote: for a reader in memory, for a writer in the journal.

Invariant: both come from the same merge of the same states, so a reader sees what the next writer will make permanent.
The file that was merged, and what the merge took out of ours, are in `quarantine/` before it counts. Verified by
`tests/processes/test_node_writer.py` and `tests/unit/test_foreign.py`.

The setting `merged` remembers what was merged: the digest of the last file, and for each `seq` that writers had seen
the name of the last file of theirs in quarantine. It is the base of their next: what differs there is their doing. A
program that rewrites the file after each change would fill the disk with its copies: those of them all of which is in
the store are called so (`_WHOLE`), and when their writer has written a later one they count as spent, and only the
newest `SPENT` of these stay. Nothing else is ever removed. Verified by `tests/unit/test_merged_files.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from nomad_sessions.errors import SnapshotUnreadableError
from nomad_sessions.storage import quarantine
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.snapshot import SnapshotChanged
from nomad_sessions.workspace.foreign import Content, ForeignFile, content_of, normalise
from nomad_sessions.workspace.merge import Merged, merge
from nomad_sessions.workspace.recovery import PREVIOUS, SNAPSHOT, parse, past
from nomad_sessions.workspace.state import WORKSPACE, Body, Ref, Span
from nomad_sessions.workspace.taken import took_all
from nomad_sessions.workspace.view import View

__all__ = ["SPENT", "Given", "absorb_foreign", "forget_spent", "is_merged", "merge_foreign", "take"]

_LOG = logging.getLogger("nomad_sessions")
SPENT = 5
_WRITERS = 4
_WHOLE = f"{SNAPSHOT}.merged-"
_IN_PART = f"{SNAPSHOT}.foreign-"


class _Outcome(NamedTuple):
    """A merge, the sentences on what is wrong with the file, what the file says, and the states that it was merged
    with."""

    merged: Merged
    problems: list[str]
    theirs: Content
    known: list[Content]


class Given:
    """A record that lies nowhere yet."""

    def __init__(self, record: Body) -> None:
        self._record = encode(record)

    def record(self, offset: int, length: int) -> dict[str, Any]:
        """The record, a fresh copy each time."""
        value: Body = decode(self._record)
        return value

    def span(self, offset: int, length: int) -> Span | None:
        """The same as JSON."""
        return self._record, 0, len(self._record)


def merge_foreign(fs: FileSystem, folder: str, view: View, foreign: ForeignFile) -> list[Body]:
    """The changes that bring the foreign file's into ours, with the mark that it has been merged; the file, and what
    the merge displaces, are in quarantine on return. Nothing where it had been merged before. Under the lock."""
    with _previous_is_read(folder):
        if is_merged(view, foreign):
            return []
        merged, problems, theirs, known = _merge(fs, folder, view, foreign)
    for problem in problems:
        _LOG.warning("%s/%s: %s", folder, SNAPSHOT, problem)
    if merged.displaced:
        kept = quarantine.keep(fs, folder, f"merge-{view.seq}.json", encode(merged.displaced))
        _LOG.warning(
            "%s: merging another program's file took out %d records, kept in %s", folder, len(merged.displaced), kept
        )
    # A name that no file had before, not even one that was removed: what a name says of its file is for good.
    kind = _WHOLE if took_all(foreign, theirs, merged, known) else _IN_PART
    wanted = f"{kind}{view.seq}-{foreign.digest[:8]}"
    name = os.path.basename(quarantine.keep(fs, folder, wanted, foreign.raw))
    files = {key: value for key, value in _files(view).items() if key != str(foreign.seq)}
    files = dict([*files.items(), (str(foreign.seq), name)][-_WRITERS:])
    mark = {"merged": {"digest": foreign.digest, "files": files, "spent": _spent(fs, folder, view, files)}}
    return [*merged.changes, {"type": "workspace.configured", "sessionId": WORKSPACE, "settings": mark}]


def _spent(fs: FileSystem, folder: str, view: View, files: dict[str, str]) -> list[str]:
    """The files in quarantine that are no base of a merge any more, and need not be kept; the oldest first."""
    there = set(fs.listdir(f"{folder}/quarantine"))
    left = [name for name in _files(view).values() if name not in files.values()]
    return [name for name in [*_mark(view).get("spent", ()), *left] if name in there and name.startswith(_WHOLE)]


def forget_spent(fs: FileSystem, folder: str, view: View) -> None:
    """Removes all but the newest `SPENT` of the files that need not be kept. Under the lock, and once what `view` says
    is durable: else the next process could take one of them for the base of a merge that is gone."""
    for name in _mark(view).get("spent", ())[:-SPENT]:
        if name.startswith(_WHOLE) and "/" not in name:
            quarantine.drop(fs, folder, name)


def absorb_foreign(fs: FileSystem, folder: str, view: View, foreign: ForeignFile) -> bool:
    """Applies the merge to a view only; whether there was anything to apply. Changes no file."""
    with _previous_is_read(folder):
        if is_merged(view, foreign):
            return False
        changes = _merge(fs, folder, view, foreign).merged.changes
        take(view, changes)
    return bool(changes)


def take(view: View, changes: list[Body]) -> None:
    """Applies changes that lie nowhere yet to a view only."""
    for change in changes:
        record = {"seq": view.seq + 1, "id": view.last_id, "ts": 0, "durable": 0, **change}
        # Loaded before: what is loaded later is built from the files, and this change is in none.
        view.session(record["sessionId"])
        view.take(record, Ref(Given(record), 0, 0))


@contextlib.contextmanager
def _previous_is_read(folder: str) -> Iterator[None]:
    """Beside another program's file, what is ours starts from `.prev`: that does not match its index."""
    try:
        yield
    except SnapshotChanged as error:
        raise SnapshotUnreadableError(path=f"{folder}/{PREVIOUS}", reason=str(error)) from error


def is_merged(view: View, foreign: ForeignFile) -> bool:
    """Whether exactly this file was the last to be merged."""
    return bool(_mark(view).get("digest") == foreign.digest)


def _mark(view: View) -> Body:
    mark = view.settings().get("merged")
    return mark if isinstance(mark, dict) else {}


def _files(view: View) -> dict[str, str]:
    files: dict[str, str] = _mark(view).get("files") or {}
    return files


def _merge(fs: FileSystem, folder: str, view: View, foreign: ForeignFile) -> _Outcome:
    theirs, problems = normalise(foreign.data)
    # Who has seen more than there is has seen another store (one that was put back, say), and nothing of this one.
    seq = foreign.seq if foreign.seq is not None and foreign.seq <= view.seq else None
    seen = past(fs, folder, seq) if seq is not None else None
    if seen is not None and foreign.last_id is not None and seen.last_id != foreign.last_id:
        seq, seen = None, None  # Theirs was the last change of another store.
    stranger = foreign.stranger or (seq is None and foreign.seq is not None)
    theirs = theirs._replace(partial=foreign.in_place, stranger=stranger)
    base: Content | None = None
    with contextlib.suppress(SnapshotChanged):  # Damaged: as where it cannot be rebuilt.
        base = content_of(seen) if seen is not None else None
    ours = content_of(view)
    last = _last(fs, folder, view, foreign.seq)
    merged = merge(base, ours, theirs, seq=seq, deleted=view.tombstones(), last=last)
    return _Outcome(merged, problems, theirs, [ours, *(each for each in (base, last) if each is not None)])


def _last(fs: FileSystem, folder: str, view: View, seq: int | None) -> Content | None:
    """What a writer that had seen `seq` wrote the last time, as far as it is still in quarantine."""
    name = _files(view).get(str(seq))
    if name is None or "/" in name:
        return None
    try:
        fd = fs.open(f"{folder}/quarantine/{name}", os.O_RDONLY)
    except OSError:
        return None
    try:
        stat = fs.fstat(fd)
        found = parse(fs.pread(fd, stat.size, 0), stat)
    finally:
        fs.close(fd)
    return normalise(found.data)[0] if isinstance(found, ForeignFile) else None
