"""An OpenCode export made of any session, whatever tool it came from: one that `opencode import` takes.

| here | there |
|---|---|
| user, system | user message with text and file parts; a system message's are `synthetic` |
| assistant | assistant message: step-start, its parts, step-finish; `parentID` is the user message before it |
| thinking, text, code | reasoning, text, text in a fence |
| a call and its result, also one that is a message of its own | tool part, `completed` or `error` |
| a result without a call | synthetic user text |

What came from OpenCode is given back as it was. The program orders messages by time, then id, and ids wrap around every
795 days: so the times of the others are moved on where they do not grow, and their ids are made from those times.

Source: the fields that `opencode import` 1.18.34 insists on, found by leaving out one at a time, and its form of ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nomad_sessions.formats.importing import mark_of
from nomad_sessions.formats.opencode import message_to_export, to_export
from nomad_sessions.formats.opencode_parts import Attachment
from nomad_sessions.formats.pairing import Waiting
from nomad_sessions.formats.turns import NO_RESULT, File, answer_of, file_of
from nomad_sessions.formats.values import mapping, objects, text
from nomad_sessions.operations.files import data_url
from nomad_sessions.storage.codec import decode_text

__all__ = ["to_opencode"]

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_IDS = 1 << 48
_VERSION = "1.18.34"
_AGENT = "build"
_UNKNOWN = {"providerID": "unknown", "modelID": "unknown"}


def to_opencode(
    session: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    *,
    visible: int,
    attachment: Attachment,
) -> dict[str, Any]:
    """The export, from a session's mapping and all its messages, hidden ones at the end. Pure but for `attachment`."""
    if all(mark_of(each).get("format") == "opencode" for each in (session, *messages)):
        return to_export(session, messages, visible=visible, attachment=attachment)
    return _Maker(session, attachment).make(messages, visible)


