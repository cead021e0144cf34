"""A conversation as a file that Claude Code or Codex goes on with: the lines that those programs resume from.

Both get the turns that a model is told (`turns.py`): every call with its result, thinking left out, since it is only
valid with its signature.

- Claude Code: one line for each block, a straight chain of `parentUuid`; the file is named after `session_id_for`, in
  `~/.claude/projects/<folder with all but ASCII letters and digits as ->/`, of over 200 characters those and a hash.
- Codex: lines of the second generation, `session_meta`, `turn_context`, `response_item`; named
  `rollout-<time>-<id>.jsonl`, below `~/.codex/sessions/<year>/<month>/<day>/`.

Source: shapes that were written by hand and resumed by Claude Code 2.0.42 and 2.1.329, and by Codex 0.118 and 0.169.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nomad_sessions.formats.turns import Call, File, Turn
from nomad_sessions.formats.values import mapping, text
from nomad_sessions.storage.codec import decode_text, encode

__all__ = ["session_id_for", "to_claude_code", "to_codex"]

Bytes = Callable[[str], bytes]
_CLAUDE = "2.0.42"
_CODEX = "0.58.0"


def session_id_for(session: Mapping[str, Any]) -> str:
    """The session's id there: a UUID of version 7, made of its time and its id here."""
    time = int(session.get("createdAt") or 0) & (1 << 48) - 1
    rest = int.from_bytes(hashlib.sha256(str(session["id"]).encode("utf-8", "surrogatepass")).digest()[:10], "big")
    number = time << 80 | rest
    number = number & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=number & ~(0x3 << 62) | 2 << 62))


def to_claude_code(session: Mapping[str, Any], turns: Sequence[Turn], attachment: Bytes) -> bytes:
    """The file of a Claude Code session. Pure but for `attachment`, which gives a file's bytes."""
    name = session_id_for(session)
    envelope = {
        "isSidechain": False,
        "userType": "external",
        "cwd": text(session.get("directory")) or "/",
        "sessionId": name,
        "version": _CLAUDE,
        "gitBranch": "",
    }
    parent: str | None = None
    lines = []
    for number, (kind, message) in enumerate(_claude_messages(name, session, turns, attachment)):
        made = str(uuid.uuid5(uuid.UUID(name), str(number)))
        time = _moment(session, number)
        record = {"parentUuid": parent, **envelope, "type": kind, "message": message, "uuid": made, "timestamp": time}
        lines.append(encode(record) + b"\n")
        parent = made
    title = text(session.get("title"))
    if title is not None and parent is not None:
        lines.append(encode({"type": "summary", "summary": title, "leafUuid": parent}) + b"\n")
    return b"".join(lines)


def _claude_messages(
    name: str, session: Mapping[str, Any], turns: Sequence[Turn], attachment: Bytes
) -> Iterator[tuple[str, dict[str, Any]]]:
    model = text(mapping(session.get("model")).get("modelId")) or "unknown"
    for number, turn in enumerate(turns):
        blocks = [_claude_block(piece, attachment) for piece in turn.content]
        if turn.role != "assistant":
            yield "user", {"role": "user", "content": blocks}
            continue
        for call in turn.calls:
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": decode_text(call.arguments)})
        answer: dict[str, Any] = {"id": f"msg_{name[-12:]}{number:06}", "type": "message", "role": "assistant"}
        answer["model"] = model
        answer |= {"stop_reason": "tool_use" if turn.calls else "end_turn", "stop_sequence": None}
        answer["usage"] = {"input_tokens": 0, "output_tokens": 0}
        for block in blocks:
            yield "assistant", {**answer, "content": [block]}
        for call in turn.calls:
            result = {"type": "tool_result", "tool_use_id": call.id, "content": _claude_result(call, attachment)}
            yield "user", {"role": "user", "content": [result | ({"is_error": True} if call.is_error else {})]}


def _claude_result(call: Call, attachment: Bytes) -> list[dict[str, Any]]:
    images = [_claude_block(each, attachment) for each in call.files]
    return [{"type": "text", "text": call.result or ""}, *images]


def _claude_block(piece: str | File, attachment: Bytes) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    data = _base64(piece, attachment) if piece.is_image else None
    if data is None:
        return {"type": "text", "text": piece.mark}
    return {"type": "image", "source": {"type": "base64", "media_type": piece.mime, "data": data}}


def to_codex(session: Mapping[str, Any], turns: Sequence[Turn], attachment: Bytes) -> bytes:
    """The file of a Codex session. Pure but for `attachment`."""
    directory = text(session.get("directory")) or "/"
    model = mapping(session.get("model"))
    meta = {
        "id": session_id_for(session),
        "timestamp": _moment(session, 0),
        "cwd": directory,
        "originator": "codex_cli_rs",
        "cli_version": _CODEX,
        "source": "cli",
        "model_provider": text(model.get("providerId")) or "openai",
        "instructions": None,
    }
    context: dict[str, Any] = {"cwd": directory, "approval_policy": "on-request"}
    context["sandbox_policy"] = {"type": "read-only"}
    context |= {"model": text(model.get("modelId")) or "unknown", "effort": None, "summary": "auto"}
    records: list[tuple[str, Mapping[str, Any]]] = [("session_meta", meta), ("turn_context", context)]
    records += [("response_item", item) for item in _codex_items(turns, attachment)]
    lines = (
        {"timestamp": _moment(session, number), "type": kind, "payload": payload}
        for number, (kind, payload) in enumerate(records)
    )
    return b"".join(encode(line) + b"\n" for line in lines)


def _codex_items(turns: Sequence[Turn], attachment: Bytes) -> Iterator[dict[str, Any]]:
    for turn in turns:
        role = {"system": "developer"}.get(turn.role, turn.role)
        if turn.content:
            content = [_codex_piece(piece, turn.role, attachment) for piece in turn.content]
            yield {"type": "message", "role": role, "content": content}
        for call in turn.calls:
            yield {"type": "function_call", "name": call.name, "arguments": call.arguments, "call_id": call.id}
        for call in turn.calls:
            yield {"type": "function_call_output", "call_id": call.id, "output": call.result or ""}
            images = [_codex_piece(each, "user", attachment) for each in call.files]
            if images:
                yield {"type": "message", "role": "user", "content": images}


def _codex_piece(piece: str | File, role: str, attachment: Bytes) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    if isinstance(piece, str):
        return {"type": kind, "text": piece}
    data = _base64(piece, attachment) if piece.is_image and role != "assistant" else None
    if data is None:
        return {"type": kind, "text": piece.mark}
    return {"type": "input_image", "image_url": f"data:{piece.mime};base64,{data}"}


def _base64(file: File, attachment: Bytes) -> str | None:
    if file.sha256 is not None and file.url is None:
        return base64.b64encode(attachment(file.sha256)).decode("ascii")
    _, mark, data = (file.url or "").partition(";base64,")
    return data if mark and (file.url or "").startswith("data:") else None


def _moment(session: Mapping[str, Any], number: int) -> str:
    """A time that grows from line to line, as neither program sorts by it and both want one."""
    ms = int(session.get("createdAt") or 0) + number
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
