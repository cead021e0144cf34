"""The original's entries, `{id, text, timestamp, metadata}` under its keys, and the records of the store. Pure.

| key | what it is | its text |
|---|---|---|
| `session:{id}` | a session | the session's JSON, as OpenCode has it |
| `session:{id}:messages` | its visible messages | a JSON array of `{info, parts}` |
| `event:{id}` | a recorded event | its JSON, `{type, properties}` |
| `{id}` | a message | what it says |

The three spellings of a session's id in metadata are read, and `sessionId` is given back. Verified by
`tests/unit/test_dualstore.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats.opencode import parse_session, to_export
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import milliseconds
from nomad_sessions.models import ROLES, Event, Message, Session, dump
from nomad_sessions.storage.codec import decode_text, encode

__all__ = [
    "Collection",
    "Entry",
    "Kind",
    "Place",
    "event_entry",
    "given",
    "message_entry",
    "message_fields",
    "own_fields",
    "place_of",
    "read_text",
    "session_entry",
]

Kind = Literal["session", "messages", "event", "message"]
Collection = Literal["sessions", "session_messages", "opencode_events"]
_KEY = re.compile(r"(session|event):(.+)", re.DOTALL)
_MESSAGES = ":messages"
_SPELLINGS = ("sessionId", "sessionID", "session_id")
_TIMES = ("timestamp", "createdAt", "created_at")


class Entry(NamedTuple):
    """One entry, as the original's queries gave them: `timestamp` is in ms since the epoch."""

    id: str
    text: str
    timestamp: int
    metadata: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As a mapping, by these names."""
        return self._asdict()


class Place(NamedTuple):
    """What a key names: which kind of record, and its id."""

    kind: Kind
    id: str


def place_of(key: object) -> Place:
    """What a key names. Raises `InvalidInputError` for what is no text."""
    if type(key) is not str or not key:
        raise InvalidInputError(field="id", value=key, reason="must be a key, as session:{id}")
    match = _KEY.fullmatch(key)
    if match is None:
        return Place("message", key)
    kind, identifier = match.groups()
    if kind == "event":
        return Place("event", identifier)
    whole = identifier.removesuffix(_MESSAGES)
    return Place("messages", whole) if whole != identifier and whole else Place("session", identifier)


class Given(NamedTuple):
    """An entry to be inserted, as far as it says: a session's id of its metadata, its time (ms), or None."""

    id: str | None
    text: str
    metadata: Mapping[str, Any]
    session_id: str | None
    timestamp: int | None


def given(entry: object) -> Given:
    """What a caller's mapping says. Raises `InvalidInputError`, for a time that is none as well: it is never "now"."""
    if not isinstance(entry, Mapping):
        raise InvalidInputError(field="entry", value=entry, reason="must be a mapping")
    text, metadata, identifier = entry.get("text"), entry.get("metadata"), entry.get("id")
    metadata = {} if metadata is None else metadata
    if type(text) is not str:
        raise InvalidInputError(field="text", value=text, reason="must be a str")
    if not isinstance(metadata, Mapping):
        raise InvalidInputError(field="metadata", value=metadata, reason="must be a mapping")
    if identifier is not None and (type(identifier) is not str or not identifier):
        raise InvalidInputError(field="id", value=identifier, reason="must be a text that is not empty")
    names = (metadata.get(name) for name in _SPELLINGS)
    session_id = next((each for each in names if isinstance(each, str) and each), None)
    times = [each for holder in (entry, metadata) for name in _TIMES if (each := holder.get(name)) is not None]
    return Given(identifier, text, metadata, session_id, _time(times[0]) if times else None)


def _time(value: object) -> int:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    found = milliseconds(value)
    if found is None:
        raise InvalidInputError(field="timestamp", value=value, reason="is no time")
    return found


def read_text(text: str, kind: type, field: str = "text") -> Any:
    """The JSON of an entry's text. Raises `InvalidInputError`."""
    try:
        value = decode_text(text)
    except ValueError as error:
        raise InvalidInputError(field=field, value=text, reason=f"must be JSON: {error}") from error
    if not isinstance(value, kind):
        reason = "must be a JSON object" if kind is dict else "must be a JSON array"
        raise InvalidInputError(field=field, value=text, reason=reason)
    return value


def message_fields(item: Any, session_id: str) -> dict[str, Any]:
    """A message of `session:{id}:messages`, as OpenCode has it or flat. Raises `InvalidInputError`."""
    if isinstance(item, Mapping) and isinstance(item.get("info"), Mapping):
        report = ImportReport()
        parsed = parse_session({"id": session_id}, [("message", item)], report)
        if parsed is None or not parsed.messages or report.skipped:
            raise InvalidInputError(field="text", value=item, reason="; ".join(report.skipped) or "is no message")
        return parsed.messages[0]
    if not isinstance(item, Mapping):
        raise InvalidInputError(field="text", value=item, reason="must hold messages")
    flat = given({"text": item.get("content"), **item})
    if flat.id is None:
        raise InvalidInputError(field="id", value=None, reason="a message of a list must have one")
    role = item.get("role")
    return {**own_fields(flat), **({"role": role} if role in ROLES else {})}


def own_fields(entry: Given) -> dict[str, Any]:
    """A message from an entry of its own."""
    kept = {key: value for key, value in entry.metadata.items() if key not in _SPELLINGS}
    role = kept.pop("role", "user")
    fields: dict[str, Any] = {"content": entry.text, "role": role if role in ROLES else "user", "metadata": kept}
    if role not in ROLES:
        kept["role"] = role
    if entry.id is not None:
        fields["id"] = entry.id
    if entry.timestamp is not None:
        fields["createdAt"] = entry.timestamp
    return fields


def session_entry(session: Session) -> Entry:
    """A session as an entry."""
    info = to_export(dump(session), ())["info"]
    if session.description is not None:
        info["description"] = session.description
    metadata = {"type": "session", "sessionId": session.id, "title": session.title}
    text = encode(info).decode("utf-8", "replace")
    return Entry(f"session:{session.id}", text, session.updated_at, metadata)


def message_entry(message: Message) -> Entry:
    """A message as an entry."""
    metadata = {**message.metadata, "type": "message", "sessionId": message.session_id, "role": message.role}
    return Entry(message.id, message.content, message.created_at, metadata)


def event_entry(event: Event) -> Entry:
    """A recorded event as an entry."""
    text = encode({"type": event.type, "properties": dump(event)["properties"]}).decode("utf-8", "replace")
    metadata: dict[str, Any] = {"type": "event", "eventType": event.type}
    if event.session_id is not None:
        metadata["sessionId"] = event.session_id
    return Entry(f"event:{event.id}", text, event.timestamp, metadata)
