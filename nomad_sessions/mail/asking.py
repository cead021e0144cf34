"""What a caller hands in, checked and as rows have it; and lists of what is in the mailbox. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypedDict

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.mail.names import name_of
from nomad_sessions.mail.operations import box_of, mail_model
from nomad_sessions.mail.queue import Mailbox, Row, place_of
from nomad_sessions.models import Page
from nomad_sessions.models.mail import MAIL_STATUSES, PRIORITIES, Mail
from nomad_sessions.operations.listing import check_count, closed, opened
from nomad_sessions.operations.plain import plain
from nomad_sessions.operations.reading import Looking

__all__ = ["MailCounts", "MailQuery", "SendOptions", "check_flag", "counts", "listed", "milliseconds", "outgoing"]

_LONGEST_TIME = 1_000_000_000
_MOST_ATTEMPTS = 1_000_000_000
_LIVE = ("queued", "leased", "dead")


class MailCounts(NamedTuple):
    """How much is in a mailbox.

    `queued` wait, `leased` are with somebody, `dead` are given up. `oldest` is when the first of those that wait or are
    leased was sent, in ms since the epoch, None when there are none; `recipients` how many have such. `unreadable` are
    rows of another program that are no messages as we write them: they stay, nobody gets them, `check` says why.
    """

    queued: int
    leased: int
    dead: int
    recipients: int
    oldest: int | None
    unreadable: int = 0


class SendOptions(TypedDict, total=False):
    """What `send` and `publish` may be told beside the content; `outgoing` has what each is when it is left out."""

    sender: str | None
    type: str
    priority: str
    metadata: Mapping[str, Any] | None
    key: str | None
    ttl: float | None
    on_expiry: str
    max_attempts: int
    backoff: float


class MailQuery(NamedTuple):
    """What to list."""

    recipient: str | None
    status: str | None
    limit: int | None
    cursor: str | None


def outgoing(
    content: Any,
    *,
    sender: str | None = None,
    type: str = "message",
    priority: str = "medium",
    metadata: Mapping[str, Any] | None = None,
    key: str | None = None,
    ttl: float | None = None,
    on_expiry: str = "dead",
    max_attempts: int = 5,
    backoff: float = 1.0,
) -> dict[str, Any]:
    """The fields of a new message's row that do not depend on when and to whom it is sent, and its `ttl` in ms."""
    if priority not in PRIORITIES:
        raise InvalidInputError(field="priority", value=priority, reason=f"must be one of {', '.join(PRIORITIES)}")
    if on_expiry not in ("dead", "drop"):
        raise InvalidInputError(field="on_expiry", value=on_expiry, reason='must be "dead" or "drop"')
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidInputError(field="metadata", value=metadata, reason="must be a mapping")
    if not _is_count(max_attempts):
        raise InvalidInputError(
            field="max_attempts", value=max_attempts, reason=f"must be a whole number from 1 to {_MOST_ATTEMPTS:,}"
        )
    row: dict[str, Any] = {"type": name_of("type", type), "priority": priority, "content": content}
    for field, value in (("sender", sender), ("key", key)):
        if value is not None:
            row[field] = name_of(field, value)
    if metadata:
        row["metadata"] = dict(metadata)
    row |= {"maxAttempts": max_attempts, "backoff": milliseconds("backoff", backoff)}
    if ttl is not None:
        row["ttl"] = milliseconds("ttl", ttl, least=1)
        if on_expiry == "drop":
            row["onExpiry"] = on_expiry
    return plain(row)


def milliseconds(field: str, seconds: float, *, least: int = 0) -> int:
    """A time in seconds as ms, at least `least`. Raises `InvalidInputError`."""
    if not _is_number(seconds) or not 0 <= seconds <= _LONGEST_TIME:
        raise InvalidInputError(field=field, value=seconds, reason=f"must be 0 to {_LONGEST_TIME:,} seconds")
    ms = math.ceil(seconds * 1000)
    if ms < least:
        raise InvalidInputError(field=field, value=seconds, reason="must be more than 0 seconds")
    return ms


def check_flag(field: str, value: object) -> None:
    """Raises `InvalidInputError` for what is neither True nor False: a text such as "no" would count as True."""
    if not isinstance(value, bool):
        raise InvalidInputError(field=field, value=value, reason="must be True or False")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MOST_ATTEMPTS


def listed(view: Looking, query: MailQuery) -> Page[Mail]:
    """What is in the mailbox, by position."""
    if query.status is not None and query.status not in MAIL_STATUSES:
        reason = f"must be one of {', '.join(MAIL_STATUSES)}"
        raise InvalidInputError(field="status", value=query.status, reason=reason)
    check_count("limit", query.limit)
    if query.recipient is not None:
        query = query._replace(recipient=name_of("recipient", query.recipient))
    rows = sorted(_matching(box_of(view), query), key=place_of)
    total = len(rows)
    if query.cursor is not None:
        after = opened(query.cursor, "p")
        rows = [row for row in rows if place_of(row) > after]
    page = rows if query.limit is None else rows[: query.limit]
    following = closed("p", place_of(page[-1])) if page and len(page) < len(rows) else None
    return Page(map(mail_model, page), total=total, next_cursor=following)


def _matching(box: Mailbox, query: MailQuery) -> list[Row]:
    wanted = _LIVE if query.status is None else (query.status,)
    if query.status == "dead":
        rows = list(box.dead.values())
    elif query.recipient is not None and query.status in ("queued", "leased"):
        rows = [row for lane in box.lanes.get(query.recipient, {}).values() for row in lane]
    else:
        rows = list(box.all())
    return [row for row in rows if row["status"] in wanted and query.recipient in (None, row["recipient"])]


def counts(box: Mailbox, recipient: str | None) -> MailCounts:
    """Counts one recipient's messages, or all."""
    recipients = box.lanes.items() if recipient is None else [(recipient, box.lanes.get(recipient, {}))]
    lanes = [lane for _, lanes in recipients for lane in lanes.values()]
    leased = sum(lane.leased for lane in lanes)
    heads = [next(iter(lane)) for lane in lanes]
    oldest = min(heads, key=place_of, default=None)
    dead = len(box.dead) if recipient is None else sum(row["recipient"] == recipient for row in box.dead.values())
    return MailCounts(
        queued=sum(map(len, lanes)) - leased,
        leased=leased,
        dead=dead,
        recipients=sum(1 for _, lanes in recipients if lanes),
        oldest=None if oldest is None else oldest.get("createdAt"),
        unreadable=sum(recipient in (None, row.get("recipient")) for row in box.unreadable.values()),
    )