class _Maker:
    """One export in the making."""

    def __init__(self, session: Mapping[str, Any], attachment: Attachment) -> None:
        self._session = session
        self._attachment = attachment
        known = str(session["id"])
        self._id = known if known.startswith("ses") else _id("ses", known, session.get("createdAt") or 0, 0)
        self._time = 0
        self._user = ""
        self._out: list[dict[str, Any]] = []
        self._waiting = Waiting[dict[str, Any]]()  # The states of the calls.

    def make(self, messages: Sequence[Mapping[str, Any]], visible: int) -> dict[str, Any]:
        """The whole export."""
        hidden = None
        for number, message in enumerate(messages):
            before = len(self._out)
            self._message(message)
            if number >= visible and hidden is None and len(self._out) > before:
                hidden = self._out[before]["info"]["id"]
        for state in self._waiting:
            _settle(state, NO_RESULT, is_error=True)
        return {"info": self._info(hidden), "messages": self._out}

    def _info(self, hidden: str | None) -> dict[str, Any]:
        session = self._session
        theirs = mark_of(session).get("format") == "opencode"
        info: dict[str, Any] = to_export(session, [])["info"] if theirs else {}
        title = text(session.get("title")) or "Untitled"
        made: dict[str, Any] = {
            "id": self._id,
            "slug": re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "session",
            "projectID": "global",
            "directory": text(session.get("directory")) or "/",
            "title": title,
            "version": _VERSION,
            "time": {"created": session.get("createdAt") or 0, "updated": session.get("updatedAt") or 0},
        }
        parent = text(session.get("parentId"))
        if parent is not None and parent.startswith("ses"):
            made["parentID"] = parent
        info = {**made, **info}
        if hidden is not None:
            info["revert"] = {"messageID": hidden}
        return info

    def _message(self, message: Mapping[str, Any]) -> None:
        role = message.get("role")
        if mark_of(message).get("format") == "opencode":
            self._take(message_to_export(message, self._id, self._attachment))
        elif role == "tool":
            self._result(message)
        elif role == "assistant":
            self._assistant(message)
        else:
            self._said(message, synthetic=role != "user")

    def _take(self, item: dict[str, Any]) -> None:
        """One message more, as OpenCode has it."""
        info = item["info"]
        self._time = max(self._time, info["time"]["created"])
        if info["role"] == "user":
            self._user = info["id"]
        self._out.append(item)

    def _next(self, message: Mapping[str, Any]) -> tuple[int, str]:
        """The time and the id of the next message of our own."""
        self._time = max(self._time + 1, int(message.get("createdAt") or 0))
        return self._time, _id("msg", str(message["id"]), self._time, 0)

    def _part(self, message_id: str, kind: str, **fields: Any) -> dict[str, Any]:
        """A part, to be numbered once all of its message are there."""
        return {"sessionID": self._id, "messageID": message_id, "type": kind, **fields}

    def _put(self, info: dict[str, Any], parts: list[dict[str, Any]]) -> None:
        time = info["time"]["created"]
        numbered = [{"id": _id("prt", info["id"], time, n), **part} for n, part in enumerate(parts, 1)]
        self._take({"info": info, "parts": numbered})

    def _said(self, message: Mapping[str, Any], *, synthetic: bool) -> None:
        time, message_id = self._next(message)
        model = mapping(message.get("model") or self._session.get("model"))
        named = {"providerID": model.get("providerId"), "modelID": model.get("modelId")} if model else _UNKNOWN
        info = {
            "id": message_id,
            "sessionID": self._id,
            "role": "user",
            "time": {"created": time},
            "agent": text(message.get("agent")) or text(self._session.get("agent")) or _AGENT,
            "model": named,
        }
        mark = {"synthetic": True} if synthetic else {}
        parts = [
            part | (mark if part["type"] == "text" else {})
            for part in self._parts(message, message_id, time)
            if part["type"] in ("text", "file")
        ]
        self._put(info, parts)

    def _assistant(self, message: Mapping[str, Any]) -> None:
        if not self._user:
            self._said({"id": f"{message['id']} before", "createdAt": message.get("createdAt")}, synthetic=True)
        time, message_id = self._next(message)
        model = mapping(message.get("model") or self._session.get("model"))
        agent = text(message.get("agent")) or text(self._session.get("agent")) or _AGENT
        usage = mapping(message.get("usage"))
        directory = text(self._session.get("directory")) or "/"
        parts = self._parts(message, message_id, time)
        tokens = {name: usage.get(name) or 0 for name in ("input", "output", "reasoning")}
        tokens["cache"] = {"read": usage.get("cacheRead") or 0, "write": usage.get("cacheWrite") or 0}
        finish = "tool-calls" if any(part["type"] == "tool" for part in parts) else "stop"
        info = {
            "id": message_id,
            "sessionID": self._id,
            "role": "assistant",
            "time": {"created": time, "completed": max(time, int(message.get("updatedAt") or 0))},
            "parentID": self._user,
            "modelID": model.get("modelId") or "unknown",
            "providerID": model.get("providerId") or "unknown",
            "mode": agent,
            "agent": agent,
            "path": {"cwd": directory, "root": directory},
            "cost": usage.get("cost") or 0,
            "tokens": tokens,
            "finish": finish,
        }
        error = mapping(message.get("error"))
        if error:
            info["error"] = {
                "name": "UnknownError",
                "data": {"message": str(error.get("message") or error.get("name"))},
            }
        begin = self._part(message_id, "step-start")
        end = self._part(message_id, "step-finish", reason=finish, cost=info["cost"], tokens=tokens)
        self._put(info, [begin, *parts, end])
        for part in parts:
            if part["type"] == "tool" and "status" not in part["state"]:
                self._waiting.add(part["callID"], part["state"])

    def _parts(self, message: Mapping[str, Any], message_id: str, time: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        given = objects(message.get("parts"))
        if not given:
            given = [{"type": "text", "content": message.get("content")}]
            given += [{"type": "tool_call", "toolCall": call} for call in objects(message.get("toolCalls"))]
        for part in given:
            kind, content = part.get("type"), text(part.get("content"))
            if kind == "thinking" and content is not None:
                parts.append(self._part(message_id, "reasoning", text=content, time={"start": time, "end": time}))
            elif kind == "code" and content is not None:
                parts.append(self._part(message_id, "text", text=f"```\n{content}\n```"))
            elif kind == "tool_call" and isinstance(part.get("toolCall"), dict):
                parts.append(self._tool(part, message_id, time))
            elif isinstance(part.get("file"), dict):
                parts.append(self._file(file_of(part["file"]), message_id))
            elif content is not None:
                parts.append(self._part(message_id, "text", text=content))
        if not parts and text(message.get("content")):  # Parts of another tool, of which only this has the text.
            parts.append(self._part(message_id, "text", text=message["content"]))
        return parts

    def _tool(self, part: Mapping[str, Any], message_id: str, time: int) -> dict[str, Any]:
        call = part["toolCall"]
        function = mapping(call.get("function"))
        start, end = part.get("startedAt") or time, part.get("endedAt") or time
        state: dict[str, Any] = {"input": _input(function.get("arguments")), "time": {"start": start, "end": end}}
        made = self._part(message_id, "tool", callID=str(call.get("id") or ""), tool=function.get("name") or "unknown")
        result = part.get("toolResult")
        if isinstance(result, dict):
            _settle(state, str(result.get("content") or ""), is_error=result.get("isError") is True)
        return {**made, "state": state}

    def _file(self, file: File, message_id: str) -> dict[str, Any]:
        url = file.url
        if url is None and file.sha256 is not None:
            url = data_url(file.mime, self._attachment(file.sha256))
        named = {"filename": file.name} if file.name else {}
        return self._part(message_id, "file", mime=file.mime or "application/octet-stream", url=url or "", **named)

    def _result(self, message: Mapping[str, Any]) -> None:
        told, is_error, files = answer_of(message)
        state = self._waiting.take(str(message.get("toolCallId") or ""))
        if state is not None:
            _settle(state, told, is_error=is_error)
        else:
            tool = text(message.get("toolName")) or "a tool"
            self._said({**message, "parts": [], "content": f"[result of {tool}]\n{told}"}, synthetic=True)
        if files and self._out:
            self._attach(files, message)

    def _attach(self, files: Sequence[File], message: Mapping[str, Any]) -> None:
        """A result's files, in a user message: where the program takes files from everybody."""
        time, message_id = self._next({**message, "id": f"{message['id']} files"})
        parts = [self._file(each, message_id) for each in files]
        info = {
            "id": message_id,
            "sessionID": self._id,
            "role": "user",
            "time": {"created": time},
            "agent": text(self._session.get("agent")) or _AGENT,
            "model": _UNKNOWN,
        }
        self._put(info, parts)


def _settle(state: dict[str, Any], told: str, *, is_error: bool) -> None:
    """Gives a call its result."""
    if is_error:
        state |= {"status": "error", "error": told}
    else:
        state |= {"status": "completed", "output": told, "title": "", "metadata": {}}


def _input(arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, dict):
        return arguments
    try:
        value = decode_text(str(arguments or "{}"))
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"_raw": str(arguments)}


def _id(prefix: str, source: str, time: int, counter: int) -> str:
    """An id in OpenCode's form, the same for the same source: 12 hex digits of time, 14 of base 62 of a digest. A
    session's time is its complement, so that the newest comes first."""
    number = (time * 4096 + counter) % _IDS
    if prefix == "ses":
        number = _IDS - 1 - number
    rest = int.from_bytes(hashlib.sha256(f"{prefix} {source} {counter}".encode()).digest()[:12], "big")
    letters = []
    for _ in range(14):
        rest, digit = divmod(rest, 62)
        letters.append(_BASE62[digit])
    return f"{prefix}_{number:012x}{''.join(letters)}"
