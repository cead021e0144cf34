"""Bytes and values: JSON in both directions, and the checksummed line that the journal and the tables are made of.

Invariant: `decode(encode(value)) == value` for every JSON value, lone surrogates and deep nesting included, and
`unframe(line)` returns a body only when every byte of the line is the one that `frame` wrote. Verified by
`tests/unit/test_codec.py`.

pydantic-core is the fast path. It refuses lone surrogates (JavaScript makes them when it slices an emoji) and nesting
beyond 200, and stdlib `json` refuses nesting near the interpreter's recursion limit, so each step has the next one to
fall back on; the last one keeps its own stack and has no limit.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator
from json import JSONDecodeError
from json.decoder import scanstring
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

__all__ = ["FRAME_PREFIX_LENGTH", "crc", "decode", "decode_text", "encode", "frame", "unframe"]

FRAME_PREFIX_LENGTH = 18
_OPEN = b'{"crc":"'
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_CONSTANTS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
crc = zlib.crc32


def encode(value: Any) -> bytes:
    """One line of UTF-8 JSON, without a newline. Raises `ValueError` for NaN and infinities, which JSON has not."""
    try:
        data: bytes = to_json(value, inf_nan_mode="constants")
    except (PydanticSerializationError, RecursionError):
        return _encode_slow(value)
    # The constants are cheap to look for, and nearly always absent; the strict encoder then decides.
    if b"NaN" in data or b"Infinity" in data:
        return _encode_slow(value)
    return data


def decode(data: bytes) -> Any:
    """The value of one JSON text. Raises `ValueError` when it is not JSON."""
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        return decode_text(data.decode("utf-8", "surrogatepass"))


def decode_text(text: str) -> Any:
    """As `decode`, for text: takes lone surrogates and any depth. Raises `ValueError` when it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        return _decode_deep(text)


def frame(body: bytes) -> bytes:
    """The checksummed line of `body`, a JSON object with at least one key; the checksum covers all that follows it."""
    rest = body[1:]
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)


def unframe(line: bytes) -> bytes | None:
    """The body of a framed line (with or without its newline), or None when any byte of it is not as written."""
    if line.endswith(b"\n"):
        line = line[:-1]
    rest = line[FRAME_PREFIX_LENGTH:]
    if line[:FRAME_PREFIX_LENGTH] != b'{"crc":"%08x",' % zlib.crc32(rest) or not rest:
        return None
    return b"{" + rest


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _encode_slow(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except RecursionError:
        return "".join(_pieces(value)).encode("ascii")


def _scalar(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not JSON")
    return json.dumps(value, ensure_ascii=True)


def _pieces(value: Any) -> Iterator[str]:
    """The JSON of `value` in pieces, walked with a stack of its own so that depth is no limit."""
    stack: list[tuple[Iterator[Any], str, bool]] = [(iter((value,)), "", True)]
    while stack:
        items, closing, first = stack.pop()
        for item in items:
            if not first:
                yield ","
            first = False
            if closing == "}":
                key, item = item
                yield _scalar(str(key)) + ":"
            if isinstance(item, dict | list | tuple):
                stack.append((items, closing, False))
                opening, end = ("{", "}") if isinstance(item, dict) else ("[", "]")
                yield opening
                stack.append((iter(item.items() if isinstance(item, dict) else item), end, True))
                break
            yield _scalar(item)
        else:
            yield closing


def _decode_deep(text: str) -> Any:
    """A JSON reader with a stack of its own, for nesting that stops the others; RFC 8259, no extensions."""
    root: list[Any] = []
    stack: list[Any] = [root]
    keys: list[str | None] = [None]
    at = _skip(text, 0)
    while True:
        at = _value(text, at, stack, keys)
        if len(stack) > 1 and at < 0:
            at = -at
            continue
        at = abs(at)
        while len(stack) > 1:
            at = _skip(text, at)
            closing = "}" if isinstance(stack[-1], dict) else "]"
            if text[at : at + 1] == closing:
                stack.pop()
                keys.pop()
                at += 1
                continue
            if text[at : at + 1] != ",":
                raise JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _key(text, _skip(text, at + 1), stack, keys)
            break
        else:
            if _skip(text, at) != len(text):
                raise JSONDecodeError("Extra data", text, at)
            return root[0]


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _key(text: str, at: int, stack: list[Any], keys: list[str | None]) -> int:
    """Where the next value starts; in an object, reads its key first."""
    if not isinstance(stack[-1], dict):
        return at
    if text[at : at + 1] != '"':
        raise JSONDecodeError("Expecting property name", text, at)
    keys[-1], at = scanstring(text, at + 1, True)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise JSONDecodeError("Expecting ':' delimiter", text, at)
    return _skip(text, at + 1)


def _put(stack: list[Any], keys: list[str | None], value: Any) -> None:
    if isinstance(stack[-1], dict):
        stack[-1][keys[-1]] = value
    else:
        stack[-1].append(value)


def _value(text: str, at: int, stack: list[Any], keys: list[str | None]) -> int:
    """Reads the value at `at`; the position after it, negated when it opened a container that has a first member."""
    start = text[at : at + 1]
    if start == '"':
        value, end = scanstring(text, at + 1, True)
        _put(stack, keys, value)
        return int(end)
    if start and start in "{[":
        value = {} if start == "{" else []
        _put(stack, keys, value)
        inside = _skip(text, at + 1)
        if text[inside : inside + 1] == ("}" if start == "{" else "]"):
            return inside + 1
        stack.append(value)
        keys.append(None)
        return -_key(text, inside, stack, keys)
    if start and start in _CONSTANTS and text.startswith(_CONSTANTS[start][0], at):
        word, value = _CONSTANTS[start]
        _put(stack, keys, value)
        return at + len(word)
    number = _NUMBER.match(text, at)
    if not number:
        raise JSONDecodeError("Expecting value", text, at)
    literal = number.group()
    _put(stack, keys, float(literal) if number.group(1) or number.group(2) else int(literal))
    return number.end()
