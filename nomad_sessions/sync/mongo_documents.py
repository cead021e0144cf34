"""Records as MongoDB's documents, and back. Pure; `docs/sync-mongo.md` says what other programs may rely on.

Invariant: `change_of(kind, workspace_id, document_of(change)) == change`, whatever JSON the record holds, and the
documents' `_id`s are in the order of the records' ids by code point. The record itself is JSON text in `record`, which
BSON cannot bend; the other fields are there to be read and queried, and nothing is read back from them but the id of
the session. Verified by `tests/unit/test_mongo_documents.py`.

The fields are those of the documents that the dual store of Promethean keeps (`id`, `text`, `timestamp`, `metadata`),
its three spellings of the session's id brought to one, `sessionId`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.sync.target import Change, Key, Kind

__all__ = [
    "FACTS",
    "LONGEST_TEXT",
    "NAMES",
    "NO_URI",
    "OURS",
    "Document",
    "change_of",
    "document_of",
    "escaped",
    "first_key",
    "key_of",
    "last_key",
    "unescaped",
]

Document = dict[str, Any]
NAMES: dict[Kind, str] = {
    "workspace": "workspaces",
    "session": "sessions",
    "message": "session_messages",
    "task": "agent_tasks",
    "mail": "mailbox",
    "event": "opencode_events",
}
"""What the collection of a kind is called, after the agent's name."""
OURS: Mapping[str, Any] = {"rev": {"$type": "number"}, "record": {"$type": "string"}}
"""What the document of a record that is there has, and none of another program."""
NO_URI = (
    "is no connection string of MongoDB (mongodb://[user:password@]host[:port][/?options], with @ : / ? % as %40 …)"
)
LONGEST_TEXT = 1_000_000
"""Characters of a record's text that stand in `text`: the whole of it is in `record`, and a document has 16 MB."""

_DEEPEST = 20
_BEFORE = "\ud7ff"  # the last character before the surrogates
_ODD = re.compile("[\ud7ff-\udfff]")
_ESCAPED = re.compile(_BEFORE + "(.)", re.DOTALL)


# Ids


def escaped(identifier: str) -> str:
    """An id as BSON can hold it, in the same order and never the same for two: what UTF-8 has, itself; half of a
    surrogate pair, two characters."""
    return identifier if identifier.isascii() else _ODD.sub(_escape, identifier)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _BEFORE + chr(1 if code == 0xD7FF else code - 0xD700)


def unescaped(identifier: str) -> str:
    """The id that was `escaped`."""
    return identifier if identifier.isascii() else _ESCAPED.sub(_unescape, identifier)


def _unescape(found: re.Match[str]) -> str:
    code = ord(found[1])
    return chr(0xD7FF if code == 1 else code + 0xD700)


def key_of(workspace_id: str, identifier: str) -> str:
    """The `_id` of a record."""
    return f"{workspace_id}/{escaped(identifier)}"


def first_key(workspace_id: str) -> str:
    """What the `_id`s of a workspace begin with; all of them are above it, and below `last_key`."""
    return f"{workspace_id}/"


def last_key(workspace_id: str) -> str:
    """See `first_key`: no id of a workspace has a `/`, and `0` is the character after it."""
    return f"{workspace_id}0"


# From a change to a document


def document_of(change: Change) -> Document:
    """A change as a document; one of what is gone has nothing that a query for fields finds. Some 5 us."""
    body = change.body
    key = key_of(change.workspace_id, change.key.id)
    if body is None:
        return {"_id": key, "rev": change.rev, "deleted": True}
    kind = change.key.kind
    document: Document = {
        "_id": key,
        "id": escaped(str(body.get("id", change.key.id))),
        "workspaceId": change.workspace_id,
    }
    if change.session_id is not None:
        document["sessionId"] = escaped(change.session_id)
    document["text"] = _plain_text(_TEXTS[kind](body)[:LONGEST_TEXT])
    for name, given in (("timestamp", _TIMES[kind]), ("createdAt", ("createdAt",)), ("updatedAt", ("updatedAt",))):
        moment = next((body[each] for each in given if _is_time(body.get(each))), None)
        if moment is not None:
            document[name] = moment
    document["metadata"] = _metadata(kind, body, document)
    document["rev"] = change.rev
    document["record"] = encode(body).decode("utf-8")
    return document


