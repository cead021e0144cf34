"""pi's histories: `~/.pi/agent/sessions/<project>/<time>_<id>.jsonl`, versions 1 to 3.

A file is a header and entries. Since version 2 the entries form a tree: the conversation is the path from the last
entry to the root, and what other branches have said is counted as ignored. Version 1 is a plain list.

| pi | here |
|---|---|
| user, assistant | message; text, thinking (with its signature), toolCall and image parts |
| toolResult | message of role `tool` |
| bashExecution | user message: the command, and its output as code |
| custom message | user message |
| compaction, branch summary | system message; a compaction's notes where what was kept begins |
| `stopReason` error, aborted | status `error` |

Source: the format as the published program 0.73.1 reads and writes it, and its source up to 1.5.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nomad_sessions.formats import verbatim
from nomad_sessions.formats.holding import LARGE, holder
from nomad_sessions.formats.jsonl import first_record, lines
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, files_below, stamp_of
from nomad_sessions.formats.values import (
    as_json,
    as_text,
    blocks,
    count,
    finite,
    mapping,
    milliseconds,
    text,
    title_from,
)
from nomad_sessions.ids import derive_id
from nomad_sessions.storage.codec import decode

__all__ = ["IMPORTER"]

TOOL = "pi"
_USAGE = ("input", "output", "cacheRead", "cacheWrite")
_FAILED = ("error", "aborted")
_BASH = ("exitCode", "cancelled", "truncated", "excludeFromContext")
_SUMMARIES = ("branchSummary", "compactionSummary")


def _locate(computer: Computer) -> list[Path]:
    if computer.env.get("PI_CODING_AGENT_SESSION_DIR"):
        return [computer.folder("PI_CODING_AGENT_SESSION_DIR")]
    return [computer.folder("PI_CODING_AGENT_DIR", ".pi", "agent") / "sessions"]


def _sniff(path: Path) -> bool:
    if path.is_dir():
        return any(_header(file) is not None for file in files_below(path, "*.jsonl"))
    return path.suffix == ".jsonl" and _header(path) is not None


def _header(path: Path) -> Mapping[str, Any] | None:
    record = first_record(path)
    if record is None or record.get("type") != "session" or "cwd" not in record or text(record.get("id")) is None:
        return None
    return record


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    for file in files_below(path, "*.jsonl", report) if path.is_dir() else [path]:
        header = _header(file)
        if header is None:
            report.skip(str(file), "no header of a pi session")
            continue
        size = file.stat().st_size if file.exists() else 0
        parent, origin = _origin(file, header)
        stamp = stamp_of(file) if parent is None else f"{stamp_of(file)} {origin or '-'}"
        read = partial(_read, file, header)
        original = verbatim.of_file(file)
        yield Found(_id(header), text(header.get("cwd")), stamp, size, str(file), read, original)


def _id(header: Mapping[str, Any]) -> str:
    return derive_id(milliseconds(header.get("timestamp")) or 0, TOOL, str(header["id"]))


def _origin(path: Path, header: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """What a session was forked from, and the id here of that one, where its file lies beside."""
    parent = text(header.get("parentSession")) or text(header.get("branchedFrom"))
    if parent is None:
        return None, None
    origin = _header(path.parent / Path(parent.replace("\\", "/")).name)
    return parent, None if origin is None else _id(origin)


class _Reading:
    """One session while it is read."""

    def __init__(self, path: Path, source: str, edits: Mapping[str, Any], size: int, report: ImportReport) -> None:
        self.path = path
        self.source = source
        self.report = report
        self.messages = holder(size)
        self.places: list[str] = []
        self.edits = edits
        self.prompt = ""
        self.spoken = 0  # When somebody last said something, in ms.
        self.first_of: dict[str, str] = {}  # By the key of an entry: the id here of its first message.
        self.title: str | None = None
        self.model: dict[str, str] | None = None
        self.time = 0


class _Entry(NamedTuple):
    """A line of a file: where it is, what it is called, what it follows; its record, unless that stays in the file."""

    offset: int
    length: int
    kind: str | None
    id: str | None
    parent: str | None
    record: Mapping[str, Any] | None


def _entries(path: Path, report: ImportReport, *, keep: bool) -> tuple[list[_Entry], dict[str, Any]]:
    """The lines of a file, and what was edited in the model's context: by the entry, what stands there now."""
    found: list[_Entry] = []
    edits: dict[str, Any] = {}
    for line in lines(path, report):
        told = line.record
        kind, name, parent = text(told.get("type")), text(told.get("id")), text(told.get("parentId"))
        found.append(_Entry(line.offset, line.length, kind, name, parent, told if keep else None))
        if kind == "context_edit":
            edits[text(told.get("targetId")) or ""] = finite(told.get("replacement"))
    return found, edits


