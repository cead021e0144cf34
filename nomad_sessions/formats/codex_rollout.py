"""The rollouts of Codex: their lines in all four generations, and what the first of them tell.

| generation | a line |
|---|---|
| 1 | a header without a type, then bare items of the Responses interface; no times, no folder |
| 2, 3 | `{timestamp, type, payload}` |
| 4 | the same with `ordinal`, which goes on in forks |

A line's generation is told by its own shape, so that a file with lines of several is read. A rollout that Codex has
compressed (`.jsonl.zst`) needs the package zstandard.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from nomad_sessions.formats.codex_packed import PACKED, opened
from nomad_sessions.formats.jsonl import Line, first_record, lines_of
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import mapping, milliseconds, objects, text
from nomad_sessions.ids import derive_id

__all__ = ["HISTORY", "NAMED", "TOOL", "Base", "Head", "Record", "is_rollout", "records"]

TOOL = "codex"
HISTORY = ("response_item", "compacted")
"""The kinds of lines that the conversation is made of; all others are hints."""
NAMED = "rollout-"
"""What the name of a rollout's file begins with."""
_HEAD_RECORDS = 40
_NAME = re.compile(r"rollout-[\dT-]+-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_MADE = re.compile("([0-9a-f]{8})-([0-9a-f]{4})-7")
"""Version 7 of a UUID begins with the time at which it was made."""
_FOLDER = re.compile(r"<cwd>([^<]+)</cwd>")


class Record(NamedTuple):
    """One line: what kind, what it says, when it was written (ms), its ordinal in generation 4, where it stands (in
    bytes), and how many lines of `HISTORY` there are before it in its file, which is what it is known by."""

    kind: str
    payload: Mapping[str, Any]
    time: int | None
    ordinal: int | None
    offset: int
    number: int


def records(path: Path, report: ImportReport | None) -> Iterator[Record]:
    """The lines of a rollout, in order. What cannot be read goes to the report (None: is passed over). Cost: the file,
    once; memory for one line."""
    number = 0
    try:
        with opened(path) as file:
            for line in lines_of(file, path, report):
                record = _record(line, number)
                yield record
                number += record.kind in HISTORY
    except OSError as error:
        if report is not None:
            report.skip(str(path), f"the file cannot be read: {error.strerror}")


def _record(line: Line, number: int) -> Record:
    said = line.record
    kind = text(said.get("type"))
    if isinstance(said.get("payload"), dict):
        given = said.get("ordinal")
        ordinal = given if type(given) is int else None
        return Record(
            kind or "no type", said["payload"], milliseconds(said.get("timestamp")), ordinal, line.offset, number
        )
    if kind:
        kind = "response_item"
    elif "record_type" in said:
        kind = text(said["record_type"]) or "no type"
    else:
        kind = "session_meta" if text(said.get("id")) else "no type"
    return Record(kind, said, None, None, line.offset, number)


def is_rollout(path: Path) -> bool:
    """Whether a file is one of Codex's rollouts; a compressed one is known by its name. Never raises."""
    if path.name.endswith(".jsonl" + PACKED):
        return path.name.startswith(NAMED)
    record = first_record(path) if path.suffix == ".jsonl" else None
    if record is None:
        return False
    if "type" in record:
        return isinstance(record.get("payload"), dict) and "timestamp" in record
    return "record_type" in record or ("timestamp" in record and bool({"instructions", "git"} & record.keys()))


class Base(NamedTuple):
    """Where the history of a fork of generation 4 begins: in that thread, with the lines of an ordinal below `end`."""

    thread: str
    end: int


class Head:
    """What the first lines of a rollout tell: never raises, a file that cannot be read tells its name."""

    def __init__(self, path: Path) -> None:
        named = _NAME.match(path.name)
        self.path = path
        self.size = path.stat().st_size if path.is_file() else 0
        self.name = named[1] if named else path.name.removesuffix(PACKED).removesuffix(".jsonl")
        self.directory: str | None = None
        self.provider: str | None = None
        self.version: str | None = None
        self.agent: str | None = None
        self.caller: str | None = None
        self.origin: str | None = None
        self.base: Base | None = None
        self._met = False
        self._named = named is not None
        self._time: int | None = None
        for record in islice(records(path, None), _HEAD_RECORDS):
            self._look(record)
            if self.is_told:
                break

    @property
    def is_told(self) -> bool:
        """Whether there is nothing more to look for."""
        return self._met and self.directory is not None

    @property
    def time(self) -> int:
        """When the session began, in ms."""
        if self._time is not None:
            return self._time
        made = _MADE.match(self.name)
        return int(made[1] + made[2], 16) if made else 0

    @property
    def id(self) -> str:
        """The session's id here."""
        return derive_id(self.time, TOOL, self.name)

    @property
    def parent(self) -> str | None:
        """The thread that it continues: its own lines, or a copy of them, are the beginning of this one."""
        return self.base.thread if self.base else self.origin

    def _look(self, record: Record) -> None:
        payload = record.payload
        if record.kind == "session_meta" and not self._met:
            name = text(payload.get("id"))
            if name and record.offset and self._named and name != self.name:
                # The file's own first line is gone, and this is the copy of the one that it was forked from.
                self.origin = name
                return
            self._met = True
            self.name = name or self.name
            self._meet(payload)
            self._time = milliseconds(payload.get("timestamp")) or record.time
        elif record.kind == "turn_context":
            self.directory = self.directory or text(payload.get("cwd"))
        elif record.kind == "response_item" and not self.directory:
            told = "".join(text(block.get("text")) or "" for block in objects(payload.get("content")))
            folder = _FOLDER.search(told) if told.lstrip().startswith("<environment_context>") else None
            self.directory = folder[1].strip() or None if folder else None

    def _meet(self, payload: Mapping[str, Any]) -> None:
        self.directory = text(payload.get("cwd"))
        self.provider = text(payload.get("model_provider"))
        self.version = text(payload.get("cli_version"))
        self.origin = text(payload.get("forked_from_id"))
        base = mapping(payload.get("history_base"))
        if text(base.get("thread_id")) and type(base.get("end_ordinal_exclusive")) is int:
            self.base = Base(base["thread_id"], base["end_ordinal_exclusive"])
        agent = mapping(payload.get("source")).get("subagent")
        spawned = mapping(mapping(agent).get("thread_spawn"))
        self.caller = text(spawned.get("parent_thread_id")) or text(payload.get("parent_thread_id"))
        kinds = (agent, spawned.get("agent_role"), *mapping(agent).values())
        self.agent = next((each for each in kinds if text(each)), None)
