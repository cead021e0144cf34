"""Other places that sessions are read from: a running OpenCode server above all, and what follows it into the store."""

from __future__ import annotations

from nomad_sessions.sources.capture import Capture
from nomad_sessions.sources.mirror import Mirrored
from nomad_sessions.sources.opencode_client import OpenCodeClient, OpenCodeEvent, OpenCodeEvents

__all__ = [
    "Capture",
    "Mirrored",
    "OpenCodeClient",
    "OpenCodeEvent",
    "OpenCodeEvents",
]
