"""A session's messages as a snapshot holds them: found by position, read a block at a time."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

from nomad_sessions.storage.codec import decode, encode_name
from nomad_sessions.storage.snapshot import GroupRow, Snapshot, SnapshotChanged
from nomad_sessions.workspace.state import Body, MessageState, Ref, Span

__all__ = ["SnapshotRun", "StoredMessage"]


class StoredMessage(MessageState):
    """A message of a run."""

    __slots__ = ()

    def json(self, before: bytes = b"") -> bytes | None:
        """The snapshot's bytes, while no record says more."""
        run = self.ref.source
        if self.patches or self.copied or self.rev is not None or not isinstance(run, SnapshotRun):
            return None
        return before + run.json(self.ref.offset)


class SnapshotRun:
    """The run of one session. `ids` are its messages in the order in which they lie there."""

    __slots__ = ("_block", "_ends", "_lines", "_positions", "_row", "_snapshot", "ids")

    def __init__(self, snapshot: Snapshot, row: GroupRow, ids: list[str]) -> None:
        self._snapshot = snapshot
        self._row = row
        self.ids = ids
        self._positions: dict[str, int] | None = None
        self._ends = list(accumulate(block.items for block in row.blocks))
        if (self._ends[-1] if self._ends else 0) != len(ids):
            raise SnapshotChanged(f"{snapshot.path}: session {row.id} has another number of messages than its run")
        self._block = -1
        self._lines: list[bytes] = []

    def find(self, message_id: str) -> MessageState | None:
        """The place of one message. The first call costs a dict of all ids."""
        if self._positions is None:
            self._positions = {each: number for number, each in enumerate(self.ids)}
        position = self._positions.get(message_id)
        return None if position is None else StoredMessage(Ref(self, position, 1))

    def line(self, position: int) -> bytes:
        """The line of the message at this position. Reads its block, unless that was the last one read."""
        block = bisect_right(self._ends, position)
        if block != self._block:
            self._lines = self._snapshot.block(self._row, block)
            self._block = block
        return self._lines[position - (self._ends[block - 1] if block else 0)]

    def json(self, position: int) -> bytes:
        """The message at this position as JSON, not decoded."""
        return self.line(position)[len(encode_name(self.ids[position])) + 1 :]

    def record(self, offset: int, length: int) -> dict[str, Any]:
        """The message at position `offset`, wrapped as a journal record wraps it."""
        ((_, body),) = decode(b"{" + self.line(offset) + b"}").items()
        message: Body = body
        return {"message": message}

    def span(self, offset: int, length: int) -> Span | None:
        """A message lies here without a record around it."""
        return None
