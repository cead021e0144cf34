"""What each call on the mailbox changes: pure decisions against a view, as `operations/` has them for sessions.

Invariant: whatever is decided is decided under the workspace's lock against every change before it, so that of two
consumers only one gets a lease; a call that raises changes nothing. Verified by `tests/unit/test_mail.py`,
`tests/unit/test_mail_expiry.py` and `tests/processes/test_mail_processes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from nomad_sessions.errors import InvalidInputError, LeaseNotFoundError, MailNotFoundError, NoRouteError
from nomad_sessions.mail.queue import Choice, Mailbox, Row, choose
from nomad_sessions.mail.routing import described, explain, recipients_of, stored_rules
from nomad_sessions.mail.timing import Moment, backoff, is_over
from nomad_sessions.models import validate
from nomad_sessions.models.mail import Mail
from nomad_sessions.operations.reading import Looking, Stamping
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.rows import indexed
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.store import Operation

__all__ = [
    "KEYS",
    "Consumer",
    "Taken",
    "ack",
    "box_of",
    "discard",
    "extend",
    "leased_row",
    "mail_model",
    "nack",
    "publish",
    "requeue",
    "send",
    "take",
]

KEYS = 1_000
"""How many acknowledged or expired messages are remembered by their keys, in a workspace: the newest."""
_SWEPT = 1_000
_PROGRESS = ("lease", "nextAttemptAt", "retryDelay", "passed")


class MailView(Looking, Protocol):
    """What these operations ask beside what all do."""

    seq: int

    def settings(self) -> Body:
        """The workspace's own settings."""
        ...


class Consumer(NamedTuple):
    """Who asks: the name that says whether it lives, the machine's count of ms, which other holders live."""

    holder: str
    steady: Callable[[], int]
    alive: Mapping[str, bool]


class Taken(NamedTuple):
    """What asking for a message came to; see `Choice`."""

    mail: Mail | None
    doubtful: frozenset[str]
    again: int | None


def box_of(view: Looking) -> Mailbox:
    """The index over the mailbox. Raises `InvalidInputError` where another program keeps something else there."""
    state = view.session(WORKSPACE)
    box = indexed(state.fields, "mailbox", Mailbox) if state is not None else Mailbox({})
    if box is None:
        reason = "sessions.json has something else under this key, of another program: no mail can be kept here"
        raise InvalidInputError(field="mailbox", value=None, reason=reason)
    return box


def mail_model(row: Row) -> Mail:
    """A message as a model of its own."""
    return validate(Mail, decode(encode(row)))


def send(fields: Body, recipient: str, steady: Callable[[], int]) -> Operation[Mail]:
    """Sends to one recipient; `fields` are those of a row that do not depend on when and to whom, `steady` is the
    machine's count of ms."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], Mail]]:
        changes, ids = _sent(view, stamp, fields, [recipient], steady())
        return changes, lambda after: _found(after, ids[0])

    return operation


def publish(fields: Body, steady: Callable[[], int]) -> Operation[list[Mail]]:
    """Sends to whom the rules say, as they are at this moment. Otherwise as `send`."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], list[Mail]]]:
        rules = stored_rules(view.settings())
        recipients = recipients_of(explain(rules, **described(fields)))
        if not recipients:
            raise NoRouteError(type=fields["type"], rules=len(rules))
        changes, ids = _sent(view, stamp, fields, recipients, steady())
        return changes, lambda after: [_found(after, each) for each in ids]

    return operation


