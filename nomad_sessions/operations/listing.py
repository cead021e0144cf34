"""Pages of sessions and messages: sorting, filters, and cursors that stay put while rows change.

A cursor names the last row that was given, by its place in the order, not by a count: rows that come or go before it
shift nothing. For messages it names the next row too: a caller may delete each page before it asks for the next.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

from nomad_sessions.errors import InvalidCursorError, InvalidInputError
from nomad_sessions.models import Message, Page, Session
from nomad_sessions.operations.reading import Looking, check_text, listed_message, listed_session, message_model
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.places import Summary

__all__ = [
    "UNSET",
    "MessageQuery",
    "SessionQuery",
    "Unset",
    "check_count",
    "closed",
    "messages",
    "opened",
    "order",
    "sessions",
    "warm",
    "with_status",
]


class Unset(Enum):
    """The type of `UNSET`: no filter, where None is a value."""

    UNSET = "UNSET"


UNSET = Unset.UNSET


class SessionQuery(NamedTuple):
    """Filters of a list of sessions."""

    archived: bool | None
    parent_id: str | Unset | None
    updated_since: int | None

    def keeps(self, summary: Summary) -> bool:
        """Whether this session matches."""
        return (
            (self.archived is None or (summary.archived_at is not None) == self.archived)
            and (self.parent_id is UNSET or summary.parent_id == self.parent_id)
            and (self.updated_since is None or summary.updated_at >= self.updated_since)
        )


class MessageQuery(NamedTuple):
    """What to list of a session's messages."""

    session_id: str
    last: int | None
    include_reverted: bool


def order(summary: Summary) -> tuple[int, int, str]:
    """The place of a session in a list."""
    return (-summary.updated_at, -summary.rev, summary.id)


def sessions(view: Looking, query: SessionQuery, limit: int | None, cursor: str | None) -> Page[Session]:
    """Sessions by `updatedAt`, newest first, ties by seq."""
    check_count("limit", limit)
    query = _checked(query)
    rows = sorted([row for row in view.summaries().values() if query.keeps(row)], key=order)
    total = len(rows)
    if cursor is not None:
        after = opened(cursor, "s")
        rows = [row for row in rows if order(row) > after]
    page = rows if limit is None else rows[:limit]
    following = closed("s", order(page[-1])) if page and len(page) < len(rows) else None
    view.prepare(row.id for row in page)
    models = [model for model in (listed_session(view, row.id) for row in page) if model is not None]
    return Page(models, total=total, next_cursor=following)


def messages(view: Looking, query: MessageQuery, limit: int | None, cursor: str | None) -> Page[Message]:
    """A session's messages in their order."""
    check_count("limit", limit)
    check_count("last", query.last)
    if query.last is not None and (limit is not None or cursor is not None):
        raise InvalidInputError(field="last", value=query.last, reason="goes with neither limit nor cursor")
    session_id = check_text("session_id", query.session_id)
    session = view.session(session_id) if session_id else None
    if session is None:
        return Page([], total=0)
    hidden = session.hidden if query.include_reverted else []
    ids = [*session.order, *hidden] if hidden else session.order
    total = len(ids)
    if query.last is not None:
        start, stop = max(0, total - query.last), total
    else:
        start = _after(session.id, ids, cursor) if cursor is not None else 0
        stop = total if limit is None else min(start + limit, total)
    page = [listed_message(view, state) for state in map(session.message, ids[start:stop]) if state is not None]
    following = None
    if start < stop < total:
        following = closed("m", (session.id, ids[stop - 1], ids[stop], stop))
    return Page(page, total=total, next_cursor=following)


def with_status(view: Looking, status: str) -> list[Message]:
    """Every visible message with this status, oldest session first."""
    found = []
    rows = sorted(view.summaries().values(), key=lambda row: row.created)
    view.prepare(row.id for row in rows)
    for row in rows:
        session = view.session(row.id)
        for state in map(session.message, session.order) if session is not None else ():
            body = state.body() if state is not None else {}
            if body.get("status") == status:
                found.append(message_model(body))
    return found


def warm(view: Looking, count: int) -> int:
    """Puts together the messages of the newest sessions, so many; how many messages there are in them."""
    check_count("sessions", count)
    newest = sorted(view.summaries().values(), key=order)[:count]
    view.prepare(row.id for row in newest)
    total = 0
    for session in filter(None, map(view.session, (row.id for row in newest))):
        for state in filter(None, map(session.message, session.order)):
            total += 1
            if state.patches:
                view.message_json(state)
    return total


def _after(session_id: str, ids: list[str], cursor: str) -> int:
    """Where a page goes on: after the message that was last, or at the one that was next. Where both have gone, after
    what is smaller than the last, if the ids are in order (ours are), and else where it was."""
    of, last, following, position = opened(cursor, "m")
    if of != session_id:
        raise InvalidCursorError(cursor=cursor)
    if 0 < position <= len(ids) and ids[position - 1] == last:  # Most often nothing has moved.
        return int(position)
    if last in ids:
        return ids.index(last) + 1
    if following in ids:
        return ids.index(following)
    if all(one < other for one, other in pairwise(ids)):
        return bisect_right(ids, last)
    return min(max(int(position), 0), len(ids))


def closed(kind: str, place: tuple[Any, ...]) -> str:
    """A cursor: a place in the order of this kind of list."""
    return base64.urlsafe_b64encode(encode([kind, *place])).decode("ascii").rstrip("=")


def opened(cursor: str, kind: str) -> tuple[Any, ...]:
    """The place that a cursor names. Raises `InvalidCursorError` for one of another kind."""
    try:
        found = decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidCursorError(cursor=cursor) from error
    types = _PLACES[kind]
    if not isinstance(found, list) or found[:1] != [kind] or [type(value) for value in found[1:]] != types:
        raise InvalidCursorError(cursor=cursor)
    return tuple(found[1:])


# Sessions, messages, tasks, and mail, which has its position in the post.
_PLACES: dict[str, list[type]] = {
    **{"s": [int, int, str], "m": [str, str, str, int]},
    **{"t": [int, int, str], "p": [int, str]},
}


def check_count(field: str, value: object) -> None:
    """Raises `InvalidInputError` for what is no number of rows, 1 or more; None is all of them."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InvalidInputError(field=field, value=value, reason="must be a whole number, 1 or more")


def _checked(query: SessionQuery) -> SessionQuery:
    """The filters as rows have what they ask for. Raises `InvalidInputError` for one that nothing could match."""
    if query.archived is not None and not isinstance(query.archived, bool):
        raise InvalidInputError(field="archived", value=query.archived, reason="must be True, False or None")
    if query.updated_since is not None and not isinstance(query.updated_since, int):
        raise InvalidInputError(field="updated_since", value=query.updated_since, reason="must be a time in ms")
    if query.parent_id is None or query.parent_id is UNSET:
        return query
    return query._replace(parent_id=check_text("parent_id", query.parent_id))