def _read(path: Path, header: Mapping[str, Any], report: ImportReport) -> ParsedSession | None:
    report.sessions.read += 1
    try:
        size = path.stat().st_size
        given, edits = _entries(path, report, keep=size < LARGE)
        reading = _Reading(path, str(header["id"]), edits, size, report)
        reading.time = created = milliseconds(header.get("timestamp")) or 0
        if text(header.get("modelId")):
            reading.model = {"providerId": text(header.get("provider")) or "", "modelId": header["modelId"]}
        _read_entries(reading, given)
    except OSError as error:
        report.sessions.skipped += 1
        report.skip(str(path), f"cannot be read: {error.strerror}")
        return None
    report.messages.read += len(reading.messages)
    return _session(reading, header, created)


def _read_entries(reading: _Reading, given: Sequence[_Entry]) -> None:
    keys = {number: entry.id or f"line {number}" for number, entry in enumerate(given)}
    entries = [(keys[number], entry) for number, entry in enumerate(given) if entry.kind != "session"]
    for _ in range(len(given) - len(entries) - 1):
        reading.report.ignore("another header")
    path_of = set(_path([entry for _, entry in entries]))
    with reading.path.open("rb") as file:
        for number, (key, entry) in enumerate(entries):
            if number in path_of:
                _entry(reading, entry, _record(file, entry), key, keys)
            else:
                reading.report.ignore("on a branch that was left")


def _record(file: BinaryIO, entry: _Entry) -> Mapping[str, Any]:
    if entry.record is not None:
        return entry.record
    file.seek(entry.offset)
    try:
        return mapping(decode(file.read(entry.length).strip(b"\0 \t\r\n")))
    except ValueError:  # Rewritten since it was indexed; the next import sees to it.
        return {}


def _session(reading: _Reading, header: Mapping[str, Any], created: int) -> ParsedSession:
    imported: dict[str, Any] = {"tool": TOOL, "sessionId": reading.source, "path": str(reading.path)}
    imported["version"] = as_text(header.get("version")) or "1"
    session: dict[str, Any] = {
        "id": _id(header),
        "createdAt": created,
        "updatedAt": reading.spoken or created,
        "directory": text(header.get("cwd")) or "",
    }
    title = reading.title or (title_from(reading.prompt) if reading.prompt else None)
    if title:
        session["title"] = title
    if reading.model is not None:
        session["model"] = reading.model
    parent, origin = _origin(reading.path, header)
    if parent is not None:
        imported |= {"relation": "fork", "parentSourceId": parent}
        if origin is not None:
            session["parentId"] = origin
    session["imported"] = imported
    return ParsedSession(session, reading.messages, reading.places, len(reading.messages))


def _path(entries: Sequence[_Entry]) -> list[int]:
    """The indexes of the entries from the root to the last one; all of them where there is no tree."""
    numbers = {entry.id: number for number, entry in enumerate(entries) if entry.id is not None}
    if not numbers:
        return list(range(len(entries)))
    found: list[int] = []
    at: int | None = len(entries) - 1
    while at is not None and at >= 0:
        found.append(at)
        parent = entries[at].parent
        if parent is None:
            break
        above = numbers.get(parent, at - 1)  # Where the named one is gone, on at the one before it in the file.
        at = above if above < at else None
    return found[::-1]


def _entry(reading: _Reading, line: _Entry, record: Mapping[str, Any], key: str, keys: Mapping[int, str]) -> None:
    kind = record.get("type")
    reading.time = milliseconds(record.get("timestamp")) or reading.time
    if kind == "message":
        _message(reading, line, key, mapping(record.get("message")))
    elif kind == "custom_message":
        _message(reading, line, key, {**record, "role": "custom"})
    elif kind == "compaction":
        kept = text(record.get("firstKeptEntryId"))
        if kept is None and isinstance(record.get("firstKeptEntryIndex"), int):
            kept = keys.get(record["firstKeptEntryIndex"])
        mark = {"compaction": {"tailStart": reading.first_of.get(kept or "")}}
        _put(reading, line, key, {"role": "system", "content": as_text(record.get("summary")), "metadata": mark})
    elif kind == "branch_summary":
        _put(reading, line, key, {"role": "system", "content": as_text(record.get("summary"))})
    elif kind == "session_info":
        reading.title = text(record.get("name"))
    elif kind == "model_change" and text(record.get("modelId")):
        reading.model = {"providerId": text(record.get("provider")) or "", "modelId": record["modelId"]}
    elif kind != "context_edit":
        reading.report.ignore(f"pi's own record: {text(kind) or 'no type'}")


