"""Taking in a `sessions.json` that another program wrote: for a reader in memory, for a writer in the journal.

Invariant: both come from the same merge of the same three states, so a reader sees what the next writer will make
permanent. What the merge takes out is in `quarantine/` before it is gone. Verified by `tests/processes/test_foreign.py`.
"""

from __future__ import annotations

import logging
from typing import Any

from nomad_sessions.errors import SnapshotUnreadableError
from nomad_sessions.storage import quarantine
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.snapshot import SnapshotChanged
from nomad_sessions.workspace.foreign import ForeignFile, content_of, normalise
from nomad_sessions.workspace.merge import Merged, merge
from nomad_sessions.workspace.recovery import PREVIOUS, past
from nomad_sessions.workspace.state import WORKSPACE, Body, Ref
from nomad_sessions.workspace.view import View

__all__ = ["absorb_foreign", "merge_foreign"]

_LOG = logging.getLogger("nomad_sessions")


class _Given:
    """A record that lies nowhere yet."""

    def __init__(self, record: Body) -> None:
        self._record = encode(record)

    def record(self, offset: int, length: int) -> dict[str, Any]:
        value: Body = decode(self._record)
        return value


def merge_foreign(fs: FileSystem, folder: str, view: View, foreign: ForeignFile) -> list[Body]:
    """The changes that bring the foreign file's into ours, with the mark that it has been merged; what they displace
    is in quarantine on return. Only the mark when it had been merged before. Under the lock."""
    merged, problems = _merge(fs, folder, view, foreign)
    for problem in problems:
        _LOG.warning("%s/sessions.json: %s", folder, problem)
    if merged.displaced:
        kept = quarantine.keep(fs, folder, f"merge-{view.seq}.json", encode(merged.displaced))
        _LOG.warning("%s: merging another program's file took out %d records, kept in %s", folder, len(merged.displaced), kept)
    mark = {"type": "workspace.configured", "sessionId": WORKSPACE, "settings": {"merged": foreign.digest}}
    return [*merged.changes, mark]


def absorb_foreign(fs: FileSystem, folder: str, view: View, foreign: ForeignFile) -> bool:
    """Applies the merge to a view only; whether there was anything to apply. Changes no file."""
    merged, _ = _merge(fs, folder, view, foreign)
    for change in merged.changes:
        record = {"seq": view.seq + 1, "id": view.last_id, "ts": 0, "durable": 0, **change}
        view.take(record, Ref(_Given(record), 0, 0))
    return bool(merged.changes)


def _merge(fs: FileSystem, folder: str, view: View, foreign: ForeignFile) -> tuple[Merged, list[str]]:
    if view.workspace().settings.get("merged") == foreign.digest:
        return Merged([], []), []
    theirs, problems = normalise(foreign.data)
    try:
        seen = past(fs, folder, foreign.seq) if foreign.seq is not None else None
        base = content_of(seen) if seen is not None else None
        ours = content_of(view)
    except SnapshotChanged as error:
        raise SnapshotUnreadableError(path=f"{folder}/{PREVIOUS}", reason=str(error)) from error
    return merge(base, ours, theirs, seq=foreign.seq, deleted=view.tombstones()), problems
