"""JSON lines as other tools write them: one object a line, appended to, now and then torn.

Invariant: memory is bounded by the longest line, and every line is either given or in the report with its offset: a
crash leaves half a line or a run of NUL bytes, two writers splice two records into one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nomad_sessions.formats.report import ImportReport
from nomad_sessions.storage.codec import decode

__all__ = ["MAX_LINE", "Line", "first_record", "head", "lines", "lines_of"]

MAX_LINE = 256 << 20
_HEAD = 1 << 20
_BUFFER = 256 << 10  # bytes; lines of many KB are read in far fewer calls than the default takes
_TRIES = 32  # Each try reads the rest of the line: without a bound a long line of braces would take for ever.
_TRIED = 256 << 20  # bytes; so in a line of many MiB fewer seams are tried
_new = tuple.__new__  # What a NamedTuple's own call takes twice as long for: it is asked for by the million.
_TORN = "a torn line"
_NOT_JSON = "not JSON"


class Line(NamedTuple):
    """A record, and where its line lies in the file: byte offset and length."""

    record: dict[str, Any]
    offset: int
    length: int


def lines(path: Path, report: ImportReport | None, start: int = 0) -> Iterator[Line]:
    """The records of a file from a byte offset on, in order; what is none goes to the report (None: is passed over).

    Raises `OSError`. Cost: the bytes, once.
    """
    with path.open("rb", _BUFFER) as file:
        file.seek(start)
        yield from lines_of(file, path, report, start)


def lines_of(file: BinaryIO, path: Path, report: ImportReport | None, offset: int = 0) -> Iterator[Line]:
    """As `lines`, for an open file that stands at a byte offset; `path` names it in the report."""
    while raw := file.readline(MAX_LINE):
        length = len(raw)
        if length == MAX_LINE and not raw.endswith(b"\n"):
            length += _rest_of_line(file)
            _skip(report, path, offset, f"a line of over {MAX_LINE >> 20} MiB")
        elif (record := _object(raw)) is not None:
            yield _new(Line, (record, offset, length))
        else:
            yield from _found_in(raw, path, offset, raw.endswith(b"\n"), report)
        offset += length


def head(path: Path) -> Iterator[dict[str, Any]]:
    """The records that begin in the first MiB of a file, however long they are; never raises."""
    offset = 0
    try:
        with path.open("rb") as file:
            while offset < _HEAD and (raw := file.readline(MAX_LINE)):
                record = _object(raw)
                if record is not None:
                    yield record
                else:
                    yield from (line.record for line in _found_in(raw, path, offset, raw.endswith(b"\n"), None))
                offset += len(raw)
    except (OSError, ValueError):  # The second for a name that no file can have: a history may name another file.
        return


def first_record(path: Path) -> dict[str, Any] | None:
    """The first record of a file, if it has one that begins in its first MiB; never raises."""
    return next(head(path), None)


def _found_in(raw: bytes, path: Path, offset: int, whole: bool, report: ImportReport | None) -> Iterator[Line]:
    """What there is in a line that is no record as it stands."""
    text = raw.strip(b"\0 \t\r\n")
    if not text:
        if b"\0" in raw:
            _skip(report, path, offset, "NUL bytes")
        return
    lead = raw.find(text)
    record = _object(text)
    if record is not None:  # A run of NUL bytes, and after it the line.
        _skip(report, path, offset, "NUL bytes")
        yield Line(record, offset + lead, len(text))
        return
    found = list(_spliced(text))
    for start, stop, piece in found:
        yield Line(piece, offset + lead + start, stop - start)
    if found:
        _skip(report, path, offset, "records spliced into one line")
    elif not whole:
        _skip(report, path, offset, _TORN)
    else:
        _skip(report, path, offset, "invalid UTF-8" if not _is_utf8(text) else _NOT_JSON)


def _spliced(text: bytes) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The whole records in a line that holds two of them, or one behind half of another; from where to where each."""
    for at in _places(text, b"}{"):
        first, second = _object(text[: at + 1], deep=False), _object(text[at + 1 :], deep=False)
        if first is not None:
            yield 0, at + 1, first
        if second is not None:
            yield at + 1, len(text), second
        if first is not None or second is not None:
            return
    for at in _places(text, b'{"'):
        record = _object(text[at:], deep=False) if at else None
        if record is not None and len(record) > 1:
            yield at, len(text), record
            return


def _places(text: bytes, mark: bytes) -> Iterator[int]:
    at = text.find(mark)
    for _ in range(min(_TRIES, max(2, _TRIED // len(text)))):
        if at < 0:
            return
        yield at
        at = text.find(mark, at + 1)


def _object(raw: bytes, *, deep: bool = True) -> dict[str, Any] | None:
    try:
        value = decode(raw, deep=deep)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _rest_of_line(file: Any) -> int:
    """Reads on to the end of a line, keeping nothing; how many bytes."""
    length = 0
    while raw := file.readline(1 << 20):
        length += len(raw)
        if raw.endswith(b"\n"):
            break
    return length


def _skip(report: ImportReport | None, path: Path, offset: int, reason: str) -> None:
    if report is not None:
        report.skip(f"{path} at byte {offset}", reason)
