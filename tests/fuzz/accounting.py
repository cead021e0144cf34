"""Whether what a record says arrives: a word is put where a source says something, in whatever shape, and looked for.

It has to be in the store, or the report has to have one thing more that was left out, ignored or updated (another file
of the source tells the same message otherwise), or the import is refused. Looked at are the places that an import
takes: a word that is put behind theirs is in the store.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import ImportReport, import_file, import_history
from nomad_sessions.formats.registry import Format
from tests.fuzz.databases import is_database
from tests.fuzz.seeds import TARGETS, Files, Source, sources_of

__all__ = ["Accounting"]

WORD = "accountedfor"
_SAYING = {"content", "text", "thinking", "parts", "thoughts", "toolCalls", "toolResult", "value", "output", "result"}
_SAYING |= {"response", "message", "messages", "data", "reasoning", "prompt", "input", "args", "arguments", "toolUse"}
_SHAPES: list[Any] = [
    WORD,
    [WORD],
    [None, WORD],
    [[WORD]],
    {"odd": WORD},
    {"text": WORD},
    {"type": "text", "text": WORD},
    {"type": "text", "text": {"odd": WORD}},
    {"content": WORD},
    {"content": [{"type": "text", "text": WORD}]},
    [{"type": "text", "text": WORD}, 7],
    [{"type": "odd", "x": WORD}],
    [{"type": "search_result", "source": "x", "content": [{"type": "text", "text": WORD}]}],
    [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": WORD}}],
    [{"type": "resource", "resource": {"uri": "x", "text": WORD}}],
    [{"type": "image", "source": {"type": "odd", "data": WORD}}],
]
_Spot = tuple[str, str, tuple[Any, ...]]
"""A file, the JSON in it (a line's number, or a table, row and column), and the way to a value in that."""


class _Import(NamedTuple):
    told: str
    report: ImportReport

    @property
    def left(self) -> int:
        report = self.report
        return sum(report.skipped.values()) + sum(report.ignored.values()) + report.messages.updated


class Accounting:
    """The cases of one target, all in one store, each in a workspace of its own."""

    def __init__(self, manager: NativeSessionManager, target: str, folder: Path) -> None:
        self._manager = manager
        self._name = target
        self._target = TARGETS[target]
        self._folder = folder
        self._number = 0
        self._bases = [
            (source, self._import(source, source.files), spots)
            for source in sources_of(target)
            if (spots := _spots(source))
        ]

    def run(self, number: int) -> bool:
        """One case: whether there was a place for the word. Fails where it is neither stored nor accounted for."""
        chance = random.Random(f"{self._name} {number}")
        source, whole, spots = chance.choice(self._bases)
        spot, shape = chance.choice(spots), chance.choice(_SHAPES)
        said = self._import(source, _changed(source.files, spot, _with_word))
        if WORD not in said.told:
            return False
        found = self._import(source, _changed(source.files, spot, lambda _: shape))
        assert WORD in found.told or found.left > whole.left, (number, spot, shape, found.report)
        return True

    def _import(self, source: Source, files: Files) -> _Import:
        self._number += 1
        workspace = f"ws-{self._number}"
        folder = self._folder / workspace
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        path = folder / source.root
        if isinstance(self._target, Format):
            try:
                report = import_file(self._manager, workspace, path)
            except InvalidInputError:
                return _Import("", ImportReport(skipped={"refused": 1_000_000}))
        else:
            report = import_history(self._manager, self._target, path, workspace_id=workspace, originals=False)
        return _Import("\n".join(self._told(workspace)), report)

    def _told(self, workspace: str) -> Iterator[str]:
        for session in self._manager.list_sessions(workspace):
            yield session.model_dump_json()
            for message in self._manager.get_session_messages(workspace, session.id, include_reverted=True):
                yield message.model_dump_json()


def _with_word(value: Any) -> Any:
    """The value with the word behind all that it says."""
    if isinstance(value, dict):
        return {key: _with_word(each) if key in _SAYING or "type" not in value else each for key, each in value.items()}
    if isinstance(value, list):
        return [_with_word(each) for each in value]
    return f"{value} {WORD}" if isinstance(value, str) else value


def _values(value: Any, way: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield way, value
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _values(each, (*way, key))


def _spots(source: Source) -> list[_Spot]:
    """Every place of a source that says something."""
    return [
        (name, where, way)
        for name, data in source.files.items()
        if source.root in ("", name)
        for where, value in _documents(data)
        for way, _ in _values(value, ())
        if (way and way[-1] in _SAYING) or (not way and where.endswith(("parts", "_json", "_data")))
    ]


def _documents(data: bytes) -> Iterator[tuple[str, Any]]:
    if is_database(data):
        yield from _columns(data)
        return
    with contextlib.suppress(ValueError):
        yield "", json.loads(data)
        return
    for number, line in enumerate(data.split(b"\n")):
        with contextlib.suppress(ValueError):
            yield str(number), json.loads(line)


def _columns(data: bytes) -> Iterator[tuple[str, Any]]:
    with _database(data) as (database, _):
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            rows = database.execute(f'SELECT rowid, * FROM "{table}"')
            columns = [each for each, *_ in rows.description][1:]
            for row, *fields in rows:
                for column, value in zip(columns, fields, strict=True):
                    if isinstance(value, str) and value[:1] in ("{", "["):
                        yield f"{table} {row} {column}", json.loads(value)


@contextlib.contextmanager
def _database(data: bytes) -> Iterator[tuple[sqlite3.Connection, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "it.db"
        path.write_bytes(data)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            yield database, path


def _changed(files: Files, spot: _Spot, change: Callable[[Any], Any]) -> Files:
    name, where, way = spot
    changed = json.dumps(_put(dict(_documents(files[name]))[where], way, change))
    data = files[name]
    if is_database(data):
        table, row, column = where.split(" ")
        with _database(data) as (database, path):
            database.execute("PRAGMA journal_mode = DELETE")
            database.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (changed, int(row)))
            return {**files, name: path.read_bytes()}
    if not where:
        return {**files, name: changed.encode()}
    lines = data.split(b"\n")
    lines[int(where)] = changed.encode()
    return {**files, name: b"\n".join(lines)}


def _put(value: Any, way: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """The value with what is at the end of the way changed."""
    if not way:
        return change(value)
    made = value.copy()
    made[way[0]] = _put(value[way[0]], way[1:], change)
    return made
