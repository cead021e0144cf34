"""What patches do to a message's body: updates, and the text that a stream adds. Values in, values out.

Invariant: a body after its deltas is what it would be had the text come in one piece, surrogate pairs cut between two
deltas included; where there are parts, `content` and `toolCalls` are theirs. Verified by
`tests/unit/test_streaming.py` and `tests/unit/test_bodies.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["Body", "join_parts", "patch", "patch_all", "text_kind"]

Body = dict[str, Any]


def patch(body: Body, record: Body, streamed: bool) -> bool:
    """Applies an update or a delta, as it lies in the journal, to a message's body; whether its parts are to be joined
    then (`streamed`: before), because text was added. An update finds them joined: it was decided so, and a fold that
    came between would have written them so."""
    if "text" in record:
        if "new" in record:
            body.setdefault("parts", []).append(dict(record["new"]))
        _add(body, {record.get("part"): [record["text"]]})
        return True
    if streamed:
        join_parts(body)
    body.update(record.get("set", {}))
    for key in record.get("unset", ()):
        body.pop(key, None)
    return False


def patch_all(body: Body, records: Iterable[Body]) -> None:
    """Applies all that happened to a message, and joins its parts where they are to be joined. The texts that come to a
    part, or to the content, are added at once: to add each to what there is already would copy that as often."""
    streamed = False
    waiting: dict[int | None, list[str]] = {}
    for record in records:
        if "text" in record and "new" not in record:
            waiting.setdefault(record.get("part"), []).append(record["text"])
            continue
        if waiting:
            _add(body, waiting)
            waiting, streamed = {}, True
        streamed = patch(body, record, streamed)
    _add(body, waiting)
    if streamed or waiting:
        join_parts(body)


def text_kind(part: Body) -> str:
    """The type of a part that a delta may add text to; "" for others, whatever another tool put there."""
    kind = str(part.get("type"))
    if kind == "tool_call":
        return kind if isinstance(part.get("toolCall", {}), dict) else ""
    text = part.get("content") is None or isinstance(part["content"], str)
    return kind if text and kind != "tool_result" and "file" not in part else ""


def _joined(texts: Iterable[str]) -> str:
    """All together. A stream may cut a surrogate pair, which JSON could not tell from the whole once they meet."""
    pieces: list[str] = []
    for text in filter(None, texts):
        last = pieces[-1] if pieces else ""
        if "\ud800" <= last[-1:] <= "\udbff" and "\udc00" <= text[0] <= "\udfff":
            pair = (last[-1] + text[0]).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            pieces[-1:] = last[:-1], pair + text[1:]
        else:
            pieces.append(text)
    return "".join(pieces)


def _add(body: Body, texts: dict[int | None, list[str]]) -> None:
    """Adds texts to parts by their number, and to the content, which has None."""
    for index, added in texts.items():
        if index is None:
            place, key = body, "content"
        elif (place := body["parts"][index]).get("type") == "tool_call":
            place, key = place.setdefault("toolCall", {}).setdefault("function", {}), "arguments"
        else:
            key = "content"
        place[key] = _joined([place.get(key) or "", *added])


def join_parts(body: Body) -> None:
    """Where there are parts they are canonical: content is their text, `toolCalls` their calls."""
    parts = body.get("parts") or ()
    texts = [part.get("content") for part in parts if part.get("type") == "text"]
    ours = [text for text in texts if isinstance(text, str)]
    if ours:
        # Two parts may begin and end with the halves of a pair, too: joined they are what JSON makes of them.
        body["content"] = _joined(ours)
    calls = [part["toolCall"] for part in parts if part.get("type") == "tool_call" and part.get("toolCall")]
    if calls:
        body["toolCalls"] = calls