def _metadata(kind: Kind, body: Mapping[str, Any], document: Document) -> Document:
    """What its owner said of the record, and over it what the documents of the original have there."""
    own = body.get("metadata")
    metadata: Document = _object(own, 1) if isinstance(own, dict) and own else {}
    metadata["type"] = kind
    if "sessionId" in document:
        metadata["sessionId"] = document["sessionId"]
    for theirs, ours in FACTS[kind]:
        value = body.get(ours)
        if value is not None:
            metadata[theirs] = plain(value)
    return metadata


def _same(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name in names)


FACTS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "workspace": (),
    "session": _same("title", "description", "agent", "directory", "parentId", "closedAt", "archivedAt"),
    "message": (("messageId", "id"), *_same("role", "status", "agent", "originId", "toolCallId")),
    "task": _same("agentId", "taskType", "status", "progress", "startTime", "lastActivity", "errorMessage"),
    "mail": (("messageType", "type"), *_same("recipient", "sender", "priority", "status", "expiresAt", "reason")),
    "event": (("eventType", "type"), *_same("messageId", "timestamp")),
}
_TIMES: dict[Kind, tuple[str, ...]] = {
    "workspace": (),
    "session": ("createdAt",),
    "message": ("createdAt",),
    "task": ("startTime", "createdAt"),
    "mail": ("createdAt",),
    "event": ("timestamp",),
}


def _spoken(*names: str) -> Callable[[Mapping[str, Any]], str]:
    """The first of these fields that says anything: text as it is, else as JSON."""

    def text(body: Mapping[str, Any]) -> str:
        value = next((body[name] for name in names if body.get(name)), "")
        return value if isinstance(value, str) else encode(value).decode("utf-8")

    return text


def _titled(body: Mapping[str, Any]) -> str:
    return "\n\n".join(each for each in (body.get("title"), body.get("description")) if each and isinstance(each, str))


_TEXTS: dict[Kind, Callable[[Mapping[str, Any]], str]] = {
    "workspace": _spoken(),
    "session": _titled,
    "message": _spoken("content"),
    "task": _spoken("inputData", "taskType"),
    "mail": _spoken("content"),
    "event": _spoken("properties"),
}


def _is_time(value: Any) -> bool:
    return type(value) is int and abs(value) < 1 << 63


# What BSON can hold


def plain(value: Any, depth: int = 0) -> Any:
    """A value for the fields that are queried, as near to itself as BSON, and a query, can have it: a whole number
    beyond 64 bits as a float, what is nested deeper than 20 as JSON text, and see `_plain_text` and `_name`."""
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, dict | list):
        if depth >= _DEEPEST:
            return encode(value).decode("utf-8")
        if isinstance(value, dict):
            return _object(value, depth + 1)
        return [plain(each, depth + 1) for each in value]
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        try:
            return float(value)
        except OverflowError:
            return str(value)
    return value


def _object(value: Mapping[str, Any], depth: int) -> Document:
    return {_name(key): plain(each, depth) for key, each in value.items()}


def _plain_text(text: str) -> str:
    """Text with U+FFFD where it has half of a surrogate pair."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _name(key: str) -> str:
    """A key without what means something else in a query: `$` at its beginning, `.`, NUL."""
    if key.startswith("$"):
        key = "\uff04" + key[1:]
    return _plain_text(key.replace(".", "\uff0e").replace("\0", "\ufffd"))


# And back


def change_of(kind: Kind, workspace_id: str, document: Mapping[str, Any]) -> Change:
    """The change that was made a document with a record. Raises `ValueError` where that is no JSON."""
    key = Key(kind, unescaped(document["_id"][len(first_key(workspace_id)) :]))
    about = document.get("sessionId")
    body = decode(document["record"].encode("utf-8"))
    return Change(workspace_id, key, int(document["rev"]), body, unescaped(about) if isinstance(about, str) else None)
