"""How long folded journal segments are kept for replay.

Invariant: no segment goes that holds a record above `.prev`'s seq, nor any while there is no `.prev`: from it and them
our state can always be rebuilt without `sessions.json`. What somebody recorded does not go with its segment.
"""

from __future__ import annotations

import logging

from nomad_sessions.errors import CorruptionError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.segment import name_of
from nomad_sessions.storage.snapshot import Snapshot
from nomad_sessions.workspace.archive import carry_over
from nomad_sessions.workspace.recovery import PREVIOUS
from nomad_sessions.workspace.view import View

__all__ = ["BUDGET_BYTES", "BUDGET_DAYS", "prune"]

_LOG = logging.getLogger("nomad_sessions")
BUDGET_BYTES = 64 << 20
BUDGET_DAYS = 30


def prune(fs: FileSystem, folder: str, view: View, now: int) -> list[int]:
    """Removes sealed segments that are folded and beyond the budget; returns their first seqs. Under the lock.

    The budget is the workspace's setting `retention: {bytes, days}`, by default the larger of 64 MiB and the snapshot's
    size, and 30 days; a segment goes when it is beyond either.
    """
    previous = Snapshot.open(fs, f"{folder}/{PREVIOUS}")
    if previous is None or view.base is None:
        return []
    setting = view.workspace().settings.get("retention") or {}
    budget = setting.get("bytes", max(BUDGET_BYTES, view.base.stat.size))
    oldest = now - int(setting.get("days", BUDGET_DAYS) * 86_400_000)
    firsts = view.journal.first_seqs()
    keep_from = 0
    kept = 0
    for first, successor in zip(reversed(firsts[:-1]), reversed(firsts[1:]), strict=True):
        stat = fs.stat(f"{view.journal.folder}/{name_of(first)}")
        if stat is None:
            continue
        kept += stat.size
        if kept > budget or stat.mtime_ns // 1_000_000 < oldest:
            keep_from = successor
            break
    keep_from = min(keep_from, previous.seq + 1)
    gone = view.journal.below(keep_from)
    try:
        carry_over(fs, folder, map(view.journal.segment, gone))
    except CorruptionError as error:
        _LOG.warning("%s: kept, for what was recorded in it cannot be read: %s", view.journal.folder, error)
        return []
    return view.journal.prune(keep_from)
