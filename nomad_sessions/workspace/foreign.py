"""A `sessions.json` that somebody else wrote, and a view of ours, in one shape that can be compared.

Invariant: `normalise` keeps every message and every unknown key; what a field cannot hold is kept under `unfit`, so
that one wrong type hides neither its record nor any other. Where one message stands in two sessions (NomadArch's forks
share ids) each session gets its own: the id of a copy is derived from both ids, so every reader derives the same.
Verified by `tests/unit/test_foreign.py`.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.ids import derive_id
from nomad_sessions.models import Message, Session, validate
from nomad_sessions.storage._os import FileStat
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.view import View

__all__ = ["UNFIT", "Content", "ForeignFile", "content_of", "millis", "normalise", "put_copy"]

UNFIT = "unfit"
"""Under this key a record keeps what another program wrote into its fields and the fields cannot hold, by field."""
_LAST_MS = 1 << 47


class Content(NamedTuple):
    """A whole workspace as values. `order` is `messageIds` by session; `owner` the session of each message; `created`
    and `rev` are seqs by id (ours only); `extras` the further top-level keys.

    What is not there was deleted, but for what could not be read: `unread` has ids of records that are none, and the
    names of whole tables; `unordered` sessions whose `messageIds` are no list. With `partial` absence says nothing at
    all, and neither does an order: a damaged file of ours looks like that. A `stranger`'s seqs are of another store.
    """

    sessions: dict[str, Body]
    order: dict[str, list[str]]
    messages: dict[str, Body]
    owner: dict[str, str]
    extras: Body
    created: dict[str, int]
    rev: dict[str, int]
    unread: frozenset[str] = frozenset()
    unordered: frozenset[str] = frozenset()
    partial: bool = False
    stranger: bool = False


class ForeignFile(NamedTuple):
    """A `sessions.json` that is not an intact snapshot of ours, but JSON. `in_place`: it is one of ours by its index,
    and was changed where it stands: by hand, or by a disk. `stranger`: it is a snapshot of another store."""

    raw: bytes
    data: Body
    stat: FileStat
    in_place: bool = False
    stranger: bool = False

    @property
    def seq(self) -> int | None:
        """Up to which change of ours its writer had seen, when our key came back. It stands there twice: what is
        missing from a file is deleted on its word, and one damaged digit must not do that."""
        ours = self.data.get("nomad")
        ours = ours if isinstance(ours, dict) else {}
        head, trailer = ours.get("head"), ours.get("trailer")
        seq = head.get("seq") if isinstance(head, dict) else None
        again = trailer.rpartition(" ")[2] if isinstance(trailer, str) else ""
        known = isinstance(seq, int) and not isinstance(seq, bool) and again == f"{seq:016d}"
        return seq if known and not self.stranger else None

    @property
    def last_id(self) -> str | None:
        """The id of the last change of ours that its writer had seen, which tells our store from another."""
        ours = self.data.get("nomad")
        head = ours.get("head") if isinstance(ours, dict) else None
        found = head.get("lastId") if isinstance(head, dict) else None
        return found if isinstance(found, str) and found else None

    @property
    def digest(self) -> str:
        """What a merge of exactly this file is remembered by."""
        return hashlib.sha256(self.raw).hexdigest()


def content_of(view: View) -> Content:
    """All of a view. Reads everything."""
    content = Content({}, {}, {}, {}, dict(view.workspace().fields), {}, {})
    created = {row.id: row.created for row in view.base.items()} if view.base is not None else {}
    for session in [*view.load_all(), view.workspace()]:
        if session.id != WORKSPACE:
            content.sessions[session.id] = dict(session.fields)
            content.order[session.id] = list(session.order)
            content.created[session.id] = session.created
            content.rev[session.id] = session.rev
        for message_id in session.ids():
            state = session.message(message_id)
            if state is None:
                continue
            body = state.body()
            content.rev[message_id] = body.pop("rev", 0)
            content.messages[message_id] = body
            content.owner[message_id] = session.id
            content.created[message_id] = state.created if state.created is not None else created[message_id]
    return content


def millis(value: Any) -> int:
    """A time in ms as it can be compared; 0 for what is no number."""
    return int(value) if isinstance(value, int | float) else 0


def normalise(data: Body) -> tuple[Content, list[str]]:
    """The content of a foreign file, and what in it is not as it should be (one sentence each).

    What is no object where one must be is left out and said; a caller keeps the file itself.
    """
    problems: list[str] = []
    unread: set[str] = set()
    sessions = _objects(data, "sessions", problems, unread)
    messages = _objects(data, "messages", problems, unread)
    extras = {key: value for key, value in data.items() if key not in ("sessions", "messages", "nomad")}
    content = Content({}, {}, {}, {}, extras, {}, {})
    for session_id, record in sessions.items():
        fields = {key: value for key, value in record.items() if key != "messageIds"}
        content.sessions[session_id] = _fitting(
            Session, _named(fields, "id", session_id), f"session {session_id!r}", problems
        )
        content.order[session_id] = []
    claims = _claims(sessions, messages, problems)
    for message_id, body in messages.items():
        named = body.get("sessionId")
        owner = claims.get(message_id) or (named if isinstance(named, str) and named in sessions else WORKSPACE)
        _put(content, message_id, owner, _fitting(Message, body, f"message {message_id!r}", problems))
    for session_id, record in sessions.items():
        for message_id in dict.fromkeys(_ids(record)):
            if message_id not in messages:
                continue
            if claims[message_id] == session_id:
                content.order[session_id].append(message_id)
            else:
                content.order[session_id].append(
                    put_copy(content, message_id, session_id, content.messages[message_id])
                )
    unordered = frozenset(each for each, record in sessions.items() if not _is_order(record.get("messageIds")))
    return content._replace(unread=frozenset(unread), unordered=unordered), problems


def _is_order(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _objects(data: Body, key: str, problems: list[str], unread: set[str]) -> dict[str, Body]:
    found = data.get(key)
    if not isinstance(found, dict):
        unread.add(key)
        if key in data:
            problems.append(f"{key!r} is no object")
        return {}
    kept: dict[str, Body] = {}
    for identifier, value in found.items():
        if not isinstance(value, dict):
            problems.append(f"{key}[{identifier!r}] is no object")
            unread.add(identifier)
            continue
        if identifier == WORKSPACE:
            problems.append(f"{key}: an id is empty")
        kept[identifier or derive_id(0, key, "")] = value
    return kept


def _ids(record: Body) -> list[str]:
    ids = record.get("messageIds")
    return [each for each in ids if isinstance(each, str)] if isinstance(ids, list) else []


def _claims(sessions: dict[str, Body], messages: dict[str, Body], problems: list[str]) -> dict[str, str]:
    """Which session keeps each message under its own id: the one that the message names, else the first to list it."""
    claims: dict[str, str] = {}
    for session_id, record in sessions.items():
        if not isinstance(record.get("messageIds", []), list):
            problems.append(f"session {session_id!r}: 'messageIds' is no list")
        for message_id in _ids(record):
            body = messages.get(message_id)
            if body is None:
                problems.append(f"session {session_id!r} lists message {message_id!r}, which is not there")
            elif message_id not in claims or body.get("sessionId") == session_id:
                claims[message_id] = session_id
    return claims


def _fitting(model: type[Message] | type[Session], record: Body, what: str, problems: list[str]) -> Body:
    """The record with what its fields cannot hold under `unfit`; the record itself where everything fits."""
    fitting, unfit = record, _unnamed(record)
    if unfit:
        fitting = {key: value for key, value in record.items() if key not in unfit}
        problems.append(f"{what}: half a character in the name of a field")
    while True:
        try:
            validate(model, fitting)
            break
        except InvalidInputError as error:
            field = error.field
            if field not in fitting:
                problems.append(f"{what}: {error}")
                break
            if fitting is record:
                fitting = dict(record)
            unfit[field] = fitting.pop(field)
            problems.append(f"{what}: {field!r} cannot be {unfit[field]!r:.40}")
    if unfit:
        fitting[UNFIT] = {**_unfit(fitting), **unfit}
    return fitting


def _unnamed(record: Body) -> Body:
    """The fields whose names no model can have: with half of a pair of surrogates in them."""
    return {key: value for key, value in record.items() if not key.isascii() and not _is_utf8(key)}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named(record: Body, key: str, name: str) -> Body:
    """A record is called what its place says; another name that it gives itself is kept beside."""
    given = record.get(key, name)
    if given == name:
        return record if key in record else {key: name, **record}
    return {**record, key: name, UNFIT: {**_unfit(record), key: given}}


def _unfit(record: Body) -> Body:
    found = record.get(UNFIT)
    return found if isinstance(found, dict) else {}


def _put(content: Content, message_id: str, owner: str, body: Body) -> None:
    kept = dict(_named(body, "id", message_id))
    if owner != WORKSPACE:
        kept["sessionId"] = owner
    content.messages[message_id] = kept
    content.owner[message_id] = owner


def put_copy(content: Content, message_id: str, session_id: str, body: Body) -> str:
    """Puts a copy of a message into another session; its id is derived from both: everybody derives the same."""
    time: Any = body.get("createdAt")
    made = derive_id(int(time) if isinstance(time, int | float) and 0 <= time < _LAST_MS else 0, session_id, message_id)
    copy = {**body, "id": made, "originId": message_id}
    copy.pop("rev", None)
    _put(content, made, session_id, copy)
    return made
