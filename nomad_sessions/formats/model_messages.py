"""A stored conversation as the messages to send to a model.

| here | OpenAI chat completions | Anthropic messages | OpenAI Responses |
|---|---|---|---|
| system | system message | joined into `system` | developer item |
| user's text, images | user message | user blocks | user item |
| assistant's text, code | `content`, null with calls only | text blocks | assistant item |
| a call | `tool_calls` | tool_use, id cleaned | function_call |
| its result | tool message, right after | tool_result, in one user message, first | function_call_output |
| images of a result | a user message after | in the tool_result | a user item after |
| thinking | left out: it is only valid with its signature, for the very model that made it | | |

Source: the type declarations of `openai` 3.52 and `anthropic` 2.11, which the tests validate against.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from nomad_sessions.errors import InvalidInputError, SessionNotFoundError
from nomad_sessions.formats.turns import Call, Context, File, Turn, turns_of
from nomad_sessions.models import dump
from nomad_sessions.operations.files import data_url
from nomad_sessions.storage.codec import decode_text

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["ModelFormat", "converted", "messages_for_model", "to_anthropic", "to_openai", "to_responses"]

ModelFormat = Literal["openai", "anthropic", "responses"]
Bytes = Callable[[str], bytes]
_STUB = "[the conversation begins with the assistant]"
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")


def messages_for_model(
    manager: NativeSessionManager,
    workspace_id: str,
    session_id: str,
    *,
    format: ModelFormat = "openai",
    context: Context = "model",
) -> Any:
    """What to send to a model so that it goes on with this session.

    `format` "openai" gives the `messages` of chat completions, "responses" the `input` items of the Responses interface
    (lists), "anthropic" a dict with `messages`, and `system` where there is such text. `context` "model" starts at the
    last compaction, "full" at the beginning. What a revert hides and what is still being written is left out. Raises
    `SessionNotFoundError`, `AttachmentMissingError`. Cost: the session is read once.
    """
    if manager.get_session(workspace_id, session_id) is None:
        raise SessionNotFoundError(session_id=session_id)
    messages = [dump(message) for message in manager.get_session_messages(workspace_id, session_id)]
    return converted(messages, lambda sha256: manager.read_attachment(workspace_id, sha256), format, context)


def converted(messages: Sequence[Mapping[str, Any]], attachment: Bytes, format: ModelFormat, context: Context) -> Any:
    """The same of messages as JSON, which are visible and in their order; `attachment` gives a file's bytes."""
    converters: dict[str, Callable[[Sequence[Turn], Bytes], Any]] = {
        "openai": to_openai,
        "anthropic": to_anthropic,
        "responses": to_responses,
    }
    convert = converters.get(format)
    if convert is None:
        raise InvalidInputError(field="format", value=format, reason='must be "openai", "anthropic" or "responses"')
    return convert(turns_of(messages, context), attachment)


