"""What a record of the journal is as an event. Pure.

| record | event | properties |
|---|---|---|
| session.created, session.forked | `session.created` | `info`, the session; `forkedFrom` |
| session.updated, .reverted, .unreverted | `session.updated` | `set`, `unset`; `revert` |
| session.deleted | `session.deleted` | |
| message.added, message.merged | `message.updated` | `info`, the message; `created` |
| message.updated | `message.updated` | `set`, `unset` |
| message.delta | `message.part.delta` | `delta`, the text; `part`, where not the last; `new`, a part that begins |
| message.deleted | `message.removed` | |
| task.created, .merged, .updated, .deleted; mail.… | the same | `id` of the row; `info`, the row; `set`, `unset` |
| workspace.configured, .updated | `workspace.updated` | `settings`, `set`, `unset` |
| event.recorded | as it was recorded | as they were recorded |

The names are OpenCode's, where it has one. A record of a kind that this version does not know keeps its own name.
"""

from __future__ import annotations

from typing import Any

from nomad_sessions.models import Event
from nomad_sessions.workspace.state import RECORDED, WORKSPACE, Body

__all__ = ["event_of"]

_ENVELOPE = frozenset({"seq", "id", "ts", "type", "sessionId", "messageId", "durable", "until", "delta", "to", "about"})
_NAMES = {
    "session.forked": "session.created",
    "session.reverted": "session.updated",
    "session.unreverted": "session.updated",
    "message.added": "message.updated",
    "message.merged": "message.updated",
    "message.delta": "message.part.delta",
    "message.deleted": "message.removed",
    "workspace.configured": "workspace.updated",
}


def event_of(workspace_id: str, record: Body) -> Event:
    """The event that a record is, completed as `LogReader` gives it. Shares what is nested with the record."""
    kind: str = record["type"]
    session_id = record["sessionId"]
    fields: dict[str, Any] = {
        "seq": record["seq"],
        "id": record.get("id", ""),
        "timestamp": record.get("ts", 0),
        "type": _NAMES.get(kind, kind),
        "session_id": record.get("about") if session_id == WORKSPACE else session_id,
        "message_id": record.get("messageId") if isinstance(record.get("messageId"), str) else None,
        "properties": {},
        "workspace_id": workspace_id,
        "recorded": kind == RECORDED,
    }
    if kind == RECORDED:
        told = record["event"]
        fields |= {"session_id": told.get("sessionId"), "message_id": told.get("messageId")}
        fields |= {key: value for key, value in told.items() if key not in ("sessionId", "messageId")}
    else:
        fields["properties"] = _properties(kind, record)
    return Event.model_construct(_fields_set=None, **fields)


def _properties(kind: str, record: Body) -> dict[str, Any]:
    rest = {key: value for key, value in record.items() if key not in _ENVELOPE}
    if "rowId" in rest:
        row = {"info": rest.pop("row")} if "row" in rest else {}
        return {"id": rest.pop("rowId"), **row, **rest}
    info = rest.pop("session", None) or rest.pop("message", None)
    if info is not None:
        rest = {"info": info}
        if kind != "message.merged":
            rest["created"] = True
        if "sourceId" in record:
            rest["forkedFrom"] = record["sourceId"]
    elif kind == "message.delta":
        rest["delta"] = rest.pop("text", "")
    elif kind == "session.unreverted":
        rest["unset"] = ["revert"]
    return rest
