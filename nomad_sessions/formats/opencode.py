"""What `opencode export` writes, `{"info": Session, "messages": [{"info": Message, "parts": [Part]}]}`, as our model.

One message becomes one message and one part one part, ids kept. A field that our model expresses is moved to its place:

- session: id, title, directory, agent, metadata as they are; parentID -> parentId; time.created, time.updated,
  time.archived -> createdAt, updatedAt, archivedAt; model {providerID, id} -> model {providerId, modelId};
  revert.messageID (the first message that is hidden) -> which messages are visible.
- message: id, role, agent as they are; time.created -> createdAt; parentID -> parentId; providerID, modelID -> model;
  tokens and cost -> usage; error {name, data.message} -> error {name, message}; status from error and time.completed.

Everything else stays in the record under `opencode` (see `residue.py`; the parts' table is in `opencode_parts.py`).

Invariant: `to_export` gives back what `parse` read, for every export whose messages and parts are well formed and in
OpenCode's order. Verified on all real exports and by a property in `tests/unit/test_formats.py`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nomad_sessions.formats.opencode_parts import (
    KEY,
    Attachment,
    integer,
    part_from_opencode,
    part_to_opencode,
    text_or_none,
)
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.residue import attach, restore, take_apart

__all__ = ["message_to_export", "parse", "parse_session", "sniff", "to_export"]

_ROLES = ("user", "assistant", "system", "tool")
_CACHE = (("cacheRead", "read"), ("cacheWrite", "write"))


def sniff(value: Any) -> bool:
    """Whether a JSON value has the shape of an OpenCode export."""
    return isinstance(value, dict) and isinstance(value.get("info"), dict) and isinstance(value.get("messages"), list)


def parse(value: Mapping[str, Any], report: ImportReport) -> list[ParsedSession]:
    """The one session of an export. Pure but for the report, which has what cannot be kept and where."""
    placed = [(f"messages[{index}]", item) for index, item in enumerate(value["messages"])]
    parsed = parse_session(value["info"], placed, report)
    return [] if parsed is None else [parsed]


def parse_session(
    info: Mapping[str, Any], placed: Sequence[tuple[str, Any]], report: ImportReport
) -> ParsedSession | None:
    """One session, from its info and its messages with the place of each; as an export has them, wherever they lay.

    Messages come ordered by `(time.created, id)`, parts by `id`, as OpenCode orders them (its ids alone wrap around).
    Pure but for the report; None where the session has no id.
    """
    session_id = info.get("id")
    report.sessions.read += 1
    if not isinstance(session_id, str) or not session_id:
        report.sessions.skipped += 1
        report.messages.read += len(placed)
        report.messages.skipped += len(placed)
        report.skip("info", "the session has no id")
        return None
    found: list[tuple[dict[str, Any], str]] = []
    seen: set[str] = set()
    for place, item in placed:
        report.messages.read += 1
        message = _message(item, place, session_id, report)
        if message is None:
            continue
        if message["id"] in seen:
            report.skip_message(place, "its id occurs twice")
            continue
        seen.add(message["id"])
        found.append((message, place))
    found.sort(key=lambda pair: (pair[0]["createdAt"], pair[0]["id"]))
    messages = [message for message, _ in found]
    visible = _visible(info.get("revert"), messages)
    session = attach(_session(info), KEY, info, _session_to_opencode(_session(info), _hidden_id(messages, visible)))
    return ParsedSession(session, messages, [place for _, place in found], visible)


def to_export(
    session: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    *,
    visible: int | None = None,
    attachment: Attachment | None = None,
) -> dict[str, Any]:
    """The inverse of `parse`: an export from a session's mapping and all its messages, hidden ones included, in order.

    `visible` is how many messages are not hidden (None: all). `attachment` maps a sha256 to bytes, for files that the
    store keeps out of line. Pure. Local edits show in the result; what OpenCode alone knows comes back as it was.
    """
    session_id = session["id"]
    first_hidden = None if visible is None else _hidden_id(messages, visible)
    rest, absent = take_apart(session, KEY)
    if first_hidden is None and isinstance(rest.get("revert"), dict) and "messageID" not in rest["revert"]:
        rest = {key: value for key, value in rest.items() if key != "revert"}
    return {
        "info": restore(_session_to_opencode(session, first_hidden), rest, absent),
        "messages": [message_to_export(message, session_id, attachment) for message in messages],
    }


def message_to_export(
    message: Mapping[str, Any], session_id: str, attachment: Attachment | None = None
) -> dict[str, Any]:
    """One message of an export, `{"info", "parts"}`."""
    parts = message.get("parts") or ()
    return {
        **take_apart(message, f"{KEY}Envelope")[0],
        "info": restore(_message_to_opencode(message, session_id), *take_apart(message, KEY)),
        "parts": [part_to_opencode(part, session_id, message["id"], attachment) for part in parts],
    }


def _session(info: Mapping[str, Any]) -> dict[str, Any]:
    time = info.get("time")
    time = time if isinstance(time, dict) else {}
    created = integer(time.get("created")) or 0
    session: dict[str, Any] = {
        "id": info["id"],
        "createdAt": created,
        "updatedAt": integer(time.get("updated")) or created,
    }
    for theirs, ours in (("title", "title"), ("parentID", "parentId"), ("directory", "directory"), ("agent", "agent")):
        if isinstance(info.get(theirs), str):
            session[ours] = info[theirs]
    archived = integer(time.get("archived"))
    if archived:
        session["archivedAt"] = archived
    model = info.get("model")
    if isinstance(model, dict) and isinstance(model.get("id"), str) and isinstance(model.get("providerID"), str):
        session["model"] = {"providerId": model["providerID"], "modelId": model["id"]}
    if isinstance(info.get("metadata"), dict):
        session["metadata"] = info["metadata"]
    return session


def _session_to_opencode(session: Mapping[str, Any], first_hidden: str | None) -> dict[str, Any]:
    time = {"created": session["createdAt"], "updated": session["updatedAt"]}
    if session.get("archivedAt"):
        time["archived"] = session["archivedAt"]
    info: dict[str, Any] = {"id": session["id"], "time": time}
    for theirs, ours in (("title", "title"), ("parentID", "parentId"), ("directory", "directory"), ("agent", "agent")):
        if session.get(ours) is not None:
            info[theirs] = session[ours]
    if session.get("model"):
        info["model"] = {"id": session["model"]["modelId"], "providerID": session["model"]["providerId"]}
    if session.get("metadata"):
        info["metadata"] = session["metadata"]
    if first_hidden is not None:
        info["revert"] = {"messageID": first_hidden}
    return info


def _message(item: Any, place: str, session_id: str, report: ImportReport) -> dict[str, Any] | None:
    info = item.get("info") if isinstance(item, dict) else None
    if not isinstance(info, dict):
        report.skip_message(place, "the message has no info")
        return None
    message_id = info.get("id")
    if not isinstance(message_id, str) or not message_id:
        report.skip_message(place, "the message has no id")
        return None
    time = info.get("time")
    time = time if isinstance(time, dict) else {}
    created = integer(time.get("created"))
    if created is None:
        report.warn(place, "the message has no time, so it comes first")
    message = _message_fields(info, created or 0, integer(time.get("completed")))
    if message["role"] != info.get("role"):
        report.warn(place, f"the unknown role {reprlib.repr(info.get('role'))} is kept as {message['role']!r}")
    message["parts"] = _parts(item.get("parts"), f"{place}.parts", session_id, message_id, report)
    attach(message, KEY, info, _message_to_opencode(message, session_id))
    envelope = {key: value for key, value in item.items() if key not in ("info", "parts")}
    return message | {f"{KEY}Envelope": envelope} if envelope else message


def _message_fields(info: Mapping[str, Any], created: int, completed: int | None) -> dict[str, Any]:
    role = info.get("role")
    message: dict[str, Any] = {
        "id": info["id"],
        "role": role if role in _ROLES else "system",
        "createdAt": created,
        "updatedAt": completed or created,
        "status": "completed",
    }
    if isinstance(info.get("parentID"), str):
        message["parentId"] = info["parentID"]
    if isinstance(info.get("agent"), str):
        message["agent"] = info["agent"]
    # User messages name the model in an object, assistant messages in two fields of their own.
    model = info if message["role"] == "assistant" else info.get("model")
    if isinstance(model, dict) and text_or_none(model.get("providerID")) and text_or_none(model.get("modelID")):
        message["model"] = {"providerId": model["providerID"], "modelId": model["modelID"]}
    usage = _usage(info)
    if usage:
        message["usage"] = usage
    error = info.get("error")
    if isinstance(error, dict) and isinstance(error.get("name"), str):
        data = error.get("data")
        text = data.get("message") if isinstance(data, dict) else None
        message["error"] = {"name": error["name"], "message": text if isinstance(text, str) else ""}
        message["status"] = "error"
    elif message["role"] == "assistant" and completed is None:
        # OpenCode never finished this answer; `interrupted_messages` lists it.
        message["status"] = "streaming"
    return message


def _message_to_opencode(message: Mapping[str, Any], session_id: str) -> dict[str, Any]:
    info: dict[str, Any] = {
        "id": message["id"],
        "sessionID": session_id,
        "role": message["role"],
        "time": {"created": message["createdAt"]},
    }
    if message.get("parentId") is not None:
        info["parentID"] = message["parentId"]
    if message.get("agent") is not None:
        info["agent"] = message["agent"]
    model = message.get("model")
    if model:
        named = {"providerID": model["providerId"], "modelID": model["modelId"]}
        info |= named if message["role"] == "assistant" else {"model": named}
    usage = message.get("usage")
    if usage:
        info |= _usage_to_opencode(usage)
    error = message.get("error")
    if error:
        info["error"] = {"name": error["name"], "data": {"message": error["message"]}}
    return info


def _usage(info: Mapping[str, Any]) -> dict[str, Any]:
    usage: dict[str, Any] = {}
    tokens = info.get("tokens")
    if isinstance(tokens, dict):
        cache = tokens.get("cache")
        pairs = [(name, tokens.get(name)) for name in ("input", "output", "reasoning")]
        pairs += [(ours, cache.get(theirs)) for ours, theirs in _CACHE] if isinstance(cache, dict) else []
        usage = {name: value for name, value in pairs if type(value) is int and value >= 0}
    cost = info.get("cost")
    if type(cost) in (int, float):
        usage["cost"] = cost
    return usage


def _usage_to_opencode(usage: Mapping[str, Any]) -> dict[str, Any]:
    tokens: dict[str, Any] = {name: usage[name] for name in ("input", "output", "reasoning") if name in usage}
    cache = {theirs: usage[ours] for ours, theirs in _CACHE if ours in usage}
    if cache:
        tokens["cache"] = cache
    found: dict[str, Any] = {"tokens": tokens} if tokens else {}
    if "cost" in usage:
        found["cost"] = usage["cost"]
    return found


def _parts(items: Any, place: str, session_id: str, message_id: str, report: ImportReport) -> list[dict[str, Any]]:
    if not isinstance(items, list):
        if items is not None:
            report.skip(place, "the parts are not a list")
        return []
    sources: list[Mapping[str, Any]] = []
    for index, item in enumerate(items):
        if isinstance(item, dict):
            sources.append(item)
        else:
            report.skip(f"{place}[{index}]", "the part is not an object")
    sources.sort(key=lambda source: text_or_none(source.get("id")) or "")
    return [part_from_opencode(source, session_id, message_id) for source in sources]


def _visible(revert: Any, messages: Iterable[Mapping[str, Any]]) -> int:
    """How many messages OpenCode still shows. With a `partID` the named message stays, only its end is hidden."""
    ids = [message["id"] for message in messages]
    if not isinstance(revert, dict) or revert.get("messageID") not in ids:
        return len(ids)
    return ids.index(revert["messageID"]) + (1 if revert.get("partID") else 0)


def _hidden_id(messages: Sequence[Mapping[str, Any]], visible: int) -> str | None:
    return str(messages[visible]["id"]) if visible < len(messages) else None
