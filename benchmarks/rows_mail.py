"""The mailbox beside a queue made by hand on sqlite3: send, lease and acknowledge, each of them synced.

The baseline does what such a table does: an index on what is next, one `BEGIN IMMEDIATE` transaction a step, WAL with
`synchronous=FULL`. It has no priorities that age, no retries and no events.
"""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.bars import compared
from benchmarks.model import Context, Row
from benchmarks.timing import Side, interleave
from benchmarks.work import text_of
from nomad_sessions import NativeSessionManager

FEW, MANY, QUICK_MANY = 100, 10_000, 2_000
_WORKSPACE, _RECIPIENTS = "mail", 20


class Ours:
    """A mailbox that holds so many messages, for twenty recipients, while others come and go."""

    def __init__(self, folder: Path, held: int) -> None:
        with NativeSessionManager(folder, durability="os") as filling:
            for number in range(held):
                filling.send(_WORKSPACE, f"agent {number % _RECIPIENTS}", text_of(number), priority="low")
        self.manager = NativeSessionManager(folder)
        self._number = itertools.count()

    def step(self) -> None:
        """Sends one, leases it, acknowledges it."""
        number = next(self._number)
        recipient = f"agent {number % _RECIPIENTS}"
        self.manager.send(_WORKSPACE, recipient, text_of(number), priority="high")
        mail = self.manager.receive(_WORKSPACE, recipient)
        assert mail is not None
        assert mail.lease is not None
        self.manager.ack(_WORKSPACE, mail.lease.id)


class Table:
    """The same on sqlite3."""

    def __init__(self, file: Path, held: int) -> None:
        self.database = sqlite3.connect(file, isolation_level=None)
        self.database.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE mail (id INTEGER PRIMARY KEY, recipient TEXT, priority INTEGER, lease INTEGER, body TEXT);"
            "CREATE INDEX next ON mail (recipient, lease, priority DESC, id);"
        )
        rows = ((f"agent {number % _RECIPIENTS}", text_of(number)) for number in range(held))
        self.database.execute("BEGIN")
        self.database.executemany("INSERT INTO mail (recipient, priority, lease, body) VALUES (?, 0, 0, ?)", rows)
        self.database.execute("COMMIT")
        self._number = itertools.count()

    def step(self) -> None:
        """Sends one, leases it, acknowledges it."""
        number = next(self._number)
        recipient, do = f"agent {number % _RECIPIENTS}", self.database.execute
        do("INSERT INTO mail (recipient, priority, lease, body) VALUES (?, 2, 0, ?)", (recipient, text_of(number)))
        do("BEGIN IMMEDIATE")
        first = "SELECT id, body FROM mail WHERE recipient = ? AND lease = 0 ORDER BY priority DESC, id LIMIT 1"
        found = do(first, (recipient,)).fetchone()
        do("UPDATE mail SET lease = 1 WHERE id = ?", (found[0],))
        do("COMMIT")
        do("DELETE FROM mail WHERE id = ?", (found[0],))


def run(context: Context) -> list[Row]:
    """A message's way at 10,000 held ones beside the same at 100, and beside the table's."""
    many = context.pick(MANY, QUICK_MANY)
    folder = context.make("mail")
    few, full = Ours(folder / "few", FEW), Ours(folder / "many", many)
    with few.manager, full.manager, closing((table := Table(folder / "queue.sqlite", many)).database):
        sides = [Side("few", few.step), Side("many", full.step), Side("table", table.step)]
        for side in sides:
            side.call()
        samples = interleave(sides, blocks=context.pick(12, 5), per_block=context.pick(40, 20))
    what = f"send, receive and ack one message, {many:,} held"
    return [
        compared("mail-cycle", what, samples["many"], samples["table"], baseline=" sqlite3, three transactions"),
        compared("mail-growth", what, samples["many"], samples["few"], baseline=f" ours, {FEW} held"),
    ]
