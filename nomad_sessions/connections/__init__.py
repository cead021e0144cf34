"""Clients of a session: who is connected to it, alone or with others, and how each keeps up with it.

`presence.py` is who is connected, `connection.py` what a client holds, `following.py` a session and then its changes,
`replica.py` a live copy made of these.
"""

from __future__ import annotations

from nomad_sessions.connections.connection import Connection
from nomad_sessions.connections.presence import ConnectionInfo
from nomad_sessions.connections.replica import SessionReplica

__all__ = ["Connection", "ConnectionInfo", "SessionReplica"]
