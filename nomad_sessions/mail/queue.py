"""Which message is next: an index over the rows of the mailbox, and the choice among them. Pure.

**Order.** The messages of one recipient and one priority are a lane, in the order of `position`, the seq at which they
were sent (their ids decide where another program gave two the same). Of an ordered consumer's lane only the first can
be had: while it is leased, or waits for its next attempt, what follows waits too, so that nothing overtakes within a
lane. (It is what queues with ordered groups do: SQS holds a group while one of it is in flight.) It goes on when the
first is acknowledged, or dead. Who does not need the order (`ordered=False`) gets the first that is free.

**Priority and ageing.** Of the lanes' candidates the one with the highest priority is next; but when the one that has
waited longest has been passed over `PASSES` times, it is. `passed` is counted in its row, so it holds across processes
and restarts, and no clock has a say. So what was sent first of the candidates is handed out at the latest by the
(PASSES + 1)th delivery, and a message that n others of its recipient were sent before at the latest by the
(n + 1) * (PASSES + 1)th, whatever is sent after it. That is where all goes well: each further attempt of one of those n
counts as one more of them; dead ones, and those that wait for their next attempt, are no candidates, and while a lane
waits for its first the deliveries from the other lanes do not count for what is in it.

**Time to live.** A message that has had its time is handed out no more. Who has it then keeps it until the lease ends;
after that it has ended too (`ended`), however the lease did.

Invariant: after any changes the index says what one made afresh from the rows would. What finds a row, or counts rows,
costs no look at all rows. Verified by `tests/unit/test_mail_queue.py`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.mail.timing import Moment, is_over, lease_left, left_of
from nomad_sessions.models import validate
from nomad_sessions.models.mail import PRIORITIES, Mail

__all__ = ["PASSES", "Choice", "Mailbox", "choose", "flaw_of", "place_of"]

PASSES = 7
_URGENT_FIRST = PRIORITIES[::-1]
_WHOLE = frozenset(["id", "recipient", "status", "priority", "position", "attempts", "maxAttempts", "backoff"])
_WHOLE_LEASE = frozenset(["id", "ms", "until", "steady", "holder"])
Row = dict[str, Any]


class Lane:
    """The messages of one recipient and priority that are to be delivered, in their order."""

    __slots__ = ("_rows", "_sorted", "leased")

    def __init__(self) -> None:
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._sorted = True
        self.leased = 0

    def put(self, row: Row) -> None:
        """Adds a row, or replaces it."""
        before = self._rows.get(row["id"])
        if before is None and self._rows:
            last = next(reversed(self._rows.values()))
            self._sorted = self._sorted and place_of(last) < place_of(row)
        self.leased += (row["status"] == "leased") - (before is not None and before["status"] == "leased")
        self._rows[row["id"]] = row

    def drop(self, row: Row) -> None:
        """Takes a row out."""
        del self._rows[row["id"]]
        self.leased -= row["status"] == "leased"

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """The rows in their order."""
        if not self._sorted:  # Only where another program wrote rows, or an index is made afresh.
            self._rows = OrderedDict(sorted(self._rows.items(), key=lambda item: place_of(item[1])))
            self._sorted = True
        return iter(self._rows.values())


class Mailbox:
    """The index over all rows of a workspace's mailbox. Rows that are no messages as we write them are left alone, and
    counted."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows: dict[str, Row] = {}
        self.lanes: dict[str, dict[str, Lane]] = {}
        """By recipient and priority; without those that are empty."""
        self.dead: OrderedDict[str, Row] = OrderedDict()
        self.settled: OrderedDict[str, Row] = OrderedDict()
        """What is gone but for its key, the oldest first."""
        self.unreadable: dict[str, Row] = {}
        """What another program put there, by id."""
        self._keys: dict[tuple[str, str], str] = {}
        self._leases: dict[str, str] = {}
        self._ends: list[tuple[int, str]] = []
        for row_id, row in sorted(rows.items(), key=lambda item: item[1].get("rev") or 0):
            self.changed(row_id, row)

    def changed(self, row_id: str, row: Row | None) -> None:
        """A row is so from now on, or gone."""
        before = self._rows.pop(row_id, None)
        self.unreadable.pop(row_id, None)
        after = row if row is not None and flaw_of(row_id, row) is None else None
        if row is not None and after is None:
            self.unreadable[row_id] = row
        if before is not None:
            self._forget(before, stays=after is not None and _same_place(before, after))
        if after is not None:
            self._rows[row_id] = after
            self._note(after)

    def get(self, mail_id: str) -> Row | None:
        """A message's row."""
        return self._rows.get(mail_id)

    def keyed(self, recipient: str, key: str) -> Row | None:
        """The message that was sent with this key, as far back as keys are remembered."""
        return self._rows.get(self._keys.get((recipient, key), ""))

    def leased(self, lease_id: str) -> Row | None:
        """The message that this lease is of, if it still is."""
        return self._rows.get(self._leases.get(lease_id, ""))

    def ended(self, moment: Moment, most: int) -> list[Row]:
        """Messages that have had their time and that nobody has (any more), the first first."""
        found: list[Row] = []
        for until, row_id in self._ends:
            if until > moment.now or len(found) == most:
                break
            row = self._rows[row_id]
            if _has_ended(row, moment):
                found.append(row)
        return found

    def all(self) -> Iterator[Row]:
        """Every row, in no order."""
        return iter(self._rows.values())

    def _note(self, row: Row) -> None:
        status = row["status"]
        if status in ("queued", "leased"):
            lanes = self.lanes.setdefault(row["recipient"], {})
            lanes.setdefault(row["priority"], Lane()).put(row)
            if row.get("expiresAt") is not None:
                insort(self._ends, (row["expiresAt"], row["id"]))
        else:
            (self.dead if status == "dead" else self.settled)[row["id"]] = row
        if row.get("key") is not None:
            self._keys[row["recipient"], row["key"]] = row["id"]
        if status == "leased":
            self._leases[row["lease"]["id"]] = row["id"]

    def _forget(self, row: Row, *, stays: bool) -> None:
        """Takes a row out of everything; where it `stays` in its lane it is replaced there, in its place."""
        status = row["status"]
        if status in ("queued", "leased"):
            lanes = self.lanes[row["recipient"]]
            if not stays:
                lanes[row["priority"]].drop(row)
                if not lanes[row["priority"]]:
                    del lanes[row["priority"]]
                if not lanes:
                    del self.lanes[row["recipient"]]
            if row.get("expiresAt") is not None:
                del self._ends[bisect_left(self._ends, (row["expiresAt"], row["id"]))]
        else:
            del (self.dead if status == "dead" else self.settled)[row["id"]]
        if row.get("key") is not None:
            self._keys.pop((row["recipient"], row["key"]), None)
        if status == "leased":
            self._leases.pop(row["lease"]["id"], None)


