"""Where Claude Code's sessions lie, and what the first records of each file tell.

Every `.jsonl` file in a folder is looked into, past whatever its first records are: it is a session's, or it is in the
report. Verified by `tests/unit/test_claude_files.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from nomad_sessions.formats.claude_messages import TOOL
from nomad_sessions.formats.jsonl import head, lines
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.source import files_below
from nomad_sessions.formats.values import as_text, mapping, milliseconds, text
from nomad_sessions.ids import derive_id

__all__ = ["Head", "files_in", "heads_of", "is_session"]

_HEAD_RECORDS = 40
_SNIFFED = 200  # records; a file of another tool's is given up after so many
_MARKS = {
    "parentUuid",
    "leafUuid",
    "sessionId",
    "isSidechain",
    "isSnapshotUpdate",
    "snapshot",
    "customTitle",
    "aiTitle",
}
_SIDE = "subagents"


def is_session(path: Path) -> bool:
    """Whether a file is one of Claude Code's sessions, as far as its first records tell; never raises."""
    return path.suffix == ".jsonl" and any(map(_has_place, islice(head(path), _SNIFFED)))


def files_in(path: Path, report: ImportReport | None = None) -> tuple[list[Path], dict[Path, list[Path]]]:
    """The files of sessions in a folder and below, or this one file; and those of sub-agents, by the file of the
    session that called them, which may be gone."""
    if not path.is_dir():
        return [path], {path: sorted(path.with_suffix("").glob(f"{_SIDE}/**/agent-*.jsonl"))}
    mains: list[Path] = []
    agents: dict[Path, list[Path]] = {}
    for file in files_below(path, "*.jsonl", report):
        below = file.relative_to(path).parts[:-1]
        if _SIDE not in below:
            mains.append(file)
        elif file.name.startswith("agent-"):
            depth = below.index(_SIDE)
            session = path.joinpath(*below[:depth])
            agents.setdefault(session.with_name(f"{session.name}.jsonl"), []).append(file)
        elif report is not None:
            report.ignore("a file beside those of sub-agents")
    return mains, agents


def _has_place(record: Mapping[str, Any]) -> bool:
    """Whether it is a record of the tree that a conversation is."""
    known = "type" in record and "payload" not in record and not _MARKS.isdisjoint(record)
    return known and text(record.get("uuid")) is not None


class Head:
    """What the first records of a file tell: as many as it takes to know where it belongs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.agent = path.stem.startswith("agent-")
        self.time: int | None = None
        self.directory: str | None = None
        self.first: str | None = None
        self.session: str | None = None
        self.forked_from: str | None = None
        self.version: str | None = None
        self.error: str | None = None
        self.changed = self.size = 0
        self._is_spoken = self._is_known = False
        try:
            stat = path.stat()
            self.changed, self.size = stat.st_mtime_ns, stat.st_size
            for number, line in enumerate(lines(path, None)):
                self._look(line.record)
                if number >= _HEAD_RECORDS and self._is_told:
                    break
        except OSError as error:
            self.error = f"the file cannot be read: {error.strerror}"

    def _look(self, record: Mapping[str, Any]) -> None:
        if self.time is None:
            self.time = milliseconds(record.get("timestamp"))
        self.directory = self.directory or text(record.get("cwd"))
        self.session = self.session or text(record.get("sessionId"))
        self.version = self.version or text(record.get("version"))
        self.forked_from = self.forked_from or text(mapping(record.get("forkedFrom")).get("sessionId"))
        self._is_spoken = self._is_spoken or _has_place(record)
        self._is_known = self._is_known or ("type" in record and not _MARKS.isdisjoint(record))
        if self.first is None and record.get("type") in ("user", "assistant"):
            # A fork begins with the very records of its origin.
            self.first = f"{as_text(record.get('uuid'))} {as_text(record.get('timestamp'))}"

    @property
    def _is_told(self) -> bool:
        return self._is_spoken and self.time is not None and self.directory is not None

    def is_session(self, report: ImportReport) -> bool:
        """Whether there is a session in the file; if not, the report says why."""
        if self.error is None and self._is_spoken and self.time is not None:
            return True
        if self.error is None and self._is_known and not self._is_spoken:
            report.ignore("a file in which nothing was said")  # Titles and snapshots of files alone.
        else:
            why = "none of its records has a time" if self._is_spoken else "no record of a Claude Code session"
            report.skip(str(self.path), self.error or why)
        return False

    @property
    def id(self) -> str:
        """The session's id here."""
        return derive_id(self.time or 0, TOOL, self.name)


def heads_of(files: list[Path], report: ImportReport) -> Iterator[Head]:
    """The heads of those files that hold a session."""
    for file in files:
        made = Head(file)
        if made.is_session(report):
            yield made
