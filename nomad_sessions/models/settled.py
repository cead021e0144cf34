"""What the store adds to a new message, told without building its model where the message has the usual shape.

Invariant: where `settled` gives an answer, `validate_new_message` takes the message, its `canonical` differs from it by
that answer alone, and no number in it is a float. Verified by a property in `tests/unit/test_settled.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from .base import names_of
from .message import PART_TYPES, ROLES, STATUSES, Message, MessagePart

__all__ = ["SCALARS", "settled"]

SCALARS = frozenset({str, int, bool, type(None)})
"""The types of values that any encoder of JSON spells alike."""
_TYPES: dict[str, dict[str, type]] = {
    "message": {
        "id": str,
        "role": str,
        "content": str,
        "parts": list,
        "createdAt": int,
        "updatedAt": int,
        "toolCallId": str,
        "status": str,
        "originId": str,
        "model": dict,
        "agent": str,
        "usage": dict,
    },
    "part": {"type": str, "content": str, "toolCall": dict, "startedAt": int, "endedAt": int},
    "model": {"providerId": str, "modelId": str},
    "usage": {"input": int, "output": int, "reasoning": int, "cacheRead": int, "cacheWrite": int},
}
_FIELDS = {
    kind: frozenset(each for names in names_of(cls) for each in names)
    for kind, cls in (("message", Message), ("part", MessagePart))
}


def settled(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `canonical` has beyond or unlike a new message, spelt as in JSON: its `status`, `content` and `toolCalls`.

    None where only the model can tell: for another role or status, for what is not text, whole numbers and parts of
    ours. Shares its values with the message. Cost: about 2 us, whatever the length of the texts.
    """
    nested = _nested("message", (*message, *map(type, message.values())))
    if nested is None or message.get("role") not in ROLES:
        return None
    for key in nested:
        given = message[key]
        if not _is_flat(key, (*given, *map(type, given.values()))):
            return None
    more: dict[str, Any] = {}
    status = message.get("status")
    if status is None:
        more["status"] = "completed"
    elif status not in STATUSES:
        return None
    parts = message.get("parts")
    if not parts:
        return more
    return None if "content" in message else _with_parts(more, parts)


_Shape = tuple[str | type, ...]
"""The keys of a record, then the types of its values."""


@lru_cache(maxsize=256)  # Messages by the million have a few shapes.
def _nested(what: str, shape: _Shape) -> tuple[str, ...] | None:
    """The keys whose values are objects of ours, where each value has just the type that its field has, and what is no
    field is a text or a whole number; else None."""
    types, fields = _TYPES[what], _FIELDS[what]
    nested = []
    for key, kind in _pairs(shape):
        wanted = types.get(key)
        if kind is wanted:
            if kind is dict and key in _TYPES:
                nested.append(key)
        elif wanted is not None or key in fields or kind not in SCALARS or not key.isascii():
            return None
    return tuple(nested)


@lru_cache(maxsize=256)
def _is_flat(what: str, shape: _Shape) -> bool:
    return all(kind is _TYPES[what].get(key) for key, kind in _pairs(shape))


def _pairs(shape: _Shape) -> Iterable[tuple[Any, Any]]:
    half = len(shape) // 2
    return zip(shape[:half], shape[half:], strict=True)


def _with_parts(more: dict[str, Any], parts: list[Any]) -> dict[str, Any] | None:
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in parts:
        if type(part) is not dict or _nested("part", (*part, *map(type, part.values()))) is None:
            return None
        kind = part.get("type")
        if kind not in PART_TYPES:
            return None
        call = part.get("toolCall")
        if kind == "tool_call" and call is not None:
            if not _is_call(call):
                return None
            calls.append(call)
        elif call is not None or "content" not in part:
            return None
        elif kind == "text":
            texts.append(part["content"])
    if texts and (content := "".join(texts)):
        more["content"] = content
    if calls:
        more["toolCalls"] = calls
    return more


def _is_call(call: Mapping[str, Any]) -> bool:
    """Whether a call has all its fields in their order, and nothing else."""
    if [*call] != ["id", "type", "function"]:
        return False
    function = call["function"]
    return (
        type(call["id"]) is str
        and type(call["type"]) is str
        and type(function) is dict
        and [*function] == ["name", "arguments"]
        and type(function["name"]) is str
        and type(function["arguments"]) is str
    )
