"""Pages of sessions and messages: sorting, filters, and cursors that stay put while rows change.

A cursor names the last row that was given, by its place in the order, not by a count: rows that come or go before it
shift nothing.
"""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import Any, NamedTuple

from nomad_sessions.errors import InvalidCursorError, InvalidInputError
from nomad_sessions.models import Message, Page, Session
from nomad_sessions.operations.reading import Looking, message_model, session_model
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.view import Summary

__all__ = ["UNSET", "MessageQuery", "SessionQuery", "Unset", "messages", "sessions", "with_status"]


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


def _order(summary: Summary) -> tuple[int, int, str]:
    return (-summary.updated_at, -summary.rev, summary.id)


def sessions(view: Looking, query: SessionQuery, limit: int | None, cursor: str | None) -> Page[Session]:
    """Sessions by `updatedAt`, newest first, ties by seq."""
    _check_count("limit", limit)
    rows = sorted([row for row in view.summaries().values() if query.keeps(row)], key=_order)
    total = len(rows)
    if cursor is not None:
        after = _opened(cursor, "s", 3)
        rows = [row for row in rows if _order(row) > after]
    page = rows if limit is None else rows[:limit]
    following = _closed("s", _order(page[-1])) if page and len(page) < len(rows) else None
    models = [session_model(state) for state in map(view.session, [row.id for row in page]) if state is not None]
    return Page(models, total=total, next_cursor=following)


def messages(view: Looking, query: MessageQuery, limit: int | None, cursor: str | None) -> Page[Message]:
    """A session's messages in their order."""
    _check_count("limit", limit)
    _check_count("last", query.last)
    if query.last is not None and (limit is not None or cursor is not None):
        raise InvalidInputError(field="last", value=query.last, reason="goes with neither limit nor cursor")
    session = view.session(query.session_id) if query.session_id else None
    if session is None:
        return Page([], total=0)
    ids = [*session.order, *session.hidden] if query.include_reverted else session.order
    total = len(ids)
    if query.last is not None:
        chosen = ids[total - query.last :] if query.last < total else ids
    else:
        start = _after(ids, cursor) if cursor is not None else 0
        chosen = ids[start:] if limit is None else ids[start : start + limit]
    page = [message_model(state.body()) for state in map(session.message, chosen) if state is not None]
    more = query.last is None and chosen and chosen[-1] != ids[-1]
    following = _closed("m", (chosen[-1], ids.index(chosen[-1]))) if more else None
    return Page(page, total=total, next_cursor=following)


def with_status(view: Looking, status: str) -> list[Message]:
    """Every visible message with this status, oldest session first."""
    found = []
    for row in sorted(view.summaries().values(), key=lambda row: row.created):
        session = view.session(row.id)
        for state in map(session.message, session.order) if session is not None else ():
            body = state.body() if state is not None else {}
            if body.get("status") == status:
                found.append(message_model(body))
    return found


def _after(ids: list[str], cursor: str) -> int:
    """Where a page goes on: after the message that the cursor names, or where it was when it has gone."""
    message_id, position = _opened(cursor, "m", 2)
    if message_id in ids:
        return ids.index(message_id) + 1
    return min(int(position), len(ids))


def _closed(kind: str, place: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(encode([kind, *place])).decode("ascii").rstrip("=")


def _opened(cursor: str, kind: str, size: int) -> tuple[Any, ...]:
    try:
        found = decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise InvalidCursorError(cursor=cursor) from error
    types = (int, int, str) if kind == "s" else (str, int)
    if not isinstance(found, list) or len(found) != size + 1 or found[0] != kind:
        raise InvalidCursorError(cursor=cursor)
    if not all(isinstance(value, type_) for value, type_ in zip(found[1:], types, strict=True)):
        raise InvalidCursorError(cursor=cursor)
    return tuple(found[1:])


def _check_count(field: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InvalidInputError(field=field, value=value, reason="must be a whole number, 1 or more")
