"""Messages that lie in the journal in pieces, put together: a stream of a thousand words is read once, not each time.

What lies somewhere whole is not kept: reading it from the system's own cache costs less than looking here would save.

Invariant: what is given is what the message's state says now. A change of the log reaches the state first, which then
has more patches than are joined: only those are read, so that a message can be shown while it grows. No more than
`limit` bytes are kept; what was not asked for the longest goes first. Verified by `tests/unit/test_cache.py`.
"""

from __future__ import annotations

from collections import OrderedDict

from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.storage.counters import Counters
from nomad_sessions.workspace.state import MessageState

__all__ = ["LIMIT", "BodyCache"]

LIMIT = 16 << 20


class BodyCache:
    """The newest messages that were put together, by their states. Not for several threads at once."""

    def __init__(self, counters: Counters, limit: int = LIMIT) -> None:
        self.bytes = 0
        self._counters = counters
        self._limit = limit
        self._sizes: OrderedDict[MessageState, int] = OrderedDict()

    def json(self, state: MessageState) -> bytes:
        """The message as JSON. Cost: the pieces that have come since it was asked for last, or nothing."""
        kept = state.whole if state in self._sizes else None
        if kept is not None and state.joined == len(state.patches):
            self._counters.body_hits += 1
            self._sizes.move_to_end(state)
            return kept
        self._counters.body_misses += 1
        state.whole = encode(state.grown(decode(kept), state.joined) if kept is not None else state.body())
        state.joined = len(state.patches)
        self.bytes += len(state.whole) - self._sizes.pop(state, 0)
        self._sizes[state] = len(state.whole)
        found = state.whole
        while self.bytes > self._limit:
            oldest, size = self._sizes.popitem(last=False)
            oldest.whole = None
            self.bytes -= size
            self._counters.body_evictions += 1
        return found

    def clear(self) -> None:
        """Forgets everything: the states are no longer those of the view."""
        self._sizes.clear()
        self.bytes = 0
