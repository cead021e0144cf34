"""Codex's items, which are those of OpenAI's Responses interface, as parts of messages. Pure.

| Codex | here |
|---|---|
| an assistant's output_text; reasoning's summary, else its text | parts text, thinking |
| function_call, custom_tool_call, local_shell_call | part tool_call: the arguments, `{"input": …}`, the action |
| web_search_call, which the provider answers | part tool_call with its result: that it is not recorded |
| each output of a call | a message of role `tool`; `status` is `error` where the command's exit code is not 0 |
| input_image | a file part; an image that is only named by its id is a text part |
| any other block of a message | a part of its own type, the block under `codex` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nomad_sessions.formats.values import as_json, as_text, blocks, finite, mapping, text
from nomad_sessions.storage.codec import decode_text

__all__ = ["NOT_RECORDED", "SHELL", "answer_of", "is_injected", "prompt_of", "result_of", "summary_of"]

NOT_RECORDED = "[the provider answered this call: Codex does not record what with]"
SHELL = "<user_shell_command>"
"""What the user ran himself begins with it: it is told to the model, and is no prompt."""
_INJECTED = (
    ("<environment_context>", "</environment_context>"),
    ("<user_instructions>", "</user_instructions>"),
    ("# agents.md instructions", "</instructions>"),
    ("<permissions instructions>", "</permissions instructions>"),
    ("<skills_instructions>", "</skills_instructions>"),
    ("<skill>", "</skill>"),
    ("<turn_aborted>", "</turn_aborted>"),
    ("<subagent_notification>", "</subagent_notification>"),
)
_WRAPPER = re.compile(r"\s*(<image(\s[^>]*)?>|</image>)\s*")
_DATA_URL = re.compile(r"data:([^,;]+)[,;]")
_EXIT = re.compile(r"(?:Exit code: |Process exited with code )(-?\d{1,9})\s*")
_HEADINGS = ("Exit code:", "Chunk ID:", "Wall time:", "Process ", "Original token count:", "Total output lines:")
_MOST_HEADINGS = 8
_CALLS = {
    "function_call": "",
    "custom_tool_call": "",
    "local_shell_call": "local_shell",
    "tool_search_call": "tool_search",
    "web_search_call": "web_search",
}
_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_search_output")


def is_injected(told: str) -> bool:
    """Whether a text of the user's role is one that Codex puts there, and no person's."""
    said = told.strip().lower()
    return any(said.startswith(begin) and said.endswith(end) for begin, end in _INJECTED)


def prompt_of(content: Any) -> tuple[list[dict[str, Any]], int]:
    """The parts of what a user said, and how many texts were left out because Codex put them there."""
    parts: list[dict[str, Any]] = []
    injected = 0
    for block in blocks(content):
        told = block.get("text")
        if isinstance(told, str) and is_injected(told):
            injected += 1
        elif not (isinstance(told, str) and _WRAPPER.fullmatch(told)):
            parts.append(_block(block))
    return parts, injected


def _block(block: Mapping[str, Any]) -> dict[str, Any]:
    url, file = text(block.get("image_url")), text(block.get("file_id"))
    if isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    if url:
        data = _DATA_URL.match(url)
        return {"type": "file", "file": {"mime": data[1] if data else "image/*", "url": url}}
    if file:
        return {"type": "text", "content": f"[image {file}]"}
    return {"type": text(block.get("type")) or "unknown", "codex": finite(dict(block))}


def answer_of(item: Mapping[str, Any], key: str) -> list[dict[str, Any]] | None:
    """The parts of an item of the assistant's, none where it says nothing that can be read; None for any other item.
    `key` stands for the id of a call that has none."""
    kind = text(item.get("type")) or ""
    if kind == "message" and item.get("role") == "assistant":
        return [_block(each) for each in blocks(item.get("content"))]
    if kind == "reasoning":
        told, other = _told(item.get("summary") or item.get("content"))
        return ([{"type": "thinking", "content": told}] if told else []) + other
    if kind == "image_generation_call":
        return _drawn(item)
    return [_call(kind, item, key)] if kind in _CALLS else None


def _call(kind: str, item: Mapping[str, Any], key: str) -> dict[str, Any]:
    identifier = text(item.get("call_id")) or text(item.get("id")) or f"{kind}-{key}"
    arguments = item.get("arguments")
    if kind == "custom_tool_call":
        arguments = {"input": item.get("input")}
    elif kind in ("local_shell_call", "web_search_call"):
        action = item.get("action")
        arguments = {key: action[key] for key in action if key != "type"} if isinstance(action, dict) else action
    given = arguments if isinstance(arguments, str) else as_json({} if arguments is None else arguments)
    function = {"name": _CALLS[kind] or text(item.get("name")) or "unknown", "arguments": given}
    part: dict[str, Any] = {
        "type": "tool_call",
        "toolCall": {"id": identifier, "type": "function", "function": function},
    }
    if text(item.get("namespace")):
        part["codex"] = {"namespace": item["namespace"]}
    if kind == "web_search_call":
        failed = {"isError": True} if item.get("status") == "failed" else {}
        part["toolResult"] = {"toolCallId": identifier, "content": NOT_RECORDED, **failed}
    return part


def _drawn(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The image that the provider made."""
    if not text(item.get("result")):
        return []
    return [{"type": "file", "file": {"mime": "image/png", "url": f"data:image/png;base64,{item['result']}"}}]


