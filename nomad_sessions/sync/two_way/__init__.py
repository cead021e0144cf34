"""Workspaces that several machines have in common: `versions.py` is what they agree on, `joining.py` how, `place.py`
where; `exchange.py` brings one workspace there and back. `docs/sync-machines.md` says what may be relied on.
"""

from __future__ import annotations

from nomad_sessions.sync.two_way.memory_place import MemoryPlace

__all__ = ["MemoryPlace"]