def take(recipient: str, ms: int, consumer: Consumer, *, ordered: bool) -> Operation[Taken]:
    """Leases what is next for `ms`. Where it hangs on whether a holder lives nothing is changed, and it is said."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], Taken]]:
        box = box_of(view)
        moment = Moment(stamp.now, consumer.steady(), consumer.alive)
        choice = choose(box, recipient, moment, ordered=ordered)
        if choice.doubtful:
            return [], lambda after: Taken(None, choice.doubtful, choice.again)
        changes = _swept(box, moment)
        changes += [_dead(row, stamp.now, "max_attempts", "the lease ran out") for row in choice.worn]
        if choice.row is None:
            return changes, lambda after: Taken(None, frozenset(), choice.again)
        lease = _lease(stamp.id(), ms, stamp.now, consumer.holder, moment.steady)
        changes += _handed_out(choice, choice.row, lease, stamp.now)
        row_id: str = choice.row["id"]
        return changes, lambda after: Taken(_found(after, row_id), frozenset(), None)

    return operation


def ack(lease_id: str) -> Operation[None]:
    """The message has been dealt with: it goes, but for its key."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], None]]:
        box = box_of(view)
        row = leased_row(box, lease_id)
        return [*_gone(row, "acked", stamp.now), *_forgotten(box, row.get("key") is not None)], lambda after: None

    return operation


def nack(lease_id: str, delay: int | None, error: str | None, *, retry: bool) -> Operation[Mail]:
    """Gives a message back, for another attempt after a while, or for the dead letters. One that has had its time goes
    where such go."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], Mail]]:
        box = box_of(view)
        row = leased_row(box, lease_id)
        if is_over(row.get("expiresAt"), stamp.now):
            told = row if error is None else {**row, "error": error}
            return _taken_away(box, [told], stamp.now), lambda after: _expired_model(after, told)
        if not retry or row["attempts"] >= row["maxAttempts"]:
            change = _dead(row, stamp.now, "max_attempts" if retry else "rejected", error)
        else:
            wait = backoff(row["backoff"], row["attempts"], lease_id) if delay is None else delay
            again: Body = {"status": "queued", "nextAttemptAt": stamp.now + wait, "retryDelay": wait}
            change = _updated(row, stamp.now, again | ({} if error is None else {"error": error}), ["lease"])
        return [change], lambda after: _found(after, row["id"])

    return operation


def extend(lease_id: str, ms: int, consumer: Consumer) -> Operation[Mail]:
    """Gives a lease `ms` from now, in the name of who asks."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], Mail]]:
        row = leased_row(box_of(view), lease_id)
        lease = _lease(lease_id, ms, stamp.now, consumer.holder, consumer.steady())
        return [_updated(row, stamp.now, {"lease": lease})], lambda after: _found(after, row["id"])

    return operation


def requeue(mail_id: str) -> Operation[Mail]:
    """Gives a dead letter another life, at the end of its lane."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], Mail]]:
        row = box_of(view).get(mail_id)
        if row is None or row["status"] != "dead":
            hint = None if row is None else f"it is {row['status']}, and not among the dead letters"
            raise MailNotFoundError(mail_id=mail_id, hint=hint)
        anew = {"status": "queued", "attempts": 0, "position": view.seq + 1}
        change = _updated(row, stamp.now, anew, ["reason", "error", "expiresAt"])
        return [change], lambda after: _found(after, mail_id)

    return operation


def discard(mail_id: str) -> Operation[None]:
    """Takes a message away that nobody has: one that waits, or a dead letter."""

    def operation(view: MailView, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], None]]:
        row = box_of(view).get(mail_id)
        if row is None or row["status"] not in ("queued", "dead"):
            hint = None if row is None else f"it is {row['status']}: what waits or is dead can be discarded"
            raise MailNotFoundError(mail_id=mail_id, hint=hint)
        return [_deleted(row, "discarded")], lambda after: None

    return operation


def _sent(
    view: MailView, stamp: Stamping, fields: Body, recipients: list[str], steady: int
) -> tuple[list[Body], list[str]]:
    """The changes that send to each of these, but for those that have a message with this key; the messages' ids."""
    box = box_of(view)
    key = fields.get("key")
    known = {each: row["id"] for each in recipients if key is not None and (row := box.keyed(each, key)) is not None}
    # What is swept may be one of those, which the caller is about to be given.
    changes = [] if known else _swept(box, Moment(stamp.now, steady, {}))
    ids = []
    for recipient in recipients:
        if recipient not in known:
            row = _new_row(stamp, fields, recipient, view.seq + len(changes) + 1)
            known[recipient] = row["id"]
            changes.append({**_change("created", row), "row": row})
        ids.append(known[recipient])
    return changes, ids


