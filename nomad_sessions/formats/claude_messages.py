"""Claude Code's records as messages.

| Claude Code | here |
|---|---|
| assistant lines with one `message.id` | one message, a part for each block in line order, usage counted once |
| text, thinking, tool_use | parts text, thinking (with `signature`), tool_call (`input` as JSON text) |
| any other block | a part of its own type, the block under `claude` |
| a user's text, images, documents | one message; image bytes as file parts |
| each tool_result | one message of role `tool`: text, files, other blocks, `status` is `error` where it failed |
| compact_boundary, a compaction's summary | messages of role `system` |
| what the harness wrote (`isMeta`, local commands, hooks, attachments) | left out, counted |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nomad_sessions.formats.claude_tree import Node
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import as_json, as_text, blocks, content_of, count, mapping, milliseconds, text
from nomad_sessions.ids import derive_id

__all__ = ["TOOL", "Reader", "Told", "messages_of"]

TOOL = "claude-code"
_FILES = ("image", "document")
_LOCAL = ("<command-name>", "<command-message>", "<local-command-")
_USAGE = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cacheRead", "cache_read_input_tokens"),
    ("cacheWrite", "cache_creation_input_tokens"),
)
Reader = Callable[[Node], Mapping[str, Any]]
"""Gives the record of a node that has not kept it."""
Told = tuple[dict[str, Any], str]
"""A message, and where it stands in the source."""


def messages_of(nodes: Sequence[Node], read: Reader, source: str, path: str, report: ImportReport) -> Iterator[Told]:
    """The messages of these records, which are a conversation in file order. `source` is the id of the session there,
    from which the ids here are derived."""
    lines: dict[str, list[Node]] = {}
    for node in nodes:
        if node.message_id:
            lines.setdefault(node.message_id, []).append(node)
    time = 0
    names: dict[str, str] = {}
    for node in nodes:
        if node.message_id:
            own = lines[node.message_id]
            if own[0] is not node:
                continue
            records = [each.record or read(each) for each in own]
        else:
            records = [node.record or read(node)]
        if not records[0]:
            continue  # Gone from the file since it was indexed; the next import sees to it.
        time = milliseconds(records[0].get("timestamp")) or time
        last = time if len(records) == 1 else milliseconds(records[-1].get("timestamp")) or time
        key = node.message_id or str(node.uuid)
        place = f"{path} at byte {node.offset}"
        for number, message in enumerate(_messages(records, names, report)):
            message["id"] = derive_id(time, TOOL, source, key, str(number))
            message["createdAt"] = time
            message["updatedAt"] = last
            message["imported"] = {"tool": TOOL, "messageId": key}
            report.messages.read += 1
            yield message, place


def _messages(records: list[Mapping[str, Any]], names: dict[str, str], report: ImportReport) -> list[dict[str, Any]]:
    record = records[0]
    kind = record.get("type")
    if kind == "assistant":
        return [_answer(records, names)]
    if kind == "user":
        return _user(record, names, report)
    if kind == "system" and record.get("subtype") == "compact_boundary":
        content = as_text(record.get("content")) or "Conversation compacted"
        return [{"role": "system", "content": content, "claude": {"subtype": "compact_boundary"}}]
    what = text(record.get("subtype")) or text(record.get("type")) or "no type"
    report.ignore(f"Claude Code's own record: {what}")
    return []


def _answer(records: list[Mapping[str, Any]], names: dict[str, str]) -> dict[str, Any]:
    last = mapping(records[-1].get("message"))
    parts: list[dict[str, Any]] = []
    for record in records:
        parts += [_part(block, names) for block in blocks(content_of(record.get("message")))]
    message: dict[str, Any] = {"role": "assistant", "parts": parts, "status": "completed"}
    model = text(last.get("model"))
    if model and model != "<synthetic>":
        message["model"] = {"providerId": "anthropic", "modelId": model}
    given = mapping(last.get("usage"))
    usage = {ours: found for ours, theirs in _USAGE if (found := count(given.get(theirs))) is not None}
    if usage:
        message["usage"] = usage
    if text(last.get("stop_reason")):
        message["stopReason"] = last["stop_reason"]
    if any(record.get("isApiErrorMessage") is True for record in records):
        told = "".join(part.get("content", "") for part in parts if part["type"] == "text")
        message |= {"status": "error", "error": {"name": "APIError", "message": told}}
    return message


def _part(block: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    kind = text(block.get("type")) or "unknown"
    if kind == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    part: dict[str, Any]
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        part = {"type": "thinking", "content": block["thinking"]}
        if isinstance(block.get("signature"), str):
            part["signature"] = block["signature"]
        return part
    call, name = text(block.get("id")), text(block.get("name"))
    if "input" in block and call and name:
        names[call] = name
        function = {"name": name, "arguments": as_json(block["input"])}
        part = {"type": "tool_call", "toolCall": {"id": call, "type": "function", "function": function}}
        return part if kind == "tool_use" else {**part, "claude": {"type": kind}}
    if kind in _FILES:
        return _file(block, kind)
    return {"type": kind, "claude": dict(block)}


def _file(block: Mapping[str, Any], kind: str) -> dict[str, Any]:
    source = mapping(block.get("source"))
    mime, data, url = (text(source.get(key)) for key in ("media_type", "data", "url"))
    if source.get("type") == "base64" and mime and data:
        return {"type": "file", "file": {"mime": mime, "url": f"data:{mime};base64,{data}"}}
    if url:
        return {"type": "file", "file": {"mime": mime or "application/octet-stream", "url": url}}
    if source.get("type") == "text" and data:
        return {"type": "text", "content": data}
    return {"type": kind, "claude": dict(block)}


def _user(record: Mapping[str, Any], names: Mapping[str, str], report: ImportReport) -> list[dict[str, Any]]:
    content = content_of(record.get("message"))
    if record.get("isCompactSummary") is True:
        return [{"role": "system", **_told(content), "metadata": {"compaction": {"tailStart": None}}}]
    if record.get("isMeta") is True:
        report.ignore("Claude Code's own text (isMeta)")
        return []
    if isinstance(content, str):
        if not content.lstrip().startswith(_LOCAL):
            return [{"role": "user", "content": content}]
        report.ignore("a local command and its output")
        return []
    found: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    given = blocks(content)
    if not given:
        report.ignore("a prompt that says nothing")
    for block in given:
        if block.get("type") == "tool_result" and text(block.get("tool_use_id")):
            found.append(_result(block, names))
        elif block.get("type") == "text" and (text(block.get("text")) or "").lstrip().startswith(_LOCAL):
            report.ignore("a local command and its output")
        else:
            said.append(_part(block, {}))
    if len(said) == 1 and said[0]["type"] == "text" and "content" in said[0]:
        found.append({"role": "user", "content": said[0]["content"]})
    elif said:
        found.append({"role": "user", "parts": said})
    return found


def _result(block: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    call = block["tool_use_id"]
    message: dict[str, Any] = {"role": "tool", "toolCallId": call}
    if call in names:
        message["toolName"] = names[call]
    message |= _told(block.get("content"))
    message["status"] = "error" if block.get("is_error") is True else "completed"
    return message


def _told(content: Any) -> dict[str, Any]:
    """What a result or a summary says: text as one, and whatever else is in it beside that."""
    if isinstance(content, str):
        return {"content": content}
    told: list[str] = []
    parts: list[dict[str, Any]] = []
    for block in blocks(content):
        kind = text(block.get("type")) or "unknown"
        if isinstance(block.get("text"), str):
            told.append(block["text"])
        else:
            parts.append(_file(block, kind) if kind in _FILES else {"type": kind, "claude": dict(block)})
    joined = "\n".join(told)
    return {"parts": [{"type": "text", "content": joined}, *parts]} if parts else {"content": joined}
