"""Gemini CLI's histories: `~/.gemini/tmp/<project>/chats/session-*.json`, since April 2026 `.jsonl`.

A chat is one JSON object, or lines: a header, messages (the same id again replaces), `$set` with fields or all messages
anew, `$rewindTo` (that message and what follows is gone). An answer's tool calls hold their results: they become
messages of role `tool` after it. Sub-agents' chats lie in a folder named after their parent.

Source: the CLI's own code, not run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats import verbatim
from nomad_sessions.formats.jsonl import first_record, lines
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, stamp_of
from nomad_sessions.formats.values import as_json, as_text, count, mapping, milliseconds, objects, text, title_from
from nomad_sessions.ids import derive_id
from nomad_sessions.storage.codec import decode

__all__ = ["IMPORTER"]

TOOL = "gemini-cli"
_HEAD_BYTES = 4096
_USAGE = (("input", "input"), ("output", "output"), ("cacheRead", "cached"), ("reasoning", "thoughts"))
_NOTES = ("info", "warning", "error")


def _locate(computer: Computer) -> list[Path]:
    return [computer.folder("GEMINI_CLI_HOME") / ".gemini" / "tmp"]


def _sniff(path: Path) -> bool:
    if path.is_dir():
        return next(_files(path), None) is not None
    if path.suffix == ".jsonl":
        head = first_record(path)
        return head is not None and "sessionId" in head and "projectHash" in head
    if path.suffix != ".json":
        return False
    try:
        with path.open("rb") as file:
            begin = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return begin.lstrip()[:1] == b"{" and b'"sessionId"' in begin and b'"projectHash"' in begin


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.json*")):
        if "chats" in path.parts and path.is_file() and _sniff(path):
            yield path


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    for file in _files(path) if path.is_dir() else [path]:
        report_ = ImportReport()  # What is wrong with the file is told when it is read.
        chat = _chat(file, report_)
        name = text(chat.get("sessionId")) or file.stem
        time = milliseconds(chat.get("startTime")) or 0
        read = partial(_read, file, name)
        size = file.stat().st_size if file.is_file() else 0
        kept = verbatim.of_file(file)
        yield Found(derive_id(time, TOOL, name), _project(file), stamp_of(file), size, str(file), read, kept)


def _project(file: Path) -> str | None:
    """The project folder, where the CLI noted it beside its chats; its hash alone says nothing."""
    for folder in file.parents:
        if folder.name == "chats":
            try:
                return text((folder.parent / ".project_root").read_text(encoding="utf-8").strip())
            except (OSError, UnicodeDecodeError):
                return None
    return None


def _chat(path: Path, report: ImportReport) -> dict[str, Any]:
    """The header's fields, and `messages`: what is left of them at the end of the file."""
    if path.suffix == ".json":
        try:
            whole = decode(path.read_bytes())
        except (OSError, ValueError) as error:
            report.skip(str(path), f"not a whole JSON file: {str(error)[:100]}")
            return {}
        return dict(mapping(whole))
    chat: dict[str, Any] = {}
    kept: dict[str, Mapping[str, Any]] = {}
    try:
        given = [line.record for line in lines(path, report)]
    except OSError as error:
        report.skip(str(path), f"cannot be read: {error.strerror}")
        return {}
    for record in given:
        if isinstance(record.get("$set"), dict):
            chat |= {key: value for key, value in record["$set"].items() if key != "messages"}
            if isinstance(record["$set"].get("messages"), list):
                kept = {as_text(each.get("id")): each for each in objects(record["$set"]["messages"])}
        elif "$rewindTo" in record:
            ids = list(kept)
            start = ids.index(record["$rewindTo"]) if record["$rewindTo"] in ids else 0
            for identifier in ids[start:]:
                del kept[identifier]
                report.ignore("taken back by a rewind")
        elif text(record.get("id")) and "type" in record:
            kept[record["id"]] = record
        elif "sessionId" in record:
            chat = {**record, **chat}
        else:
            report.ignore("Gemini CLI's own record")
    chat["messages"] = list(kept.values())
    return chat