def to_openai(turns: Sequence[Turn], attachment: Bytes) -> list[dict[str, Any]]:
    """The messages of a chat completion. Every call is followed by its tool message."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "assistant":
            message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
            if turn.calls:
                message["tool_calls"] = [
                    {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                    for call in turn.calls
                ]
            messages.append(message)
            messages += [{"role": "tool", "tool_call_id": call.id, "content": _told(call)} for call in turn.calls]
            shown = _shown(turn.calls)
            if shown:
                messages.append({"role": "user", "content": [_openai_part(each, attachment) for each in shown]})
        elif turn.role == "user" and _has_image(turn.content):
            messages.append({"role": "user", "content": [_openai_part(each, attachment) for each in turn.content]})
        else:
            messages.append({"role": turn.role, "content": turn.text})
    return messages


def _openai_part(piece: str | File, attachment: Bytes) -> dict[str, Any]:
    if isinstance(piece, File) and piece.is_image:
        return {"type": "image_url", "image_url": {"url": _url(piece, attachment)}}
    return {"type": "text", "text": piece if isinstance(piece, str) else piece.mark}


def to_anthropic(turns: Sequence[Turn], attachment: Bytes) -> dict[str, Any]:
    """`messages`, and `system` where there is such text: sides in turn, the user first, all results of a turn at the
    start of the next one."""
    system = [turn.text for turn in turns if turn.role == "system"]
    messages: list[dict[str, Any]] = []
    ids: dict[str, int] = {}
    for turn in turns:
        if turn.role == "system":
            continue
        blocks = [_anthropic_block(piece, attachment) for piece in turn.content]
        if turn.role == "user":
            _append(messages, "user", blocks)
            continue
        results: list[dict[str, Any]] = []
        for call in turn.calls:
            identifier = _clean(call.id, ids)
            blocks.append(
                {"type": "tool_use", "id": identifier, "name": call.name, "input": decode_text(call.arguments)}
            )
            results.append(_anthropic_result(call, identifier, attachment))
        _append(messages, "assistant", blocks)
        if results:
            _append(messages, "user", results)
    if messages and messages[0]["role"] == "assistant":
        messages.insert(0, {"role": "user", "content": [{"type": "text", "text": _STUB}]})
    told = "\n\n".join(system)
    return {"system": told, "messages": messages} if told else {"messages": messages}


def _append(messages: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if messages and messages[-1]["role"] == role:
        messages[-1]["content"] += blocks
    else:
        messages.append({"role": role, "content": blocks})


def _anthropic_block(piece: str | File, attachment: Bytes) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    if not piece.is_image:
        return {"type": "text", "text": piece.mark}
    url = _url(piece, attachment)
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    return {"type": "image", "source": {"type": "base64", "media_type": piece.mime, "data": url.partition(",")[2]}}


def _anthropic_result(call: Call, identifier: str, attachment: Bytes) -> dict[str, Any]:
    told = _told(call)
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": identifier, "content": told}
    images = [_anthropic_block(each, attachment) for each in call.files if each.is_image]
    if images:
        block["content"] = [*([{"type": "text", "text": told}] if told else []), *images]
    if call.is_error:
        block["is_error"] = True
    return block


def _clean(identifier: str, seen: dict[str, int]) -> str:
    """An id of the characters that are allowed, used once."""
    cleaned = _NOT_IN_ID.sub("_", identifier) or "call"
    seen[cleaned] = seen.get(cleaned, 0) + 1
    return cleaned if seen[cleaned] == 1 else f"{cleaned}-{seen[cleaned]}"


def to_responses(turns: Sequence[Turn], attachment: Bytes) -> list[dict[str, Any]]:
    """The input items of the Responses interface."""
    items: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "system":
            items.append({"role": "developer", "content": turn.text})
        elif turn.role == "user":
            items.append({"role": "user", "content": _responses_content(turn.content, attachment)})
        else:
            if turn.content:
                items.append({"role": "assistant", "content": turn.text})
            for call in turn.calls:
                named = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
                items.append({"type": "function_call", **named})
            for call in turn.calls:
                items.append({"type": "function_call_output", "call_id": call.id, "output": _told(call)})
            shown = _shown(turn.calls)
            if shown:
                items.append({"role": "user", "content": _responses_content(shown, attachment)})
    return items


def _responses_content(content: Sequence[str | File], attachment: Bytes) -> str | list[dict[str, Any]]:
    if not _has_image(content):
        return "".join(each if isinstance(each, str) else each.mark for each in content)
    return [
        {"type": "input_image", "image_url": _url(each, attachment), "detail": "auto"}
        if isinstance(each, File) and each.is_image
        else {"type": "input_text", "text": each if isinstance(each, str) else each.mark}
        for each in content
    ]


def _told(call: Call) -> str | None:
    """What a call gave back, as text: with a mark for each of its files that no model takes as an image."""
    marks = [each.mark for each in call.files if not each.is_image]
    return "\n".join([*filter(None, [call.result]), *marks]) if marks else call.result


def _shown(calls: Sequence[Call]) -> list[str | File]:
    """The images that results had, each call's after a line that says whose they are."""
    shown: list[str | File] = []
    for call in calls:
        images = [each for each in call.files if each.is_image]
        if images:
            shown += [f"[images of the result of {call.name} {call.id}]", *images]
    return shown


def _has_image(content: Sequence[str | File]) -> bool:
    return any(isinstance(each, File) and each.is_image for each in content)


def _url(file: File, attachment: Bytes) -> str:
    if file.url is None and file.sha256 is not None:
        return data_url(file.mime, attachment(file.sha256))
    return file.url or ""
