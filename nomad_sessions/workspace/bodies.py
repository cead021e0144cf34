"""What patches do to a message's body: updates, and the text that a stream adds. Values in, values out.

Invariant: a body after its deltas is what it would be had the text come in one piece, surrogate pairs cut between two
deltas included; where there are parts, `content` and `toolCalls` are theirs. Verified by
`tests/unit/test_streaming.py`.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

__all__ = ["Body", "join_parts", "patch", "text_kind"]

Body = dict[str, Any]


def patch(body: Body, record: Body, streamed: bool) -> bool:
    """Applies an update or a delta, as it lies in the journal, to a message's body; whether its parts are to be joined
    then (`streamed`: before), because text was added. An update finds them joined: it was decided so, and a fold that
    came between would have written them so."""
    if "text" in record:
        _delta(body, record)
        return True
    if streamed:
        join_parts(body)
    body.update(record.get("set", {}))
    for key in record.get("unset", ()):
        body.pop(key, None)
    return False


def text_kind(part: Body) -> str:
    """The type of a part that a delta may add text to; "" for others, whatever another tool put there."""
    kind = str(part.get("type"))
    if kind == "tool_call":
        return kind if isinstance(part.get("toolCall", {}), dict) else ""
    text = part.get("content") is None or isinstance(part["content"], str)
    return kind if text and kind != "tool_result" and "file" not in part else ""


def _longer(text: str | None, delta: str) -> str:
    """Both together. A stream may cut a surrogate pair, which JSON could not tell from the whole once they meet."""
    text = text or ""
    if text[-1:] >= "\ud800" and delta and "\ud800" <= text[-1] <= "\udbff" and "\udc00" <= delta[0] <= "\udfff":
        pair = text[-1] + delta[0]
        return text[:-1] + pair.encode("utf-16-le", "surrogatepass").decode("utf-16-le") + delta[1:]
    return text + delta


def _delta(body: Body, record: Body) -> None:
    text, index = record["text"], record.get("part")
    if index is None:
        body["content"] = _longer(body.get("content"), text)
        return
    parts: list[Body] = body.setdefault("parts", [])
    if "new" in record:
        parts.append(dict(record["new"]))
    part = parts[index]
    if part.get("type") == "tool_call":
        function = part.setdefault("toolCall", {}).setdefault("function", {})
        function["arguments"] = _longer(function.get("arguments"), text)
    else:
        part["content"] = _longer(part.get("content"), text)


def join_parts(body: Body) -> None:
    """Where there are parts they are canonical: content is their text, `toolCalls` their calls."""
    parts = body.get("parts") or ()
    texts = [part.get("content") for part in parts if part.get("type") == "text"]
    ours = [text for text in texts if isinstance(text, str)]
    if ours:
        # Two parts may begin and end with the halves of a pair, too: joined they are what JSON makes of them.
        body["content"] = reduce(_longer, ours, "")
    calls = [part["toolCall"] for part in parts if part.get("type") == "tool_call" and part.get("toolCall")]
    if calls:
        body["toolCalls"] = calls
