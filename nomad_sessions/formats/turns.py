"""A conversation as a model has to be told it: turns, each call of a tool with its result.

Stored conversations are what happened: results in any order, calls that were never answered, answers cut off. The
interfaces of models refuse all of that. So calls are paired with results by position (the next call of that id that has
none: some providers give an id twice), a call without one gets a result that says so, a result without a call goes.

Invariant: in the turns every call has exactly one result, arguments are JSON objects, and no turn is empty. Verified by
`tests/unit/test_model_messages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats.pairing import Waiting
from nomad_sessions.formats.values import as_json, mapping, objects, text
from nomad_sessions.storage.codec import decode_text, encode

__all__ = ["NO_RESULT", "Call", "Context", "File", "Turn", "answer_of", "file_of", "turns_of"]

NO_RESULT = "[no result recorded]"
_UNFINISHED = ("pending", "streaming")
Context = Literal["model", "full"]


@dataclass
class File:
    """A file of a message: type, name, and where its bytes are (at a `data:` or other URL, or an attachment)."""

    mime: str
    name: str
    url: str | None
    sha256: str | None

    @property
    def is_image(self) -> bool:
        """Whether models take it as an image."""
        return self.mime.startswith("image/")

    @property
    def mark(self) -> str:
        """What stands for it where its bytes cannot go."""
        return f"[file {' '.join(each for each in (self.mime, self.name) if each)}]"


@dataclass
class Call:
    """One call of a tool and what it gave back; `arguments` is JSON text of an object."""

    id: str
    name: str
    arguments: str
    result: str | None = None
    is_error: bool = False
    files: list[File] = field(default_factory=list)


@dataclass
class Turn:
    """What one side said: `content` of text and files in order; calls only of the assistant."""

    role: Literal["system", "user", "assistant"]
    content: list[str | File] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of its text, files as marks."""
        return "".join(each if isinstance(each, str) else each.mark for each in self.content)


def turns_of(messages: Sequence[Mapping[str, Any]], context: Context) -> list[Turn]:
    """The turns of a conversation, from messages as JSON in their order. Pure.

    `context` "full" is all of it, "model" what a model is to see: from the last compaction on. Messages that are still
    being written are left out.
    """
    if context not in ("model", "full"):
        raise InvalidInputError(field="context", value=context, reason='must be "model" or "full"')
    chosen = _since_compaction(messages) if context == "model" else messages
    turns: list[Turn] = []
    waiting = Waiting[Call]()
    for message in chosen:
        if message.get("status") in _UNFINISHED:
            continue
        if message.get("role") == "tool":
            call = waiting.take(str(message.get("toolCallId") or ""))
            if call is not None:
                call.result, call.is_error, call.files = answer_of(message)
            continue
        turn = _turn(message)
        if turn.content or turn.calls:
            turns.append(turn)
            for call in turn.calls:
                if call.result is None:
                    waiting.add(call.id, call)
    for call in waiting:
        call.result, call.is_error = NO_RESULT, True
    return turns


def _since_compaction(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The last summary, the messages that it kept, and those after it."""
    for at in range(len(messages) - 1, -1, -1):
        mark = mapping(messages[at].get("metadata")).get("compaction")
        if isinstance(mark, dict):
            ids = [message.get("id") for message in messages[:at]]
            start = ids.index(mark["tailStart"]) if mark.get("tailStart") in ids else at
            return [messages[at], *messages[start:at], *messages[at + 1 :]]
    return messages


def _turn(message: Mapping[str, Any]) -> Turn:
    role = message.get("role")
    turn = Turn("assistant" if role == "assistant" else "user" if role == "user" else "system")
    parts = objects(message.get("parts"))
    if not parts:
        _say(turn, message.get("content"))
        turn.calls += [_call(each) for each in objects(message.get("toolCalls"))]
        return turn
    for part in parts:
        kind = part.get("type")
        if kind == "text":
            _say(turn, part.get("content"))
        elif kind == "code" and text(part.get("content")):
            _say(turn, f"```\n{part['content']}\n```")
        elif kind == "tool_call" and isinstance(part.get("toolCall"), dict):
            call = _call(part["toolCall"])
            result = part.get("toolResult")
            if isinstance(result, dict):  # OpenCode keeps both in one part.
                call.result, call.is_error = str(result.get("content") or ""), result.get("isError") is True
            turn.calls.append(call)
        elif isinstance(part.get("file"), dict):
            turn.content.append(file_of(part["file"]))
    if not turn.content and not turn.calls:  # Parts of another tool, of which only the message itself has the text.
        _say(turn, message.get("content"))
    return turn


def _say(turn: Turn, content: Any) -> None:
    said = text(content)
    if said and said.strip():
        turn.content.append(said)


def _call(call: Mapping[str, Any]) -> Call:
    function = mapping(call.get("function"))
    return Call(
        str(call.get("id") or ""), str(function.get("name") or "unknown"), _arguments(function.get("arguments"))
    )


def _arguments(given: Any) -> str:
    """JSON text of an object, whatever the model produced."""
    raw = given if isinstance(given, str) else as_json(given)
    if not raw.strip():
        return "{}"
    try:
        value = decode_text(raw)
    except ValueError:
        value = None
    return raw if isinstance(value, dict) else encode({"_raw": raw}).decode("utf-8")


def file_of(file: Mapping[str, Any]) -> File:
    """The file of a part."""
    return File(
        str(file.get("mime") or ""), str(file.get("name") or ""), text(file.get("url")), text(file.get("sha256"))
    )


def answer_of(message: Mapping[str, Any]) -> tuple[str, bool, list[File]]:
    """What a tool's message says: the text, whether it failed, its files."""
    parts = objects(message.get("parts"))
    files = [file_of(part["file"]) for part in parts if isinstance(part.get("file"), dict)]
    failed = message.get("status") == "error"
    for part in parts:
        result = part.get("toolResult")
        if isinstance(result, dict):
            return str(result.get("content") or ""), failed or result.get("isError") is True, files
    return str(message.get("content") or ""), failed, files
