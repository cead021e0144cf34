"""OpenCode's message parts as ours, and back.

| OpenCode | ours | fields that move |
|---|---|---|
| text | text | text -> content |
| reasoning | thinking | text -> content |
| tool | tool_call | callID, tool, state.input -> toolCall; state.status -> state; state.time -> startedAt, endedAt |
| | | state.output or state.error -> toolResult |
| file | file | mime, filename, url -> file |
| any other | kept as it is named | none |

What does not move is kept whole in the part, under `opencode` (see `residue.py`). A part that lacks a field which ours
needs (a tool part without callID) is treated as "any other". One part always becomes one part.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats.residue import attach, restore, take_apart
from nomad_sessions.formats.values import as_json
from nomad_sessions.operations.files import data_url
from nomad_sessions.storage.codec import decode_text

__all__ = ["KEY", "Attachment", "integer", "part_from_opencode", "part_to_opencode", "text_or_none"]

KEY = "opencode"
Attachment = Callable[[str], bytes]
_TO_OURS = {"text": "text", "reasoning": "thinking"}
_TO_THEIRS = {"text": "text", "thinking": "reasoning"}


def part_from_opencode(source: Mapping[str, Any], session_id: str, message_id: str) -> dict[str, Any]:
    """Our mapping of one part. Pure; `source` is not changed, and free-form values are shared with it."""
    part = _forward(source)
    part_id = source.get("id")
    if isinstance(part_id, str):
        part["id"] = part_id
    return attach(part, KEY, source, _backward(part, session_id, message_id, None))


def part_to_opencode(
    part: Mapping[str, Any], session_id: str, message_id: str, attachment: Attachment | None = None
) -> dict[str, Any]:
    """The inverse of `part_from_opencode`; `attachment` gives the bytes of files that were stored out of line."""
    return restore(_backward(part, session_id, message_id, attachment), *take_apart(part, KEY))


def integer(value: Any) -> int | None:
    """A time in ms as an int; None for anything that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 2**53:
        return None
    return int(value)


def text_or_none(value: Any) -> str | None:
    """The value where it is text, else None."""
    return value if isinstance(value, str) else None


def _forward(source: Mapping[str, Any]) -> dict[str, Any]:
    kind = text_or_none(source.get("type"))
    if kind in _TO_OURS and isinstance(source.get("text"), str):
        return {"type": _TO_OURS[kind], "content": source["text"]}
    if kind == "tool" and isinstance(source.get("callID"), str) and isinstance(source.get("tool"), str):
        return _forward_tool(source)
    if kind == "file" and _is_plain_file(source.get("mime"), source.get("url")):
        name = text_or_none(source.get("filename"))
        file = {"mime": source["mime"], "url": source["url"]}
        return {"type": "file", "file": file if name is None else {**file, "name": name}}
    return {"type": kind or "unknown"}


def _is_plain_file(mime: Any, url: Any) -> bool:
    """Whether `file` can hold this one. The store moves large base64 out of line and keeps only the bytes, so a URL
    that could not be made again from them (another type, parameters, odd padding) is left where it is."""
    if not isinstance(mime, str) or not isinstance(url, str):
        return False
    head, base64_mark, data = url.partition(";base64,")
    if not base64_mark or not head.startswith("data:"):
        return True
    try:
        return url == data_url(mime, base64.b64decode(data, validate=True))
    except ValueError:
        return False


def _forward_tool(source: Mapping[str, Any]) -> dict[str, Any]:
    call_id = source["callID"]
    state = source.get("state")
    state = state if isinstance(state, dict) else {}
    arguments = as_json(state.get("input", {}))
    function = {"name": source["tool"], "arguments": arguments}
    part: dict[str, Any] = {"type": "tool_call", "toolCall": {"id": call_id, "type": "function", "function": function}}
    status = state.get("status")
    if isinstance(status, str):
        part["state"] = status
    time = state.get("time")
    for theirs, ours in (("start", "startedAt"), ("end", "endedAt")):
        moment = integer(time.get(theirs)) if isinstance(time, dict) else None
        if moment is not None:
            part[ours] = moment
    if isinstance(state.get("output"), str):
        part["toolResult"] = {"toolCallId": call_id, "content": state["output"]}
    elif isinstance(state.get("error"), str):
        part["toolResult"] = {"toolCallId": call_id, "content": state["error"], "isError": True}
    return part


def _backward(
    part: Mapping[str, Any], session_id: str, message_id: str, attachment: Attachment | None
) -> dict[str, Any]:
    kind = part["type"]
    derived: dict[str, Any] = {"sessionID": session_id, "messageID": message_id, "type": kind}
    if "id" in part:
        derived["id"] = part["id"]
    if kind in _TO_THEIRS and part.get("content") is not None:
        derived |= {"type": _TO_THEIRS[kind], "text": part["content"]}
    elif kind == "tool_call" and part.get("toolCall"):
        derived |= _backward_tool(part)
    elif kind == "file" and part.get("file"):
        derived |= _backward_file(part["file"], attachment)
    return derived


def _backward_tool(part: Mapping[str, Any]) -> dict[str, Any]:
    call = part["toolCall"]
    state: dict[str, Any] = {}
    try:
        state["input"] = decode_text(call["function"]["arguments"])
    except ValueError:
        state["raw"] = call["function"]["arguments"]
    if part.get("state") is not None:
        state["status"] = part["state"]
    time = {
        theirs: part[ours]
        for theirs, ours in (("start", "startedAt"), ("end", "endedAt"))
        if part.get(ours) is not None
    }
    if time:
        state["time"] = time
    result = part.get("toolResult")
    if result:
        state["error" if result.get("isError") else "output"] = result["content"]
    return {"type": "tool", "callID": call["id"], "tool": call["function"]["name"], "state": state}


def _backward_file(file: Mapping[str, Any], attachment: Attachment | None) -> dict[str, Any]:
    derived = {"mime": file.get("mime"), "url": file.get("url")}
    if derived["url"] is None and file.get("sha256"):
        if attachment is None:
            raise InvalidInputError(
                field="attachment", value=file["sha256"], reason="a file is stored out of line: say how to read it"
            )
        derived["url"] = data_url(str(file.get("mime")), attachment(file["sha256"]))
    if file.get("name") is not None:
        derived["filename"] = file["name"]
    return derived
