"""Other places that sessions are read from: copies of the store, a running OpenCode server, and what follows it.

`through.py` reads them in order behind the local store; `capture.py` makes a workspace what a server is, as it changes.
"""

from __future__ import annotations

from nomad_sessions.sources.bringing import SourceMetrics
from nomad_sessions.sources.capture import Capture
from nomad_sessions.sources.mirror import Mirrored
from nomad_sessions.sources.opencode_client import OpenCodeClient, OpenCodeEvent, OpenCodeEvents
from nomad_sessions.sources.opencode_source import OpenCodeSource
from nomad_sessions.sources.places import LocalSource, TargetSource
from nomad_sessions.sources.source import Conversation, Record, Source, Watched
from nomad_sessions.sources.through import Answer, ReadThrough, read_through

__all__ = [
    "Answer",
    "Capture",
    "Conversation",
    "LocalSource",
    "Mirrored",
    "OpenCodeClient",
    "OpenCodeEvent",
    "OpenCodeEvents",
    "OpenCodeSource",
    "ReadThrough",
    "Record",
    "Source",
    "SourceMetrics",
    "TargetSource",
    "Watched",
    "read_through",
]