def result_of(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """The message of a call's output; None for any other item."""
    if item.get("type") not in _OUTPUTS:
        return None
    output = item.get("tools") if item["type"] == "tool_search_output" else item.get("output")
    message: dict[str, Any] = {"role": "tool", "toolCallId": text(item.get("call_id")) or ""}
    failed = item.get("status") == "failed"
    given = output
    if isinstance(output, dict) and "content" in output:  # As the earliest wrote it.
        given = blocks(output["content"])
        failed = failed or output.get("success") is False
    code: int | None = None
    if isinstance(given, list) and item["type"] != "tool_search_output":
        told, files = _told(given)
        if files:
            message["parts"] = [{"type": "text", "content": told}, *files]
    else:
        told, code = _outcome(output if isinstance(output, str) else as_json(output))
    if "parts" not in message:
        message["content"] = told
    if code is not None:
        message["metadata"] = {"exitCode": code}
    return {**message, "status": "error" if failed or code else "completed"}


def _outcome(output: str) -> tuple[str, int | None]:
    """What a command said, and its exit code, which stands at one of three places or nowhere."""
    if output.startswith("{"):
        try:
            value = mapping(decode_text(output))
        except ValueError:
            value = {}
        code = mapping(value.get("metadata")).get("exit_code")
        if isinstance(value.get("output"), str) and type(code) is int:
            return value["output"], code
    for line in output.split("\n", _MOST_HEADINGS)[:_MOST_HEADINGS]:
        found = _EXIT.fullmatch(line)
        if found:
            return output, int(found[1])
        if not line.startswith(_HEADINGS):  # What the command itself says of an exit code is none.
            break
    return output, None


def summary_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The message of a compaction. One whose summary is encrypted does not begin the context of a model anew here."""
    told = as_text(payload.get("message"))
    if told.strip():
        return {"role": "system", "content": told, "metadata": {"compaction": {"tailStart": None}}}
    return {"role": "system", "content": "Conversation compacted", "codex": {"type": "compacted"}}


def _told(content: Any) -> tuple[str, list[dict[str, Any]]]:
    """The text of some content as one, and its other blocks as parts."""
    given = blocks(content)
    told = "\n".join(each["text"] for each in given if isinstance(each.get("text"), str))
    return told, [_block(each) for each in given if not isinstance(each.get("text"), str)]
