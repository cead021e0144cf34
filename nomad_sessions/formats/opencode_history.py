"""OpenCode's data folder: the database that it has had since 1.2, and the JSON files of before, as one history.

A session that the database has is read from there; the files, which OpenCode left behind, give those that it lacks, the
ones that its migration never took among them. One message stays one message and one part one part, with their ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats import opencode_db, opencode_tree
from nomad_sessions.formats.opencode import parse_session
from nomad_sessions.formats.opencode_store import Stored
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer

__all__ = ["IMPORTER"]

TOOL = "opencode"


def _locate(computer: Computer) -> list[Path]:
    data = computer.data_home() / "opencode"
    override = computer.env.get("OPENCODE_DB")
    chosen = data / override if override else data  # A relative one is in the data folder.
    if chosen == data or (chosen.parent == data and chosen.suffix == ".db"):
        return [data]
    return [data, chosen]


def _sniff(path: Path) -> bool:
    return bool(_databases(path) or (path.is_dir() and opencode_tree.trees(path)))


def _databases(path: Path) -> list[Path]:
    """The databases at a place; that of the released versions first, then those of other channels, then
    those that somebody has named otherwise."""
    if not path.is_dir():
        return [path] if opencode_db.is_database(path) else []
    try:
        found = sorted(path.glob("*.db"), key=lambda each: (not each.name.startswith(TOOL), len(each.name), each.name))
    except OSError:
        return []
    return [each for each in found if opencode_db.is_database(each)]


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    seen: set[str] = set()
    for stored in _stored(path, report):
        if stored.id in seen:
            report.ignore("sessions that the database has as well")
            continue
        seen.add(stored.id)
        read = partial(_read, stored)
        yield Found(stored.id, stored.directory, stored.stamp, stored.size, stored.place, read)


def _stored(path: Path, report: ImportReport) -> Iterator[Stored]:
    databases = _databases(path)
    for database in databases:
        yield from opencode_db.sessions(database, report)
    storages = opencode_tree.trees(path) if path.is_dir() else []
    for storage in storages:
        yield from opencode_tree.sessions(storage, report)
    if not databases and not storages:
        report.skip(str(path), "neither a database of OpenCode's nor its files")


def _read(stored: Stored, report: ImportReport) -> ParsedSession | None:
    raw = stored.read(report)
    parsed = parse_session(raw.info, raw.messages, report)
    if parsed is None:
        return None
    imported: dict[str, Any] = {"tool": TOOL, "sessionId": stored.id, "path": stored.place}
    if isinstance(raw.info.get("version"), str):
        imported["version"] = raw.info["version"]
    if "parentId" in parsed.session:
        imported |= {"relation": "subagent", "parentSourceId": parsed.session["parentId"]}
    beside = {f"opencode{name.capitalize()}": value for name, value in raw.beside.items()}
    parsed.session |= {**beside, "imported": imported}
    return parsed


IMPORTER = Importer(
    name=TOOL,
    label="OpenCode",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="its log of events, snapshots of files, and the tables of its next generation",
)
