"""Whole histories into a data folder: each session of a source into the workspace of its project.

Invariant: a session whose source is unchanged since it was imported is not read again; one that is read is stored in
one transaction, so an import that was interrupted is completed by repeating it. Verified by
`tests/unit/test_histories.py`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nomad_sessions import workspaces
from nomad_sessions.formats import sqlite
from nomad_sessions.formats.homes import Homes
from nomad_sessions.formats.importing import mark_of, store_session
from nomad_sessions.formats.keeping import INCOMPLETE, keep_missed, keep_original
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Found, Importer
from nomad_sessions.formats.workers import UNUSABLE, Job, import_by_several

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["BytesDone", "Survey", "import_history", "survey_history"]

BytesDone = Callable[[int, int], None]
_WORTH_SEVERAL = 32 << 20  # bytes; starting a process takes as long as importing some 10 MB


class Survey(NamedTuple):
    """What an import of a source would do: how many sessions it has, how many of them are new here, how many have
    changed since they were imported, and their size in bytes. `report` has what could not be looked into."""

    sessions: int
    new: int
    changed: int
    bytes: int
    report: ImportReport


@sqlite.copied_once()
def survey_history(
    manager: NativeSessionManager, importer: Importer, path: Path, *, workspace_id: str | None = None
) -> Survey:
    """Looks at a source without reading its conversations; changes nothing."""
    report = ImportReport(source=str(path), format=importer.name)
    new = changed = size = 0
    seen: set[str] = set()
    for found, workspace in _placed(manager, importer, Path(path), workspace_id, report, create=False):
        size += found.size
        if found.id in seen:
            continue
        seen.add(found.id)
        try:
            stored = manager.get_session(workspace, found.id)
        except UNUSABLE as error:
            report.fail(workspace, str(error), 1)
            continue
        if stored is None:
            new += 1
        elif mark_of(stored.model_extra or {}).get("stamp") != found.stamp:
            changed += 1
    return Survey(len(seen), new, changed, size, report)


@sqlite.copied_once()
def import_history(
    manager: NativeSessionManager,
    importer: Importer,
    path: Path,
    *,
    workspace_id: str | None = None,
    progress: BytesDone | None = None,
    processes: int = 1,
    originals: bool = True,
) -> ImportReport:
    """Imports every session of a source: into one workspace, or, without `workspace_id`, each where it is already, and
    new ones into that of their project folder (into one named after the tool, where the source does not say which).

    `progress(done, total)` is called after each session, in bytes of the source. Durable session by session, as the
    manager's setting says. Raises what the manager raises; what the source has wrong is in the report, and so are
    workspaces that cannot be used (`failed`): the sessions of others are imported all the same. Cost: sessions
    that are unchanged since the last import, by size and time of their files, are not read.

    With `originals`, what each session was read from is kept as well: see `original_of`.

    With `processes`, a large import into several workspaces is done by up to so many at once, this one among them. The
    others are spawned, so a script that asks for it needs its `if __name__ == "__main__":`. Raises `ChildProcessError`
    when one was killed. While it lasts, Python looks for cycles of garbage rarely, in the whole process.
    """
    report = ImportReport(source=str(path), format=importer.name)
    placed = list(_placed(manager, importer, Path(path), workspace_id, report, create=True))
    total, done = sum(found.size for found, _ in placed), 0

    def advance(size: int) -> bool:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)
        return True

    jobs: dict[str, list[Found]] = {}
    for found, workspace in placed:
        if _is_done(manager, found, workspace, report, originals=originals):
            advance(found.size)
        else:
            jobs.setdefault(workspace, []).append(found)
    take = partial(_take, originals=originals)
    several = [Job(workspace, sessions, take) for workspace, sessions in jobs.items()]
    if processes > 1 and len(several) > 1 and sum(job.size for job in several) >= _WORTH_SEVERAL:
        import_by_several(manager, several, processes, report, advance)
        return report
    for job in several:
        job.do(manager, report, advance)
    return report


def _take(
    manager: NativeSessionManager, found: Found, workspace_id: str, report: ImportReport, *, originals: bool = True
) -> None:
    """Imports one session."""
    before = sum(report.skipped.values())
    parsed = found.read(report)
    if parsed is not None:
        # Of which something was left out is read again: what could not be read may be mended, and look no other. But
        # not two of one id, which would take turns.
        whole = sum(report.skipped.values()) == before or not found.alone
        stamp = found.stamp if whole else INCOMPLETE
        parsed.session["imported"] = {**mark_of(parsed.session), "stamp": stamp}
        if originals:
            keep_original(manager, workspace_id, found, parsed, report)
        try:
            _store(manager, workspace_id, parsed, report)
        finally:
            if parsed.keeping is not None:  # Nothing is being written any more when this has ended, however it has.
                wait([parsed.keeping])
        parsed.await_original()


def _store(manager: NativeSessionManager, workspace_id: str, parsed: ParsedSession, report: ImportReport) -> None:
    store_session(manager, workspace_id, parsed, report)
    for inner in parsed.inner:
        _store(manager, workspace_id, inner, report)


def _is_done(
    manager: NativeSessionManager, found: Found, workspace_id: str, report: ImportReport, *, originals: bool
) -> bool:
    """Whether there is nothing to import, the session being here as the source still has it."""
    try:
        if not _is_unchanged(manager, found, workspace_id, report):
            return False
    except UNUSABLE:  # Found once more when it is its turn, and reported then.
        return False
    if originals:
        try:
            keep_missed(manager, workspace_id, found, report)
        except UNUSABLE as error:
            report.fail(workspace_id, str(error), 0)
    return True


def _is_unchanged(manager: NativeSessionManager, found: Found, workspace_id: str, report: ImportReport) -> bool:
    """Whether the session is here as the source still has it; then it is counted."""
    stored = manager.get_session(workspace_id, found.id)
    if stored is None or mark_of(stored.model_extra or {}).get("stamp") != found.stamp:
        return False
    messages = len(stored.message_ids)
    report.stored(found.id, workspace_id)
    report.sessions.read += 1
    report.sessions.unchanged += 1
    report.messages.read += messages
    report.messages.unchanged += messages
    return True


def _placed(
    manager: NativeSessionManager,
    importer: Importer,
    path: Path,
    workspace_id: str | None,
    report: ImportReport,
    *,
    create: bool,
) -> Iterator[tuple[Found, str]]:
    """Each session of the source with the workspace it belongs into."""
    known: dict[str | None, str] = {}
    homes = Homes(manager, report)
    sessions = list(importer.sessions(path, report))
    if not (sessions or report.skipped or path.exists()):  # Else a place that is not there looked like an empty one.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    for found in _together(sessions):
        own = partial(_workspace_of, manager, found.directory, importer.name, create=False)
        home = workspace_id or homes.of(found.id, own)
        if home is not None:
            yield found, home
            continue
        if found.directory not in known:
            known[found.directory] = _workspace_of(manager, found.directory, importer.name, create=create)
        yield found, known[found.directory]


def _together(sessions: Sequence[Found]) -> Iterator[Found]:
    """The sessions of a source, one stamp and one folder for all of one id: of a chat that it has twice, the second
    changes what the first brought, so that neither alone tells whether anything is new."""
    same: dict[str, list[Found]] = {}
    for found in sessions:
        same.setdefault(found.id, []).append(found)
    common = {each: _in_common(several) for each, several in same.items() if len(several) > 1}
    for found in sessions:
        if found.id in common:
            stamp, directory = common[found.id]
            yield replace(found, stamp=stamp, directory=directory, alone=False)
        else:
            yield found


def _in_common(several: Sequence[Found]) -> tuple[str, str | None]:
    directory = next((each.directory for each in several if each.directory is not None), None)
    return " ".join(each.stamp for each in several), directory


def _workspace_of(manager: NativeSessionManager, directory: str | None, fallback: str, *, create: bool) -> str:
    if directory is None:
        return fallback
    try:
        os.stat(directory)
    except FileNotFoundError:
        pass  # A project that was deleted or moved since.
    except OSError:  # One that may not be looked into, or that no folder can be: below a file, longer than a path.
        return workspaces.workspace_id_of(directory, {})
    except ValueError:  # No text for a path, with half a character or a NUL in it.
        return fallback
    if not os.path.isabs(directory):  # A folder of another system, as C:\\project is here.
        return workspaces.workspace_id_of(directory, {})
    return manager.workspace_for(directory, create=create)
