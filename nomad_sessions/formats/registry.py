"""The formats that can be imported, found by what a file holds and not by its name.

Adding one: a module with `sniff(value) -> bool` and `parse(value, report) -> list[ParsedSession]`, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import nomadarch, opencode
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.storage.codec import decode

__all__ = ["FORMATS", "Format", "recognise"]


@dataclass(frozen=True)
class Format:
    """One importable format; `sniff` is cheap and never raises, `parse` is pure but for the report."""

    name: str
    sniff: Callable[[Any], bool]
    parse: Callable[[Any, ImportReport], list[ParsedSession]]


FORMATS = (
    Format("nomadarch", nomadarch.sniff, nomadarch.parse),
    Format("opencode", opencode.sniff, opencode.parse),
)


def recognise(data: bytes, source: str) -> tuple[Format, Any]:
    """The format of a file's bytes, and the value they hold. `source` names the file in errors.

    Raises `InvalidInputError` for bytes that are no JSON (an export cut off by a pipe, with the line where it ends) and
    for JSON of another shape.
    """
    try:
        value = decode(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise InvalidInputError(field="file", value=source, reason=f"not a whole JSON file: {error}") from error
    for candidate in FORMATS:
        if candidate.sniff(value):
            return candidate, value
    names = ", ".join(candidate.name for candidate in FORMATS)
    raise InvalidInputError(field="file", value=source, reason=f"none of the formats that can be imported ({names})")
