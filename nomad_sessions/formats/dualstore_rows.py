"""What the rows of Promethean's dual store have in common: ids in three spellings, times in three forms, copies. Pure.

An "update" of the original is another row of the same id; which of them is the newest is `newest_last`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nomad_sessions.formats.values import mapping, milliseconds, text
from nomad_sessions.storage.codec import decode

__all__ = ["MESSAGE_IDS", "SESSION_IDS", "Row", "first", "laid_over", "merged", "moment", "newest_last", "said_in_text"]

Row = Mapping[str, Any]
SESSION_IDS = ("sessionId", "sessionID", "session_id")
MESSAGE_IDS = ("messageId", "messageID", "message_id")
_CHANGED = ("lastActivity", "last_activity", "updatedAt", "updated_at")


def first(names: Sequence[str], *holders: Row) -> str | None:
    """The first text under one of the names, in the first holder that has any."""
    return next((found for holder in holders for name in names if (found := text(holder.get(name)))), None)


def moment(names: Sequence[str], *holders: Row) -> int | None:
    """The same for a time, in ms: ISO text, a number of seconds or ms, or a date of BSON."""
    values = (holder.get(name) for holder in holders for name in names)
    return next((found for value in values if (found := _milliseconds(value)) is not None), None)


def _milliseconds(value: Any) -> int | None:
    if isinstance(value, datetime):  # As the driver gives them: UTC, without a zone.
        return round(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1000)
    return milliseconds(value)


def said_in_text(row: Row) -> Any:
    """The JSON that a row has as its text; None where that is no JSON object or array."""
    given = text(row.get("text"))
    if given is None or given.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return decode(given.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None


def newest_last(copies: Iterable[Row]) -> list[Row]:
    """Copies of one id by when they were last changed, as far as they say (`lastActivity`, `updated_at`; else the time
    of the row); those that say the same stay in the order given, which is to be that of their insertion."""

    def changed(row: Row) -> int:
        metadata = mapping(row.get("metadata"))
        return moment(_CHANGED, metadata, row) or moment(("timestamp", "createdAt", "created_at"), row, metadata) or 0

    return sorted(copies, key=changed)


def laid_over(copies: Iterable[Row]) -> dict[str, Any]:
    """The fields of copies, the newest last, each as the newest has it that has it: an update of the original names
    what it changed and leaves the rest out."""
    fields: dict[str, Any] = {}
    for each in copies:
        fields.update((key, value) for key, value in each.items() if value is not None and value != "")
    return fields


def merged(copies: Sequence[Row]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row that copies amount to, and its metadata."""
    return laid_over(copies), laid_over(mapping(each.get("metadata")) for each in copies)
