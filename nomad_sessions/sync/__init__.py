"""Copies of workspaces elsewhere, kept up to date through the log: targets, the way to them, and comparing with them.

`target.py` is what a target has to be; `outbox.py` brings one workspace's changes to one target, `courier.py` does so
in the background, `Synchronizer` has all targets of a manager.
"""

from __future__ import annotations

from nomad_sessions.sync.memory import MemoryTarget
from nomad_sessions.sync.mongo import MongoTarget
from nomad_sessions.sync.synchronizer import Synchronizer
from nomad_sessions.sync.target import KINDS, Applied, Change, Key, Rejected, Stored, SyncTarget, TargetInfo

__all__ = [
    "KINDS",
    "Applied",
    "Change",
    "Key",
    "MemoryTarget",
    "MongoTarget",
    "Rejected",
    "Stored",
    "SyncTarget",
    "Synchronizer",
    "TargetInfo",
]
