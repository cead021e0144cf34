"""The formats that can be imported, found by what a file holds and not by its name.

Documents are JSON files, or lines of JSON, that are read whole: a module with `sniff(value) -> bool` and
`parse(value, report) -> list[ParsedSession]`, and a line in `FORMATS`. Histories are what a tool keeps on disk, session
by session: a module with an `IMPORTER`, and a line in `IMPORTERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import (
    agents_sdk,
    aider,
    claude,
    codex,
    crush,
    gemini,
    goose,
    llm,
    nomadarch,
    opencode,
    opencode_history,
    opencode_share,
    pi,
    session_lines,
    strands,
)
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Importer
from nomad_sessions.storage.codec import decode

__all__ = ["FORMATS", "IMPORTERS", "Format", "importer_of", "recognise"]


@dataclass(frozen=True)
class Format:
    """One importable format; `sniff` is cheap and never raises, `parse` is pure but for the report."""

    name: str
    sniff: Callable[[Any], bool]
    parse: Callable[[Any, ImportReport], list[ParsedSession]]


FORMATS = (
    Format("nomadarch", nomadarch.sniff, nomadarch.parse),
    Format("opencode", opencode.sniff, opencode.parse),
    Format("opencode-share", opencode_share.sniff, opencode_share.parse),
    Format("session-lines", session_lines.sniff, session_lines.parse),
)

IMPORTERS: tuple[Importer, ...] = (
    opencode_history.IMPORTER,
    claude.IMPORTER,
    codex.IMPORTER,
    gemini.IMPORTER,
    pi.IMPORTER,
    goose.IMPORTER,
    llm.IMPORTER,
    crush.IMPORTER,
    aider.IMPORTER,
    strands.IMPORTER,
    agents_sdk.IMPORTER,
)


def importer_of(path: Path) -> Importer | None:
    """The importer of a tool's own file or folder; None for anything else, a document or a device for instance."""
    if not path.is_dir() and not path.is_file():
        return None
    return next((each for each in IMPORTERS if each.sniff(path)), None)


def recognise(data: bytes, source: str, form: str | None = None) -> tuple[Format, Any]:
    """The format of a file's bytes, or with `form` that one, and the value they hold. `source` names it in errors.

    Raises `InvalidInputError` for bytes that are no JSON (an export cut off by a pipe, with the line where it ends) and
    for JSON of another shape.
    """
    try:
        value = decode(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        value = session_lines.read(data)
        if value is None:
            raise InvalidInputError(field="file", value=source, reason=f"not a whole JSON file: {error}") from error
    for candidate in FORMATS:
        if form in (None, candidate.name) and candidate.sniff(value):
            return candidate, value
    if form is not None:
        raise InvalidInputError(field="file", value=source, reason=f"holds nothing of the format {form}")
    names = ", ".join(dict.fromkeys([each.name for each in FORMATS] + [each.name for each in IMPORTERS]))
    raise InvalidInputError(field="file", value=source, reason=f"none of the formats that can be imported ({names})")
