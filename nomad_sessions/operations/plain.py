"""What a caller handed in, as values of the store's own: a copy that holds nothing but JSON.

Invariant: `plain(value)` shares no list or dict with `value`, and `decode(encode(plain(value))) == plain(value)`. So
what a call returns is what a later read gives, whatever the caller does to its own objects meanwhile. Verified by
`tests/unit/test_plain.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import dump
from nomad_sessions.models.base import Model
from nomad_sessions.storage.codec import encode

__all__ = ["MAX_DEPTH", "plain", "same", "text_of", "without"]

MAX_DEPTH = 5_000
"""Deeper than this is taken for a list or dict that contains itself."""

_SHALLOW = 20
_ATOMS = frozenset({int, bool, type(None)})


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of `body` made of dicts, lists, str, int, float, bool and None. Tuples become lists.

    Raises `InvalidInputError` naming the field for what JSON cannot hold: other objects, NaN and infinities, keys that
    are no text, what contains itself. Costs a microsecond or less where nothing is nested.
    """
    result: dict[str, Any] = {}
    for key, value in body.items():
        kind = type(value)
        if kind in _ATOMS or (kind is str and value.isascii()):
            result[key] = value
        else:
            result[key] = _copy(value, key)
    return result


def text_of(text: str) -> str:
    """`text`, in which two halves of a surrogate pair that meet are the character that they stand for: JSON knows no
    difference, and a stream may cut between them. A half that stands alone stays."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def without(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """A mapping, but for these of its keys."""
    return {key: value for key, value in body.items() if key not in names}


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are written alike: 1, 1.0 and True differ, and so do two orders of keys."""
    if isinstance(one, dict | list) and isinstance(other, dict | list):
        return encode(one) == encode(other)
    return type(one) is type(other) and bool(one == other)


class _Unusual(Exception):
    """A value that only the long way can decide about."""


def _copy(value: Any, field: str) -> Any:
    """The copy of one value."""
    try:
        return _quick(value, _SHALLOW)
    except _Unusual:
        return _long(value, field)


def _quick(value: Any, levels: int) -> Any:
    """The copy of what nearly every value is: of the types that JSON gives, and not deep. A third of the long way."""
    kind = type(value)
    if kind in _ATOMS or (kind is float and math.isfinite(value)):
        return value
    if kind is str:
        return value if value.isascii() else text_of(value)
    if kind is list and levels:
        return [_quick(child, levels - 1) for child in value]
    if kind is dict and levels:
        made: dict[str, Any] = {}
        for key, child in value.items():
            if type(key) is not str or not key.isascii():
                raise _Unusual
            made[key] = _quick(child, levels - 1)
        return made
    raise _Unusual


def _long(value: Any, field: str) -> Any:
    """The copy of any value, made with a stack of its own, so that depth is no limit."""
    copied, children = _shallow(value, field)
    stack = [(copied, children)] if children else []
    while stack:
        target, rest = stack[-1]
        if not rest:
            stack.pop()
            continue
        if len(stack) > MAX_DEPTH:
            raise InvalidInputError(field=field, value=type(value), reason=f"is nested more than {MAX_DEPTH} deep")
        place, child = rest.pop()
        target[place], children = _shallow(child, field)
        if children:
            stack.append((target[place], children))
    return copied


def _shallow(value: Any, field: str) -> tuple[Any, list[tuple[Any, Any]]]:
    """A copy with its containers still empty, and what is to be put in them, last first."""
    if isinstance(value, str):
        return text_of(str.__str__(value)), []
    if value is None or isinstance(value, bool):
        return value, []
    if isinstance(value, int):
        return int(value), []
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInputError(field=field, value=value, reason="is a number that JSON has not")
        return float(value), []
    return _container(value, field)


def _container(value: Any, field: str) -> tuple[Any, list[tuple[Any, Any]]]:
    if isinstance(value, Model):
        value = dump(value)
    if isinstance(value, dict):
        made: dict[str, Any] = {}
        inner: list[tuple[Any, Any]] = []
        for key, child in value.items():
            if not isinstance(key, str):
                raise InvalidInputError(field=field, value=key, reason="has a key that is no str")
            name = text_of(str.__str__(key))
            if type(child) in _ATOMS:
                made[name] = child
            else:
                made[name] = None  # Holds the place, so that the order stays.
                inner.append((name, child))
        return made, inner[::-1]
    if isinstance(value, list | tuple):
        return [None] * len(value), list(enumerate(value))[::-1]
    raise InvalidInputError(field=field, value=value, reason=f"cannot be stored: {type(value).__name__} is no JSON")