def _same_place(before: Row, after: Row) -> bool:
    """Whether a row stays where it is in its lane."""
    if before["status"] not in ("queued", "leased") or after["status"] not in ("queued", "leased"):
        return False
    return all(before[name] == after[name] for name in ("recipient", "priority", "position"))


def flaw_of(row_id: str, row: object) -> str | None:
    """Why a row is no message as we write it; None where it is one. What another program put there is not handed out,
    and not lost."""
    if not isinstance(row, dict):
        return "is no object"
    try:
        mail = validate(Mail, row)
    except InvalidInputError as error:
        return f"{error.field}: {error.reason}"
    missing = sorted(_WHOLE - row.keys())
    if missing:
        return f"has no {', '.join(missing)}"
    if mail.id != row_id:
        return "has another id"
    if mail.status != "leased":
        return None if mail.lease is None else f"is {mail.status}, and has a lease"
    whole = mail.lease is not None and row["lease"].keys() >= _WHOLE_LEASE
    return None if whole else "is leased, and has no whole lease"


class Choice(NamedTuple):
    """What is next for a recipient.

    `row` is what to hand out; `passed` what has waited longer, and is passed over; `worn` those whose last attempt ran
    out. Of `doubtful` holders it has to be known whether they live before it can be said more. `again` is in how many
    ms something may have changed, None when not by time alone.
    """

    row: Row | None
    passed: Row | None
    worn: list[Row]
    doubtful: frozenset[str]
    again: int | None


def choose(box: Mailbox, recipient: str, moment: Moment, *, ordered: bool) -> Choice:
    """What is next for a recipient, now."""
    found: list[Row] = []
    worn: list[Row] = []
    doubtful: set[str] = set()
    again: int | None = None
    lanes = box.lanes.get(recipient, {})
    for lane in (lanes[priority] for priority in _URGENT_FIRST if priority in lanes):
        for row in lane:
            if _has_ended(row, moment):
                continue  # What writes to the mailbox takes it away.
            left = _left(row, moment)
            if left == 0 and row["status"] == "leased" and row["attempts"] >= row["maxAttempts"]:
                worn.append(row)
                continue
            if left == 0:
                found.append(row)
                break
            if left is None:
                doubtful.add(row["lease"]["holder"])
            else:
                again = left if again is None else min(again, left)
            if ordered:
                break
    if not found:
        return Choice(None, None, worn, frozenset(doubtful), again)
    first, oldest = found[0], min(found, key=place_of)
    if oldest.get("passed", 0) >= PASSES:
        first = oldest
    return Choice(first, None if first is oldest else oldest, worn, frozenset(doubtful), again)


def place_of(row: Row) -> tuple[int, str]:
    """The place of a message in the order of sending, which it shares with no other."""
    return row["position"], row["id"]


def _has_ended(row: Row, moment: Moment) -> bool:
    """Whether a message has had its time, and nobody has it: no more attempt is due, nor a lease to be waited for."""
    if not is_over(row.get("expiresAt"), moment.now):
        return False
    return row["status"] == "queued" or lease_left(row["lease"], moment) == 0


def _left(row: Row, moment: Moment) -> int | None:
    """In how many ms a row can be had, 0 for now; None where that hangs on whether its holder lives."""
    if row["status"] == "leased":
        return lease_left(row["lease"], moment)
    if row.get("nextAttemptAt") is None:
        return 0
    return left_of(row["nextAttemptAt"], row.get("retryDelay", 0), moment.now)
