"""A durable place in a workspace's log, and reading on from it: what an outbox and an exchange have in common.

Invariant: the place (`cursors/<name>.json`) moves on only over what `taken` gave, when that was dealt with; one
process holds it at a time. Verified by `tests/unit/test_outbox.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

from nomad_sessions.errors import LockTimeoutError, StoreReadOnlyError
from nomad_sessions.events.cursors import Cursor
from nomad_sessions.events.hub import take_over
from nomad_sessions.sync.host import Host, looked
from nomad_sessions.workspace.log import LogPosition, LogReader, end_of
from nomad_sessions.workspace.state import Body

__all__ = ["Following"]

_RECORDS = 2_000


class Following:
    """One workspace's log, followed under one name. Not for several threads at once."""

    def __init__(self, host: Host, workspace_id: str, name: str) -> None:
        """Takes the place. Raises `LockTimeoutError` while another process has it, and what reading it does."""
        self.workspace_id = workspace_id
        self.folder: str = host._use(workspace_id, lambda workspace: workspace.folder)
        self._host = host
        synced = host._options.durability == "full"
        self._cursor = Cursor(host._fs, self.folder, workspace_id, name, synced=synced)
        self._reader: LogReader | None = None

    @property
    def position(self) -> LogPosition | None:
        """Up to where it was confirmed; None before anything was."""
        return self._cursor.position

    @property
    def lock_path(self) -> str:
        """The file that says who has it; nobody writes into that."""
        return self._cursor.lock_path

    def now(self) -> LogPosition:
        """Where the log ends."""
        return looked(self._host, self.workspace_id, end_of)

    def behind(self) -> int:
        """How many records lie ahead."""
        return self.now().seq - (self.position.seq if self.position is not None else 0)

    def is_before(self, seq: int) -> bool:
        """Whether the place lies before this seq."""
        return self.position is None or self.position.seq < seq

    @contextlib.contextmanager
    def taken(self) -> Iterator[list[Body]]:
        """The next records, some 2,000, or none: dealt with when the block ends, given again where it raises.

        Raises `EventsPrunedError` where the log begins later, or is another. For who has a position.
        """
        try:
            records = self._next()
            yield records
            if records:
                assert self._reader is not None, "they were read"
                self._cursor.advance(self._reader.after, self._reader.mark)
        except BaseException:
            self._drop()
            raise

    def _next(self) -> list[Body]:
        reader = self._reader = self._reader or self._new_reader()
        if reader.lags():  # What another program wrote is in no record yet, and nobody here may ever write another.
            with contextlib.suppress(LockTimeoutError, StoreReadOnlyError):
                self._host._use(self.workspace_id, take_over)
        records: list[Body] = []
        while len(records) < _RECORDS and (entries := reader.read()):
            records += [entry.record for entry in entries]
        return records

    def _new_reader(self) -> LogReader:
        position = self._cursor.position
        assert position is not None, "one begins with a comparison"
        return LogReader(self._host._fs, self.folder, partial(looked, self._host, self.workspace_id), *position)

    def _drop(self) -> None:
        """What was given and is not dealt with is given again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def begin(self, position: LogPosition) -> None:
        """Everything up to there was dealt with, wherever the place was before."""
        self._drop()
        self._cursor.begin_anew()
        self._cursor.advance(*position)

    def forget(self) -> None:
        """Begins as if it were new, durably."""
        self._drop()
        self._cursor.forget()

    def close(self) -> None:
        """Lets go of the place."""
        self._drop()
        self._cursor.close()
