"""Bytes and values: JSON in both directions, and the checksummed line that the journal and the tables are made of.

Invariant: `decode(encode(value)) == value` for every JSON value, lone surrogates and deep nesting included, and
`unframe(line)` returns a body only when every byte of the line is the one that `frame` wrote. Verified by
`tests/unit/test_codec.py`, `tests/unit/test_codec_plain.py`.

pydantic-core is the fast path. It refuses lone surrogates (JavaScript makes them when it slices an emoji) and nesting
beyond 200, and stdlib `json` refuses nesting near the interpreter's recursion limit, so each step has the next one to
fall back on; the last one keeps its own stack and has no limit.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from json import JSONDecodeError
from json import decoder as _decoder
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from nomad_sessions.storage import checksum

__all__ = [
    "FRAME_PREFIX_LENGTH",
    "FRAME_START",
    "decode",
    "decode_text",
    "encode",
    "encode_name",
    "encode_names",
    "frame",
    "frame_parts",
    "hurry",
    "is_framed",
    "repeats_keys",
    "unframe",
]

FRAME_PREFIX_LENGTH = 18
FRAME_START = b'{"crc":"'
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_CONSTANTS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_scanstring: Callable[[str, int, bool], tuple[str, int]] = vars(_decoder)["scanstring"]
_dumps: Callable[[Any], bytes] = to_json


def encode(value: Any, *, finite: bool = False) -> bytes:
    """One line of UTF-8 JSON, without a newline. Raises `ValueError` for NaN and infinities, which JSON has not.

    `finite` says that there is none, so that they are not looked for: in long texts that takes as long as encoding. It
    is a third of the time after `hurry`, and the same bytes, but that a float may be spelt otherwise.
    """
    if finite:
        try:
            return _dumps(value)
        except (TypeError, ValueError, RecursionError):  # Half a character, a number of over 64 bits, nested deep.
            return _encode_any(value)
    data = _encode_any(value)
    # The constants are nearly always absent; where they are not, the strict encoder decides.
    return _encode_slow(value) if b"NaN" in data or b"Infinity" in data else data


def hurry() -> None:
    """From now on what is `finite` is encoded as quickly as can be: by `orjson` (the extra `fast`), which looks at 32
    characters at once. To be called where there is much to do: loading it takes as long as encoding a thousand
    messages. Does nothing without the extra."""
    global _dumps  # noqa: PLW0603  # The same bytes, whoever writes them.
    try:
        from orjson import dumps
    except ImportError:
        return
    _dumps = dumps


def encode_name(name: str) -> bytes:
    """As `encode`, for text; in a third of the time where it is letters and digits, as ids are."""
    return b'"%b"' % name.encode() if name.isascii() and name.isalnum() else encode(name)


def encode_names(names: Sequence[str]) -> list[str]:
    """As `encode_name`, of several, as text: in less time where all are letters and digits."""
    joined = "".join(names)
    if joined.isascii() and joined.isalnum() and all(names):
        return [f'"{name}"' for name in names]
    return [encode_name(name).decode() for name in names]


def decode(data: bytes, *, deep: bool = True) -> Any:
    """The value of one JSON text. Raises `ValueError` when it is not JSON.

    What is nested too deep for Python is read a hundred times as slowly; without `deep` it is a `RecursionError`.
    """
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:
        return decode_text(data.decode("utf-8", "surrogatepass"), deep=deep)


def decode_text(text: str, *, deep: bool = True) -> Any:
    """As `decode`, for text: takes lone surrogates and any depth. Raises `ValueError` when it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        if not deep:
            raise
        return _DeepReader(text).read()


