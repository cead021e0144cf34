"""The sessions of Strands' `FileSessionManager`: a folder for each session, a file for each message of each agent.

`session_<id>/agents/agent_<id>/messages/message_<n>.json`, ordered by the number and not by the name. Each agent's
conversation becomes a session of its own. `redact_message`, where it is set, stands for the message.

Source: the SDK's own code; the sample was written by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats import verbatim
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, stamp_of
from nomad_sessions.formats.values import as_json, as_text, blocks, content_of, mapping, milliseconds, text, title_from
from nomad_sessions.ids import derive_id
from nomad_sessions.storage.codec import decode

__all__ = ["IMPORTER"]

TOOL = "strands"
_NUMBER = re.compile(r"message_(\d+)\.json")


def _locate(computer: Computer) -> list[Path]:
    chosen = computer.env.get("TMPDIR") or computer.env.get("TEMP")
    return [Path(chosen or "/tmp") / "strands" / "sessions"]


def _sniff(path: Path) -> bool:
    return path.is_dir() and next(_agents(path), None) is not None


def _agents(path: Path, report: ImportReport | None = None) -> Iterator[Path]:
    """The folders of agents in a session's folder, or in all sessions of a storage folder."""
    sessions = [path] if (path / "session.json").is_file() else sorted(path.glob("session_*"))
    for session in sessions:
        if (session / "session.json").is_file():
            yield from sorted(each for each in session.glob("agents/agent_*") if each.is_dir())
        elif report is not None:
            report.skip(str(session), "no session.json")


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    for agent in _agents(path, report):
        files = _messages_in(agent)
        name = f"{agent.parents[1].name.removeprefix('session_')}/{agent.name.removeprefix('agent_')}"
        about = _object(agent.parents[1] / "session.json", None)
        time = milliseconds(about.get("created_at")) or 0
        size = sum(file.stat().st_size for file in files)
        read = partial(_read, agent, files, name, about)
        about_it = [each for each in (agent / "agent.json", agent.parents[1] / "session.json") if each.is_file()]
        kept = verbatim.of_files(agent.parents[1], name.replace("/", " "), files, about_it)
        yield Found(derive_id(time, TOOL, name), None, stamp_of(*files), size, str(agent), read, kept)


def _messages_in(agent: Path) -> list[Path]:
    numbered = ((_NUMBER.fullmatch(path.name), path) for path in (agent / "messages").glob("message_*.json"))
    return [path for _, path in sorted((int(found[1]), path) for found, path in numbered if found is not None)]


def _object(path: Path, report: ImportReport | None) -> Mapping[str, Any]:
    try:
        value = decode(path.read_bytes())
    except (OSError, ValueError) as error:
        if report is not None:
            report.skip(str(path), f"not a whole JSON file: {str(error)[:100]}")
        return {}
    if report is not None and not isinstance(value, dict):
        report.skip(str(path), "not a JSON object")
    return mapping(value)


def _read(agent: Path, files: list[Path], name: str, about: Mapping[str, Any], report: ImportReport) -> ParsedSession:
    report.sessions.read += 1
    created = milliseconds(about.get("created_at")) or 0
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    for path in files:
        record = _object(path, report)
        time = milliseconds(record.get("created_at")) or created
        said = mapping(record.get("redact_message")) or record.get("message")
        made = list(_messages(said))
        if record and not made:
            report.ignore("a message that says nothing")
        for number, message in enumerate(made):
            key = f"{path.stem}-{number}"
            message["id"] = derive_id(time, TOOL, name, key)
            message |= {"createdAt": time, "updatedAt": time, "imported": {"tool": TOOL, "messageId": key}}
            messages.append(message)
            places.append(str(path))
    report.messages.read += len(messages)
    session: dict[str, Any] = {
        "id": derive_id(created, TOOL, name),
        "createdAt": created,
        "updatedAt": max([message["updatedAt"] for message in messages], default=created),
        "agent": agent.name.removeprefix("agent_"),
        "imported": {"tool": TOOL, "sessionId": name, "path": str(agent)},
    }
    prompts = (part.get("content") for each in messages if each["role"] == "user" for part in each["parts"])
    prompt = next((each for each in prompts if text(each)), None)
    if prompt:
        session["title"] = title_from(prompt)
    return ParsedSession(session, messages, places, len(messages))


def _messages(said: Any) -> Iterator[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for block in blocks(content_of(said)):
        result = block.get("toolResult")
        if isinstance(result, dict):
            yield _result(result)
        else:
            parts.append(_part(block))
    if parts:
        role = mapping(said).get("role")
        yield {"role": role if role in ("user", "assistant") else "system", "parts": parts, "status": "completed"}


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    call, thought = mapping(block.get("toolUse")), mapping(mapping(block.get("reasoningContent")).get("reasoningText"))
    image = mapping(block.get("image"))
    data = mapping(mapping(image.get("source")).get("bytes")).get("data")
    if isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    if isinstance(thought.get("text"), str):
        part = {"type": "thinking", "content": thought["text"]}
        return {**part, "signature": thought["signature"]} if text(thought.get("signature")) else part
    if text(call.get("toolUseId")) and text(call.get("name")):
        function = {"name": call["name"], "arguments": as_json(call.get("input", {}))}
        return {"type": "tool_call", "toolCall": {"id": call["toolUseId"], "type": "function", "function": function}}
    if text(image.get("format")) and text(data):
        mime = f"image/{image['format']}"
        return {"type": "file", "file": {"mime": mime, "url": f"data:{mime};base64,{data}"}}
    return {"type": text(block.get("type")) or next(iter(block), "unknown"), "content": None, "strands": dict(block)}


def _result(result: Mapping[str, Any]) -> dict[str, Any]:
    told = []
    others = []
    for block in blocks(content_of(result)):
        if isinstance(block.get("text"), str):
            told.append(block["text"])
        elif "json" in block:
            told.append(as_json(block["json"]))
        else:
            others.append(_part(block))
    failed = result.get("status") == "error"
    said = (
        {"parts": [{"type": "text", "content": "\n".join(told)}, *others]} if others else {"content": "\n".join(told)}
    )
    message = {"role": "tool", "toolCallId": as_text(result.get("toolUseId")), **said}
    return {**message, "status": "error" if failed else "completed"}


IMPORTER = Importer(
    name=TOOL,
    label="Strands",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="the state of agents and of their conversation managers",
)