def _read(path: Path, name: str, report: ImportReport) -> ParsedSession | None:
    report.sessions.read += 1
    chat = _chat(path, report)
    if not chat:
        report.sessions.skipped += 1
        return None
    created = milliseconds(chat.get("startTime")) or 0
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    for number, record in enumerate(objects(chat.get("messages"))):
        place = f"{path} messages[{number}]"
        time = milliseconds(record.get("timestamp")) or created
        for message in _messages(record, report):
            key = as_text(record.get("id")) or str(number)
            message["id"] = derive_id(time, TOOL, name, key, str(message.get("toolCallId", "")), str(number))
            message |= {"createdAt": time, "updatedAt": time, "imported": {"tool": TOOL, "messageId": key}}
            messages.append(message)
            places.append(place)
    report.messages.read += len(messages)
    session: dict[str, Any] = {
        "id": derive_id(created, TOOL, name),
        "createdAt": created,
        "updatedAt": milliseconds(chat.get("lastUpdated")) or created,
        "imported": {"tool": TOOL, "sessionId": name, "path": str(path)},
    }
    said = next((each["content"] for each in messages if each["role"] == "user" and each.get("content")), "")
    title = text(chat.get("summary")) or (title_from(said) if said else None)
    if title:
        session["title"] = title
    models = [each["model"] for each in messages if "model" in each]
    if models:
        session["model"] = models[-1]
    if path.parent.name != "chats":
        session["imported"] |= {"relation": "subagent", "parentSourceId": path.parent.name}
    return ParsedSession(session, messages, places, len(messages))


def _messages(record: Mapping[str, Any], report: ImportReport) -> Iterator[dict[str, Any]]:
    kind = record.get("type")
    if kind == "user":
        yield {"role": "user", **_content(record.get("content"))}
    elif kind == "gemini":
        yield _answer(record)
        for call in objects(record.get("toolCalls")):
            if "result" in call:
                failed = call.get("status") not in ("success", None)
                told = _response(call["result"])
                result = {"role": "tool", "toolCallId": as_text(call.get("id")), "content": told}
                yield {**result, "toolName": as_text(call.get("name")), "status": "error" if failed else "completed"}
    elif kind in _NOTES:
        yield {"role": "system", **_content(record.get("content")), "metadata": {"geminiType": kind}}
    else:
        report.ignore(f"Gemini CLI's own record: {text(kind) or 'no type'}")


def _answer(record: Mapping[str, Any]) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for thought in objects(record.get("thoughts")):
        told = "\n".join(each for key in ("subject", "description") if (each := text(thought.get(key))))
        parts.append({"type": "thinking", "content": told})
    content = _content(record.get("content"))
    parts += content.get("parts") or ([{"type": "text", "content": content["content"]}] if content["content"] else [])
    for call in objects(record.get("toolCalls")):
        function = {"name": as_text(call.get("name")), "arguments": as_json(call.get("args", {}))}
        parts.append({"type": "tool_call", "toolCall": {"id": as_text(call.get("id")), "function": function}})
    message: dict[str, Any] = {"role": "assistant", "parts": parts, "status": "completed"}
    if text(record.get("model")):
        message["model"] = {"providerId": "google", "modelId": record["model"]}
    tokens = mapping(record.get("tokens"))
    usage = {ours: found for ours, theirs in _USAGE if (found := count(tokens.get(theirs))) is not None}
    return {**message, "usage": usage} if usage else message


def _content(given: Any) -> dict[str, Any]:
    """A `PartListUnion`: text, a part, or a list of either."""
    if isinstance(given, str):
        return {"content": given}
    parts: list[dict[str, Any]] = []
    for piece in given if isinstance(given, list) else [given]:
        inline = mapping(mapping(piece).get("inlineData"))
        if isinstance(piece, str):
            parts.append({"type": "text", "content": piece})
        elif isinstance(piece, dict) and isinstance(piece.get("text"), str):
            parts.append({"type": "text", "content": piece["text"]})
        elif text(inline.get("mimeType")) and text(inline.get("data")):
            url = f"data:{inline['mimeType']};base64,{inline['data']}"
            parts.append({"type": "file", "file": {"mime": inline["mimeType"], "url": url}})
        elif isinstance(piece, dict):
            parts.append({"type": next(iter(piece), "unknown"), "gemini": piece})
    if len(parts) == 1 and parts[0]["type"] == "text":
        return {"content": parts[0]["content"]}
    return {"parts": parts, "content": ""} if parts else {"content": ""}


def _response(result: Any) -> str:
    told = []
    for piece in objects(result if isinstance(result, list) else [result]):
        response = mapping(piece.get("functionResponse")).get("response")
        output = mapping(response).get("output", mapping(response).get("error"))
        told.append(output if isinstance(output, str) else as_json(response if response is not None else piece))
    return "\n".join(told) if told else result if isinstance(result, str) else ""


IMPORTER = Importer(
    name=TOOL,
    label="Gemini CLI",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="messages that a rewind took back are counted, not imported",
)
