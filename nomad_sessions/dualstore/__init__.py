"""The dual store of the original, its keys and calls, on the local store and copies of it elsewhere.

`docs/dualstore.md` says of each of its functions what became of it.
"""

from __future__ import annotations

from nomad_sessions.dualstore.copies import TargetReport
from nomad_sessions.dualstore.entries import Entry
from nomad_sessions.dualstore.manager import Consistency, DualStoreManager, Relevant, Scored

__all__ = ["Consistency", "DualStoreManager", "Entry", "Relevant", "Scored", "TargetReport"]
