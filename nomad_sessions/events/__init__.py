"""Everything that happens in a workspace, to be watched and replayed: its changes, and what somebody recorded.

`subscription.py` is what a subscriber holds, `feed.py` reads the log once for all subscribers of a process, `hub.py`
wakes them; `translation.py` says what a record of the journal is as an event.
"""

from __future__ import annotations

from nomad_sessions.events.filters import EventFilter
from nomad_sessions.events.subscription import Subscription

__all__ = ["EventFilter", "Subscription"]