def _message(reading: _Reading, line: _Entry, key: str, message: Mapping[str, Any]) -> None:
    reading.time = milliseconds(message.get("timestamp")) or reading.time
    role = message.get("role")
    if role == "assistant":
        _put(reading, line, key, _answer(reading, message))
    elif role == "toolResult":
        _put(reading, line, key, _result(message))
    elif role == "bashExecution":
        parts = [{"type": "text", "content": f"$ {message.get('command') or ''}"}]
        if message.get("output"):
            parts.append({"type": "code", "content": as_text(message["output"])})
        told = {name: finite(message[name]) for name in _BASH if name in message}
        _put(reading, line, key, {"role": "user", "parts": parts, "pi": {"bashExecution": told}})
    elif role in _SUMMARIES:
        _put(reading, line, key, {"role": "system", "content": as_text(message.get("summary"))})
    elif role in ("user", "custom", "hookMessage"):
        parts = _parts(message.get("content"))
        told = {} if role == "user" else {"pi": {"customType": finite(message.get("customType"))}}
        if parts:
            _put(reading, line, key, {"role": "user", "parts": parts, **told})
        else:
            reading.report.ignore("a prompt that says nothing")
    else:
        reading.report.ignore(f"pi's own message: {text(role) or 'no role'}")


def _put(reading: _Reading, line: _Entry, key: str, message: dict[str, Any]) -> None:
    parts = message.get("parts")
    if parts is not None and len(parts) == 1 and _is_text(parts[0]) and message["role"] == "user":
        message = {name: value for name, value in message.items() if name != "parts"}
        message["content"] = parts[0]["content"]
    message["id"] = derive_id(reading.time, TOOL, reading.source, key)
    message |= {"createdAt": reading.time, "updatedAt": reading.time}
    message.setdefault("status", "completed")
    message["imported"] = {"tool": TOOL, "messageId": key}
    if key in reading.edits and key not in reading.first_of:  # It stays in the conversation, with a mark.
        message["pi"] = {**message.get("pi", {}), "contextEdit": reading.edits[key]}
    reading.first_of.setdefault(key, message["id"])
    if message["role"] in ("user", "assistant"):
        reading.spoken = max(reading.spoken, reading.time)
    if message["role"] == "user" and not reading.prompt:
        reading.prompt = _said(message)
    reading.messages.append(message)
    reading.places.append(f"{reading.path} at byte {line.offset}")


def _answer(reading: _Reading, message: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": "assistant", "parts": _parts(message.get("content"))}
    if text(message.get("model")):
        made["model"] = {"providerId": text(message.get("provider")) or "", "modelId": message["model"]}
        reading.model = made["model"]
    given = mapping(message.get("usage"))
    usage: dict[str, Any] = {name: given[name] for name in _USAGE if count(given.get(name)) is not None}
    cost = mapping(given.get("cost")).get("total")
    if type(cost) in (int, float) and finite(cost) is cost:
        usage["cost"] = cost
    if usage:
        made["usage"] = usage
    reason = text(message.get("stopReason"))
    if reason is not None:
        made["stopReason"] = reason
    if reason in _FAILED:
        made |= {"status": "error", "error": {"name": reason, "message": text(message.get("errorMessage")) or ""}}
    return made


def _result(message: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": "tool", "toolCallId": as_text(message.get("toolCallId"))}
    if text(message.get("toolName")):
        made["toolName"] = message["toolName"]
    parts = _parts(message.get("content"))
    if all(map(_is_text, parts)):
        made["content"] = "\n".join(part["content"] for part in parts)
    else:
        made["parts"] = parts
    made["status"] = "error" if message.get("isError") is True else "completed"
    return made


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(block) for block in blocks(content)]


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = text(block.get("type")) or "unknown"
    if kind == "text" and isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        part = {"type": "thinking", "content": block["thinking"]}
        signature = text(block.get("thinkingSignature"))
        return part if signature is None else {**part, "signature": signature}
    if kind == "toolCall" and text(block.get("name")):
        function = {"name": block["name"], "arguments": as_json(block.get("arguments", {}))}
        return {
            "type": "tool_call",
            "toolCall": {"id": as_text(block.get("id")), "type": "function", "function": function},
        }
    mime, data = text(block.get("mimeType")), text(block.get("data"))
    if kind == "image" and mime and data:
        return {"type": "file", "file": {"mime": mime, "url": f"data:{mime};base64,{data}"}}
    return {"type": kind, "pi": finite(dict(block))}


def _is_text(part: Mapping[str, Any]) -> bool:
    """Whether it is a text that says something: one that has none is kept as it stands."""
    return part["type"] == "text" and "content" in part


def _said(message: Mapping[str, Any]) -> str:
    """The text of a prompt, "" for one that has none."""
    parts = message.get("parts", ())
    said: str = message.get("content") or "\n".join(part["content"] for part in parts if _is_text(part))
    return said if said.strip() else ""


IMPORTER = Importer(
    name=TOOL,
    label="pi",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="branches that were left, labels and changes of the thinking level are counted, not imported",
)
