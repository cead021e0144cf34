"""Codex's histories: `~/.codex/sessions/YYYY/MM/DD/rollout-<time>-<thread>.jsonl`, of all four generations.

A session is a thread, and its id what the first line says. Archived ones lie in `archived_sessions`, names of threads
in `session_index.jsonl`, the last one of a thread counting. Forks are whole here, as they are in no file of generation
4; sub-agents are children of the thread that called them.

Source: the format as measured on the published programs, versions 0.27, 0.58, 0.118 and 0.169; which texts Codex puts
into the user's role, and `token_usage_record`, from its code.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

from nomad_sessions.formats import verbatim
from nomad_sessions.formats.codex_forks import Threads, history
from nomad_sessions.formats.codex_messages import Conversation
from nomad_sessions.formats.codex_packed import PACKED, can_unpack
from nomad_sessions.formats.codex_rollout import NAMED, TOOL, Head, is_rollout
from nomad_sessions.formats.jsonl import lines
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, files_below, stamp_of
from nomad_sessions.formats.values import text, title_from

__all__ = ["IMPORTER"]

_FOLDERS = ("sessions", "archived_sessions")
_INDEX = "session_index.jsonl"
_REQUEST = "## My request for Codex:"
"""What a person typed follows this where an editor puts its own context before it."""


def _locate(computer: Computer) -> list[Path]:
    return [computer.folder("CODEX_HOME", ".codex")]


def _sniff(path: Path) -> bool:
    return any(map(is_rollout, _files(path))) if path.is_dir() else is_rollout(path)


def _files(folder: Path, report: ImportReport | None = None) -> Iterator[Path]:
    """The rollouts in a folder and below, by their names or what they hold; in Codex's home, those of its sessions, and
    what somebody put beside them: its worktrees are whole projects."""
    inner = [folder / name for name in _FOLDERS if (folder / name).is_dir()]
    beside = folder.glob("*.jsonl*") if inner else ()
    below = (files_below(root, "*.jsonl*", report) for root in inner or [folder])
    for path in chain(*below, sorted(beside)):
        if path.is_file() and (path.name.startswith(NAMED) or is_rollout(path)):
            yield path


def _home(path: Path) -> Path | None:
    """The home of Codex that a file or folder is in, as far as its place tells."""
    for folder in (path, *path.parents):
        if folder.name in _FOLDERS:
            return folder.parent
        if (folder / _INDEX).is_file():
            return folder
    return None


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    home = _home(path.absolute())
    names = _names(home / _INDEX, report) if home is not None else {}
    heads = list(_heads(path, report))
    threads = Threads(heads, home)
    ids = {head.name: head.id for head in heads}
    stamp = cache(stamp_of)  # A thread is an origin of all that were forked from it, and from these.
    for head in heads:
        title = names.get(head.name)
        parent = ids.get(head.caller or head.parent or "")
        stamps = " ".join(stamp(each.path) for each in (head, *threads.origins(head)))
        read = partial(_read, head, threads, parent, title)
        original = verbatim.of_file(head.path)
        told = f"{stamps} {parent or '-'} {title or ''}".rstrip()
        yield Found(head.id, head.directory, told, head.size, str(head.path), read, original)


def _heads(path: Path, report: ImportReport) -> Iterator[Head]:
    """The rollouts of a place, one for each thread: a plain one before a compressed one, the first of several."""
    files = list(_files(path, report)) if path.is_dir() else [path]
    seen: set[str] = set()
    for file in sorted(files, key=lambda each: each.suffix == PACKED):
        if file.suffix == PACKED and file.with_suffix("").is_file():
            report.ignore("a compressed copy of a rollout that is there as it was")
            continue
        if file.suffix == PACKED and not can_unpack():
            report.skip(str(file), "a compressed rollout: it needs the package zstandard")
            continue
        if not is_rollout(file):
            report.skip(str(file), "no record of a Codex session")
            continue
        head = Head(file)
        if head.name in seen:
            report.ignore("another rollout of the same thread")
            continue
        seen.add(head.name)
        yield head


def _names(index: Path, report: ImportReport) -> dict[str, str]:
    """What users called their threads, the last name of each."""
    names: dict[str, str] = {}
    if index.is_file():
        for line in lines(index, report):
            thread = text(line.record.get("id"))
            if thread:
                names[thread] = text(line.record.get("thread_name")) or ""
    return names


def _read(
    head: Head, threads: Threads, parent_id: str | None, title: str | None, report: ImportReport
) -> ParsedSession | None:
    told = Conversation(head, history(head, threads, report), report)
    if not told.messages:
        report.ignore("a thread in which nothing was said")
        return None
    report.sessions.read += 1
    report.messages.read += len(told.messages)
    imported: dict[str, Any] = {"tool": TOOL, "sessionId": head.name, "path": str(head.path)}
    session: dict[str, Any] = {
        "id": head.id,
        "createdAt": head.time,
        "updatedAt": max(head.time, *(message["updatedAt"] for message in told.messages)),
        "imported": imported,
    }
    if head.version:
        imported["version"] = head.version
    if head.caller or head.parent:
        relation = "subagent" if head.caller else "fork"
        imported |= {"relation": relation, "parentSourceId": head.caller or head.parent}
    if parent_id is not None:
        session["parentId"] = parent_id
    known = {
        "title": title or title_from(told.prompt.rpartition(_REQUEST)[2]),
        "directory": head.directory,
        "model": told.model,
        "agent": head.agent,
    }
    session |= {key: value for key, value in known.items() if value}
    return ParsedSession(session, told.messages, told.places, len(told.messages))


IMPORTER = Importer(
    name=TOOL,
    label="Codex",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="turns that were rolled back, context that Codex adds and its events are counted, not imported; encrypted "
    "reasoning cannot be read",
)
