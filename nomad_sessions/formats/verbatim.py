"""What a session was read from, as it is: the bytes of a file, the rows of a database or several files as JSON lines.

Invariant: what `Original.read` gives to its end is one state of the source, or the beginning of one that a tool goes on
writing to; where a source is cut off or rewritten under the reader's eyes, it raises `OSError`. Verified by
`tests/unit/test_verbatim.py`.
"""

from __future__ import annotations

import base64
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from nomad_sessions.formats import sqlite
from nomad_sessions.formats.source import Original
from nomad_sessions.formats.values import as_json
from nomad_sessions.storage import checksum
from nomad_sessions.storage.codec import decode

__all__ = ["Rows", "at_once", "of_file", "of_files", "of_rows", "select"]

_BLOCK = 1 << 20
_WHOLE = 16 << 20  # bytes; a file up to so large is read at once

Rows = Callable[[sqlite3.Connection], Iterable[tuple[str, sqlite3.Row]]]
"""The rows of a session, each with the name of its table, those that change least first."""


def at_once(path: Path) -> bytes | None:
    """The bytes of a file that is not large, to be parsed and to be kept as well; None of one that is, or to which
    somebody wrote meanwhile. Raises `OSError`."""
    with path.open("rb") as file:
        begun = os.fstat(file.fileno())
        data = file.read(begun.st_size) if begun.st_size <= _WHOLE else None
        return data if _is_as_it_was(file, begun) else None


def of_file(path: Path) -> Original:
    """The bytes of a file that is one session's alone, compressed as it may be."""
    return Original(path.name, partial(_bytes_of, path))


def of_rows(path: Path, session: str, rows: Rows) -> Original:
    """Rows of a database, `{"table", "row"}` one a line, bytes as `{"base64"}`."""
    return Original(f"{path.name} {session}.jsonl", partial(_lines_of_rows, path, rows))


def of_files(folder: Path, session: str, settled: Sequence[Path], changing: Sequence[Path]) -> Original:
    """JSON files below a folder, `{"file", "object"}` one a line; of a file that is no JSON its bytes as `base64`."""
    return Original(f"{session}.jsonl", partial(_lines_of_files, folder, settled, changing))


def select(*parts: tuple[str, str, str], name: str) -> Rows:
    """The rows of a session called `name`: of each table, in this order, those where a column says so, by a third."""
    return partial(_selected, parts, name)


def _selected(
    parts: Iterable[tuple[str, str, str]], name: str, connection: sqlite3.Connection
) -> Iterator[tuple[str, sqlite3.Row]]:
    for table, column, order in parts:
        for row in connection.execute(f"SELECT * FROM {table} WHERE {column} = ? ORDER BY {order}", (name,)):
            yield table, row


def _bytes_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        begun = os.fstat(file.fileno())
        crc, last = 0, b""  # Who keeps it makes a digest; here it is enough to tell one reading from another.
        for block in _blocks(file, begun.st_size):
            crc, last = checksum.crc32(last, crc), block
            yield block
        if _is_as_it_was(file, begun):
            return
        crc = checksum.crc32(last, crc)  # Of what was read at once, as most is, only now.
        # It was written to meanwhile. If it reads the same again, it was only written on.
        file.seek(0)
        again = 0
        for block in _blocks(file, begun.st_size):
            again = checksum.crc32(block, again)
        if again != crc:
            raise OSError(None, "it was rewritten while it was read")


def _is_as_it_was(file: BinaryIO, begun: os.stat_result) -> bool:
    ended = os.fstat(file.fileno())
    return (ended.st_size, ended.st_mtime_ns) == (begun.st_size, begun.st_mtime_ns)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    at_once = size if size <= _WHOLE else _BLOCK
    while size:
        block = file.read(min(at_once, size))
        if not block:
            raise OSError(None, "it was cut off while it was read")
        size -= len(block)
        yield block


def _lines_of_rows(path: Path, rows: Rows) -> Iterator[bytes]:
    last = b""
    try:
        with sqlite.opened(path) as connection:
            connection.text_factory = _text_or_bytes
            connection.execute("BEGIN")  # One state of the database for all queries, while its tool goes on writing.
            for table, row in rows(connection):
                if last:
                    yield last
                last = _line({"table": table, "row": {key: _value(row[key]) for key in row.keys()}})  # noqa: SIM118
    except sqlite3.Error as error:
        raise OSError(None, f"the database cannot be read: {error}") from error
    yield b""  # The session's own row changes whenever a message comes.
    yield last


def _lines_of_files(folder: Path, settled: Sequence[Path], changing: Sequence[Path]) -> Iterator[bytes]:
    yield from (_line_of_file(folder, path) for path in settled)
    yield b""
    yield from (_line_of_file(folder, path) for path in changing)


def _line_of_file(folder: Path, path: Path) -> bytes:
    data = path.read_bytes()
    record: dict[str, Any] = {"file": path.relative_to(folder).as_posix()}
    try:
        record["object"] = decode(data)
    except ValueError:
        record |= _value(data)
    return _line(record)


def _line(record: Mapping[str, Any]) -> bytes:
    return as_json(record).encode("utf-8") + b"\n"


def _value(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
