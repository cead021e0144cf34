"""Which machine a store is, among those that have a workspace in common.

Invariant: a copy of a store, on another machine or as a backup that was put back, is another machine: what the two
wrote under one name would look like one's own, and be written over in silence. Verified by
`tests/unit/test_shadow.py` and `tests/unit/test_two_way_cases.py`.
"""

from __future__ import annotations

import os
import random
import re
import socket

from nomad_sessions.sync.two_way.shadow import Shadow

__all__ = ["machine_of"]


def machine_of(shadow: Shadow, lock: str) -> str:
    """What this store is called: the name of the machine, and who it is on it. `lock` is a file of it that nobody ever
    writes: when that was last changed, which no copy and no backup brings along, tells a store that was put back into
    the same files, or got their numbers again, from the one that was there."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:40] or "machine"
    itself = f"{host} {os.stat(shadow.path).st_ino} {os.stat(lock).st_ctime_ns}"
    name = shadow.told("machine")
    if name is None or shadow.told("self") != itself:
        name = f"{host}-{random.SystemRandom().getrandbits(32):08x}"
        shadow.tell("machine", name)
        shadow.tell("self", itself)
    return name
