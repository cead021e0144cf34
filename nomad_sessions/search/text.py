"""What of a session or a message is searched: its words, sorted into four fields that count differently. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["COLUMNS", "Doc", "clean", "doc_of_message", "doc_of_session"]

COLUMNS = ("title", "names", "body", "calls")
_SAFE = str.maketrans({"\0": " ", "\x02": " ", "\x03": " "})  # NUL ends a text in sqlite; the others mark hits.
_NO_TEXT = ("id", "type", "hash", "snapshot")  # Of other tools' parts: no person wrote it.
_SHOWN = frozenset({"text", "thinking", "code"})


class Doc(NamedTuple):
    """The searched text of one thing. `title`: a session's title and description. `names`: its id and agent, or the
    names of a message's tools and files. `body`: what was said. `calls`: arguments of tools, and what they gave.
    `tools` are the tools' names again, to filter by."""

    title: str
    names: str
    body: str
    calls: str
    tools: tuple[str, ...]

    def digest(self) -> int:
        """64 bits that two docs of the same text share."""
        whole = "\1".join(self[:4]).encode("utf-8")
        return int.from_bytes(hashlib.blake2b(whole, digest_size=8).digest(), "big", signed=True)


def doc_of_session(fields: Mapping[str, Any], session_id: str) -> Doc:
    """The doc of a session's own fields (camelCase)."""
    title = _joined([fields.get("title"), fields.get("description")])
    return Doc(title, _joined([session_id, fields.get("agent")]), "", "", ())


def doc_of_message(body: Mapping[str, Any]) -> Doc:
    """The doc of a message (camelCase). Bytes of files are not searched, their names are."""
    said: list[Any] = []
    names: list[Any] = []
    calls: list[Any] = []
    tools: list[str] = []
    parts = body.get("parts") or ()
    for part in parts:
        kind = part.get("type")
        if kind in _SHOWN or kind is None:
            said.append(part.get("content"))
        else:
            calls.append(part.get("content"))
        for call in _calls(part.get("toolCall")):
            tools.append(call[0])
            calls.append(call[1])
        result = part.get("toolResult")
        calls.append(result.get("content") if isinstance(result, dict) else None)
        file = part.get("file")
        names.append(file.get("name") if isinstance(file, dict) else None)
        if kind not in _SHOWN and not any(key in part for key in ("content", "toolCall", "toolResult", "file")):
            calls += _texts(part)
    if not any(said):  # No parts, or those of another tool: the message itself has the text.
        (calls if body.get("role") == "tool" else said).append(body.get("content"))
    if not parts:
        for each in body.get("toolCalls") or ():
            for call in _calls(each):
                tools.append(call[0])
                calls.append(call[1])
    tools += [body["toolName"]] if isinstance(body.get("toolName"), str) else []
    used = tuple(dict.fromkeys(clean(each) for each in tools))
    return Doc("", _joined([*used, *names]), _joined(said), _joined(calls), used)


def _calls(call: Any) -> Iterator[tuple[str, Any]]:
    function = call.get("function") if isinstance(call, dict) else None
    if isinstance(function, dict):
        yield str(function.get("name") or ""), function.get("arguments")


def _texts(value: Any) -> Iterator[str]:
    """The texts in a part of a kind that is another tool's: a subtask's prompt, a patch's files."""
    if isinstance(value, str) and not value.startswith("data:"):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            if key not in _NO_TEXT:
                yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _joined(values: Iterable[Any]) -> str:
    return "\n".join(clean(each) for each in values if isinstance(each, str) and each)


def clean(text: str) -> str:
    """A text as sqlite takes it. Half a character of a pair, as streams may leave it, becomes a question mark."""
    text = text.translate(_SAFE)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