def _new_row(stamp: Stamping, fields: Body, recipient: str, position: int) -> Row:
    row: Row = {"id": stamp.id(), "recipient": recipient, **fields, "status": "queued", "position": position}
    ttl = row.pop("ttl", None)
    if ttl is not None:
        row["expiresAt"] = stamp.now + ttl
    return row | {"attempts": 0, "createdAt": stamp.now, "updatedAt": stamp.now}


def _handed_out(choice: Choice, row: Row, lease: Body, now: int) -> list[Body]:
    leased = {"status": "leased", "lease": lease, "attempts": row["attempts"] + 1}
    changes = [_updated(row, now, leased, _PROGRESS[1:])]
    if choice.passed is not None:
        changes.append(_updated(choice.passed, now, {"passed": choice.passed.get("passed", 0) + 1}))
    return changes


def _lease(lease_id: str, ms: int, now: int, holder: str, steady: int) -> Body:
    return {"id": lease_id, "ms": ms, "until": now + ms, "steady": steady + ms, "holder": holder}


def _swept(box: Mailbox, moment: Moment) -> list[Body]:
    """What takes away the messages that have had their time."""
    return _taken_away(box, box.ended(moment, _SWEPT), moment.now)


def _taken_away(box: Mailbox, rows: list[Row], now: int) -> list[Body]:
    """What becomes of messages that have had their time: dead letters, or as good as nothing."""
    changes: list[Body] = []
    keyed = 0
    for row in rows:
        if row.get("onExpiry") == "drop":
            changes += _gone(row, "expired", now)
            keyed += row.get("key") is not None
        else:
            changes.append(_dead(row, now, "expired", row.get("error")))
    return changes + _forgotten(box, keyed)


def _dead(row: Row, now: int, reason: str, error: str | None) -> Body:
    told = {"status": "dead", "reason": reason} | ({} if error is None else {"error": error})
    return _updated(row, now, told, _PROGRESS)


def _gone(row: Row, status: str, now: int) -> list[Body]:
    """A message has had its time: nothing stays, but what a repeated send with its key is told."""
    if row.get("key") is None:
        return [_deleted(row, status)]
    return [_updated(row, now, {"status": status}, [*_PROGRESS, "content", "metadata", "error", "expiresAt"])]


def _forgotten(box: Mailbox, more: int) -> list[Body]:
    """What keeps the number of those remembered by their keys in bounds, when `more` come."""
    surplus = len(box.settled) + more - KEYS if more else 0
    return [_deleted(row, row["status"]) for row, _ in zip(box.settled.values(), range(surplus), strict=False)]


def _change(what: str, row: Row) -> Body:
    return {"type": f"mail.{what}", "sessionId": WORKSPACE, "rowId": row["id"], "about": row["recipient"]}


def _updated(row: Row, now: int, fields: Body, unset: tuple[str, ...] | list[str] = ()) -> Body:
    gone = [name for name in unset if name in row]
    change = {**_change("updated", row), "set": {**fields, "updatedAt": now}}
    return change | ({"unset": gone} if gone else {})


def _deleted(row: Row, reason: str) -> Body:
    return {**_change("deleted", row), "reason": reason}


def leased_row(box: Mailbox, lease_id: str) -> Row:
    """The message that a lease is of. Raises `LeaseNotFoundError`."""
    row = box.leased(lease_id)
    if row is None:
        raise LeaseNotFoundError(lease_id=lease_id)
    return row


def _expired_model(view: Looking, before: Row) -> Mail:
    """What has become of a message that had its time; where nothing of it has stayed, what it was."""
    row = box_of(view).get(before["id"])
    kept = {name: value for name, value in before.items() if name not in _PROGRESS}
    return mail_model(row if row is not None else {**kept, "status": "expired"})


def _found(view: Looking, mail_id: str) -> Mail:
    row = box_of(view).get(mail_id)
    assert row is not None, "it was just written"
    return mail_model(row)
