"""Documents of Promethean's dual store in MongoDB as our records: sessions, messages, tasks, events, mail. Pure.

One reader a kind takes all rows of one id, in the order of their insertion, and gives the record as a file of ours has
it, or a text that says why there is none. `read_documents` takes all rows of a collection: it looks at each row, not at
the collection, for what it is, since the original keeps several kinds in one.

| row | is |
|---|---|
| id `session:{id}`, or `metadata.type` session; text: JSON, Markdown with `**ID:**`, or `Session: {id}` | a session |
| text: `{"info", "parts"}`, or `{"id", "content", …}`; or `metadata.role` with the text itself | a message |
| `metadata.type` text, one row a part | a message, its parts put together |
| id `session:{id}:messages` or `{id}:messages`; text: a list of messages, or one | those messages |
| `metadata.type` inter_agent_communication | mail that was delivered |
| `metadata.eventType`, `event_type`, or type projected_event | an event (`event_documents.py`) |
| others | what their collection is of |

Verified by `tests/unit/test_dualstore_documents.py`, which walks through the shapes that were found in real stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from nomad_sessions.formats.dualstore_rows import (
    MESSAGE_IDS,
    SESSION_IDS,
    Row,
    first,
    merged,
    moment,
    newest_last,
    said_in_text,
)
from nomad_sessions.formats.event_documents import event_of
from nomad_sessions.formats.opencode import parse_session
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import mapping, text

__all__ = [
    "Found",
    "Kind",
    "NotRead",
    "event_from",
    "mail_from",
    "message_from",
    "read_documents",
    "session_from",
    "task_from",
]

Kind: TypeAlias = Literal["session", "message", "task", "event", "mail"]
Record: TypeAlias = dict[str, Any]
_TYPES: dict[str, Kind] = {
    "session": "session",
    "message": "message",
    "text": "message",
    "session_message": "message",
    "inter_agent_communication": "mail",
    "projected_event": "event",
}
_CREATED = ("createdAt", "created_at", "timestamp")
_UPDATED = ("updatedAt", "updated_at")
_MARKDOWN_ID = re.compile(r"^\*\*ID:\*\*[ \t]*(\S+)", re.MULTILINE)
_MARKDOWN_TITLE = re.compile(r"^# Session:[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_MARKDOWN_DESCRIPTION = re.compile(r"^## Description\n+(.*?)\n+---", re.MULTILINE | re.DOTALL)
_LEGACY = re.compile(r"\s*Session:\s*(\S+)\s*")


class Found(NamedTuple):
    """A record that rows amount to."""

    kind: Kind
    record: Record


class NotRead(NamedTuple):
    """Rows that are none: their id, or what else names them, and why."""

    id: str
    reason: str


def read_documents(of: Kind, documents: Iterable[Row]) -> Iterator[Found | NotRead]:
    """All that the rows of a collection are, one record an id, whatever they are; `of` says what a row is that does not
    say so itself. The rows are to come in the order of their insertion. They are held in memory."""
    groups: dict[tuple[Kind, str], list[Row]] = {}
    for row in documents:
        for kind, identifier, each in _told_apart(of, row):
            groups.setdefault((kind, identifier), []).append(each)
    for (kind, identifier), copies in groups.items():
        record = _READERS[kind](copies)
        yield NotRead(identifier, record) if isinstance(record, str) else Found(kind, record)


def _told_apart(of: Kind, row: Row) -> Iterator[tuple[Kind, str, Row]]:
    """What a row is, and the id that its copies share; for a list of messages, each of them as a row."""
    metadata = mapping(row.get("metadata"))
    own = text(row.get("id")) or str(row.get("_id", ""))
    if own.endswith(":messages"):
        said = said_in_text(row)
        session = own.removesuffix(":messages").removeprefix("session:")
        for number, each in enumerate(said if isinstance(said, list) else [said]):
            name = _message_id(each) or f"{own}#{number}"
            yield "message", name, {"id": name, "said": each, "metadata": {"sessionId": session}}
        return
    kind = _TYPES.get(text(metadata.get("type")) or "", of)
    if first(("eventType", "event_type"), metadata) or own.startswith("event:"):
        kind = "event"
    elif own.startswith("session:"):
        kind = "session"
    yield kind, _shared_id(kind, own, row, metadata), row


def _shared_id(kind: Kind, own: str, row: Row, metadata: Row) -> str:
    if kind == "message":
        return _message_id(said_in_text(row)) or first(MESSAGE_IDS, metadata) or own
    return _session_id([row]) or own if kind == "session" else own


def _message_id(said: Any) -> str | None:
    given = mapping(said)
    return text(mapping(given.get("info")).get("id")) or text(given.get("id"))


# Sessions


def session_from(copies: Sequence[Row]) -> Record | str:
    """The session that rows of one id are, or why they are none."""
    rows = newest_last(copies)
    row, metadata = merged(rows)
    session_id = _session_id(rows)
    if session_id is None:
        return "it names no session"
    said = next((each for each in map(said_in_text, reversed(rows)) if isinstance(each, dict)), {})
    session = _session(session_id, said)
    prose = text(row.get("text")) or "" if not said else ""
    title = text(session.get("title")) or text(metadata.get("title")) or _one(_MARKDOWN_TITLE, prose)
    description = text(said.get("description")) or _one(_MARKDOWN_DESCRIPTION, prose)
    session.update({key: value for key, value in (("title", title), ("description", description)) if value})
    session["createdAt"] = session["createdAt"] or moment(_CREATED, said, row, metadata) or 0
    session["updatedAt"] = session["updatedAt"] or moment(_UPDATED, said, metadata, row) or session["createdAt"]
    return session


def _session(session_id: str, said: Mapping[str, Any]) -> Record:
    if not said:
        return {"id": session_id, "createdAt": 0, "updatedAt": 0}
    parsed = parse_session({**said, "id": session_id}, [], ImportReport(source="", format="dualstore"))
    assert parsed is not None, "it has an id"
    return dict(parsed.session)


def _session_id(rows: Sequence[Row]) -> str | None:
    for row in reversed(rows):
        said, prose = mapping(said_in_text(row)), text(row.get("text")) or ""
        legacy = _LEGACY.fullmatch(prose)
        own = text(row.get("id")) or ""
        found = (
            text(said.get("id"))
            or _one(_MARKDOWN_ID, prose)
            or first(SESSION_IDS, mapping(row.get("metadata")), row)
            or (own.removeprefix("session:") if own.startswith("session:") else None)
            or (legacy[1] if legacy else None)
            or own
        )
        if found:
            return found
    return None


def _one(pattern: re.Pattern[str], prose: str) -> str | None:
    found = pattern.search(prose)
    return found[1].strip() or None if found else None


# Messages


def message_from(copies: Sequence[Row]) -> Record | str:
    """The message that rows of one id are, or why they are none. One that does not say its role has none."""
    rows = newest_last(copies)
    row, metadata = merged(rows)
    whole = [each for each in (_said(each) for each in rows) if each]
    said = whole[-1] if whole else {}
    info = mapping(said.get("info"))
    session_id = first(SESSION_IDS, info, said, metadata, row)
    if session_id is None:
        return "it names no session"
    message_id = _message_id(said) or first(MESSAGE_IDS, metadata) or text(row.get("id"))
    if message_id is None:
        return "it has no id"
    if info:
        return _from_opencode(session_id, said, moment(_CREATED, row, metadata))
    if not said and not text(row.get("text")):
        return "it has no text"
    message: Record = {"id": message_id, "sessionId": session_id}
    role = text(said.get("role")) or text(metadata.get("role"))
    if role:
        message["role"] = role
    message["content"] = text(said.get("content")) or ("" if said else _put_together(rows))
    # The row's time is that of its making; of rows made again, the first is the nearest.
    created = moment(_CREATED, said) or min((moment(_CREATED, each) or 0 for each in rows), default=0)
    message["createdAt"] = created
    message["updatedAt"] = moment(_UPDATED, said, metadata, row) or created
    return message


def _said(row: Row) -> Mapping[str, Any]:
    """The message that a row holds as JSON; nothing for one that is text itself."""
    said = mapping(row["said"] if "said" in row else said_in_text(row))
    return said if "info" in said or ("id" in said and ("content" in said or "role" in said)) else {}


def _from_opencode(session_id: str, said: Mapping[str, Any], created: int | None) -> Record | str:
    report = ImportReport(source="", format="dualstore")
    parsed = parse_session({"id": session_id}, [("", said)], report)
    assert parsed is not None, "it has an id"
    if not parsed.messages:
        return "; ".join(report.skipped) or "its message cannot be read"
    message = {**parsed.messages[0], "sessionId": session_id}
    if not message["createdAt"] and created:
        message["createdAt"] = message["updatedAt"] = created
    message.setdefault("content", "".join(each["content"] for each in message["parts"] if each["type"] == "text"))
    return message


def _put_together(rows: Sequence[Row]) -> str:
    """The text of rows that have one part each. The original writes all parts again whenever the message changes: what
    is there already is the same part, and what begins with one is that part, longer."""
    parts: list[str] = []
    for each in (text(row.get("text")) or "" for row in rows):
        grown = next((number for number, part in enumerate(parts) if each.startswith(part)), None)
        if grown is not None:
            parts[grown] = each
        elif not any(part.startswith(each) for part in parts):
            parts.append(each)
    return "".join(parts)


# Tasks, mail and events


def task_from(copies: Sequence[Row]) -> Record | str:
    """The task that rows of one id are, the created one and its updates, or why they are none."""
    rows = newest_last(copies)
    row, metadata = merged(rows)
    identifier = text(row.get("id"))
    if identifier is None:
        return "it has no id"
    task: Record = {"id": identifier, "sessionId": first(SESSION_IDS, metadata, row) or identifier}
    for ours, names in _TASK_TEXTS.items():
        if found := first(names, metadata):
            task[ours] = found
    status = text(metadata.get("status")) or "pending"
    # "idle" says of the session that nothing runs in it just now; the task has not ended.
    task["status"] = "running" if status == "idle" else status
    for ours, names in _TASK_VALUES.items():
        if (value := next((metadata[name] for name in names if name in metadata), None)) is not None:
            task[ours] = value
    given = text(row.get("text"))
    if given and given != task.get("taskType"):
        task.setdefault("inputData", given)
    start = moment(("startTime", "start_time"), metadata)
    task["createdAt"] = moment(_CREATED, row, metadata) or start or 0
    if start is not None or task["status"] != "pending":
        task["startTime"] = start if start is not None else task["createdAt"]
    last = moment(("lastActivity", "last_activity"), metadata)
    if last is not None:
        task["lastActivity"] = last
    task["updatedAt"] = moment(_UPDATED, metadata, row) or last or task["createdAt"]
    return task


_TASK_TEXTS: dict[str, tuple[str, ...]] = {
    "agentId": ("agentId", "agent_id"),
    "taskType": ("taskType", "task_type"),
    "errorMessage": ("errorMessage", "error_message"),
}
_TASK_VALUES: dict[str, tuple[str, ...]] = {
    "progress": ("progress",),
    "inputData": ("inputData", "input_data"),
    "outputData": ("outputData", "output_data", "completionMessage"),
}


def mail_from(copies: Sequence[Row]) -> Record | str:
    """The message between agents that rows of one id are; it was delivered when the row was written."""
    row, metadata = merged(newest_last(copies))
    identifier, recipient = text(row.get("id")), text(metadata.get("recipient"))
    if identifier is None or recipient is None:
        return "it has no id" if identifier is None else "it names no recipient"
    created = moment(_CREATED, row, metadata) or 0
    mail: Record = {"id": identifier, "recipient": recipient, "status": "acked", "content": row.get("text", "")}
    for ours, theirs in (("sender", "sender"), ("priority", "priority"), ("type", "messageType")):
        if found := text(metadata.get(theirs)):
            mail[ours] = found
    return {**mail, "createdAt": created, "updatedAt": created}


def event_from(copies: Sequence[Row]) -> Record | str:
    """The event that rows of one id are, or why they are none."""
    report = ImportReport(source="", format="dualstore")
    newest = newest_last(copies)[-1]
    event = event_of("", {key: value for key, value in newest.items() if key != "_id" or "id" not in newest}, report)
    if event is None:
        return "; ".join(report.skipped)
    event["timestamp"] = moment(("timestamp",), newest, mapping(newest.get("metadata"))) or event["timestamp"]
    about = {"sessionId": event.pop("session_id"), "messageId": event.pop("message_id")}
    return event | {key: value for key, value in about.items() if value is not None}


_READERS = {
    "session": session_from,
    "message": message_from,
    "task": task_from,
    "event": event_from,
    "mail": mail_from,
}
