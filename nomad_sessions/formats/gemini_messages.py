"""Gemini CLI's records as messages. Pure, but for the report.

| Gemini CLI | here |
|---|---|
| user | user message: text, inline data as files |
| gemini | answer: thoughts, text, calls; then a message of role `tool` for each call that has a result |
| info, warning, error | system message |
| any other piece of a message | a part of its own type, the piece under `gemini` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import as_json, as_text, blocks, count, mapping, text

__all__ = ["SPOKEN", "TOOL", "messages_of"]

TOOL = "gemini-cli"
_USAGE = (("input", "input"), ("output", "output"), ("cacheRead", "cached"), ("reasoning", "thoughts"))
_NOTES = ("info", "warning", "error")
SPOKEN = ("user", "gemini", *_NOTES)
"""The types of records that are messages."""


def messages_of(record: Mapping[str, Any], place: str, report: ImportReport) -> Iterator[dict[str, Any]]:
    """The messages that a record stands for."""
    kind = record.get("type")
    if kind == "user":
        yield {"role": "user", **_content(record.get("content"))}
    elif kind == "gemini":
        calls = report.objects(record.get("toolCalls"), f"{place} toolCalls")
        yield _answer(record, calls)
        for call in calls:
            if "result" in call:
                failed = call.get("status") not in ("success", None)
                result = {"role": "tool", "toolCallId": as_text(call.get("id")), **_response(call["result"])}
                yield {**result, "toolName": as_text(call.get("name")), "status": "error" if failed else "completed"}
    elif kind in _NOTES:
        yield {"role": "system", **_content(record.get("content")), "metadata": {"geminiType": kind}}
    else:
        report.ignore(f"Gemini CLI's own record: {text(kind) or 'no type'}")


def _answer(record: Mapping[str, Any], calls: list[Mapping[str, Any]]) -> dict[str, Any]:
    parts = [_thought(thought) for thought in blocks(record.get("thoughts"))]
    content = _content(record.get("content"))
    parts += content.get("parts") or ([{"type": "text", "content": content["content"]}] if content["content"] else [])
    for call in calls:
        if not text(call.get("name")):
            parts.append({"type": text(call.get("type")) or "toolCall", "gemini": dict(call)})
            continue
        function = {"name": as_text(call.get("name")), "arguments": as_json(call.get("args", {}))}
        parts.append({"type": "tool_call", "toolCall": {"id": as_text(call.get("id")), "function": function}})
    message: dict[str, Any] = {"role": "assistant", "parts": parts, "status": "completed"}
    if text(record.get("model")):
        message["model"] = {"providerId": "google", "modelId": record["model"]}
    tokens = mapping(record.get("tokens"))
    usage = {ours: found for ours, theirs in _USAGE if (found := count(tokens.get(theirs))) is not None}
    return {**message, "usage": usage} if usage else message


def _thought(thought: Mapping[str, Any]) -> dict[str, Any]:
    told = "\n".join(each for key in ("subject", "description", "text") if (each := text(thought.get(key))))
    return {"type": "thinking", "content": told} if told else {"type": "thought", "gemini": dict(thought)}


def _content(given: Any) -> dict[str, Any]:
    """A `PartListUnion`: text, a part, or a list of either."""
    if isinstance(given, str):
        return {"content": given}
    parts = [_part(piece) for piece in blocks(given)]
    if len(parts) == 1 and _is_text(parts[0]):
        return {"content": parts[0]["content"]}
    return {"parts": parts, "content": ""} if parts else {"content": ""}


def _part(piece: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(piece.get("text"), str):
        return {"type": "text", "content": piece["text"]}
    inline = mapping(piece.get("inlineData"))
    if text(inline.get("mimeType")) and text(inline.get("data")):
        url = f"data:{inline['mimeType']};base64,{inline['data']}"
        return {"type": "file", "file": {"mime": inline["mimeType"], "url": url}}
    return {"type": text(piece.get("type")) or next(iter(piece), "unknown"), "gemini": dict(piece)}


def _is_text(part: Mapping[str, Any]) -> bool:
    return part["type"] == "text" and "content" in part


def _response(result: Any) -> dict[str, Any]:
    """What a tool answered: its text as one, and files and other pieces beside it."""
    told: list[str] = []
    others: list[dict[str, Any]] = []
    for piece in blocks(result):
        answer = piece.get("functionResponse")
        if isinstance(answer, dict):
            response = answer.get("response")
            output = mapping(response).get("output", mapping(response).get("error"))
            told.append(output if isinstance(output, str) else as_json(answer if response is None else response))
            others += [_part(each) for each in blocks(answer.get("parts"))]
        else:
            part = _part(piece)
            told += [part["content"]] if _is_text(part) else []
            others += [] if _is_text(part) else [part]
    joined = "\n".join(told)
    return {"parts": [{"type": "text", "content": joined}, *others]} if others else {"content": joined}