def repeats_keys(data: bytes) -> bool:
    """Whether an object in this JSON text has a key twice, so that readers see the last value only; True where it is
    nested too deep to tell. Raises `ValueError` when it is not JSON."""
    repeated = False

    def pairs(found: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        repeated = repeated or len({key for key, _ in found}) < len(found)

    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogatepass")
        json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        return True
    return repeated


def frame(body: bytes) -> bytes:
    """The checksummed line of `body`, a JSON object with at least one key; the checksum covers all that follows it."""
    return frame_parts(body[1:])


def frame_parts(*rest: bytes) -> bytes:
    """As `frame`, of what follows the brace that begins the object, given in pieces: they are copied once."""
    crc = 0
    for piece in rest:
        crc = checksum.crc32(piece, crc)
    return b"".join((b'{"crc":"%08x",' % crc, *rest, b"\n"))


def unframe(line: bytes) -> bytes | None:
    """The body of a framed line (with or without its newline), or None when any byte of it is not as written."""
    stop = len(line) - line.endswith(b"\n")
    return b"{" + line[FRAME_PREFIX_LENGTH:stop] if is_framed(line, 0, stop) else None


def is_framed(data: bytes, start: int, stop: int) -> bool:
    """Whether these bytes are a framed line without its newline, each as it was written."""
    rest = data[start + FRAME_PREFIX_LENGTH : stop]
    return bool(rest) and data.startswith(b'{"crc":"%08x",' % checksum.crc32(rest), start)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _encode_any(value: Any) -> bytes:
    """One line of JSON, in which a number may be NaN or infinite."""
    try:
        return to_json(value, inf_nan_mode="constants")
    except (PydanticSerializationError, RecursionError):
        return _encode_slow(value)


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
    opened: list[tuple[Iterator[Any], str]] = [(iter((value,)), "")]
    separator = ""
    while opened:
        items, end = opened[-1]
        for item in items:
            yield separator
            child = item
            if end == "}":
                key, child = item
                yield _scalar(str(key)) + ":"
            separator = ","
            if isinstance(child, dict | list | tuple):
                if isinstance(child, dict):
                    opened.append((iter(child.items()), "}"))
                else:
                    opened.append((iter(child), "]"))
                yield "{" if isinstance(child, dict) else "["
                separator = ""
                break
            yield _scalar(child)
        else:
            yield end
            separator = ","
            opened.pop()


class _DeepReader:
    """A JSON reader (RFC 8259, no extensions) with a stack of its own, for nesting that stops the others."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._root: list[Any] = []
        self._open: list[Any] = [self._root]

    def read(self) -> Any:
        self._value()
        while len(self._open) > 1:
            self._skip()
            container = self._open[-1]
            if self._take("}" if isinstance(container, dict) else "]"):
                self._open.pop()
                continue
            if container and not self._take(","):
                raise self._error("Expecting ',' delimiter")
            self._skip()
            self._value(self._key() if isinstance(container, dict) else None)
        self._skip()
        if self._at != len(self._text):
            raise self._error("Extra data")
        return self._root[0]

    def _value(self, key: str | None = None) -> None:
        """Reads one value into the innermost container; a container stays open."""
        self._skip()
        start = self._text[self._at : self._at + 1]
        value: Any
        if start == '"':
            value = self._string()
        elif start in ("{", "["):
            self._at += 1
            value = {} if start == "{" else []
        elif start in _CONSTANTS and self._text.startswith(_CONSTANTS[start][0], self._at):
            word, value = _CONSTANTS[start]
            self._at += len(word)
        else:
            value = self._number()
        container = self._open[-1]
        if isinstance(container, dict):
            container[key] = value
        else:
            container.append(value)
        if start in ("{", "["):
            self._open.append(value)

    def _key(self) -> str:
        if self._text[self._at : self._at + 1] != '"':
            raise self._error("Expecting property name")
        key = self._string()
        self._skip()
        if not self._take(":"):
            raise self._error("Expecting ':' delimiter")
        return key

    def _string(self) -> str:
        value, self._at = _scanstring(self._text, self._at + 1, True)
        return str(value)

    def _number(self) -> int | float:
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            raise self._error("Expecting value")
        self._at = match.end()
        return float(match[0]) if match[1] or match[2] else int(match[0])

    def _take(self, character: str) -> bool:
        found = self._text.startswith(character, self._at)
        self._at += found
        return found

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _error(self, message: str) -> JSONDecodeError:
        return JSONDecodeError(message, self._text, self._at)
