"""The command that brings in other tools' conversations: import."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.text import Text

from nomad_sessions.cli.exits import Exit, guarded
from nomad_sessions.cli.output import for_people, plain, size, table, write_json, write_line
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import AsJson, DataDir, Workspace, open_store
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import (
    IMPORTERS,
    Computer,
    Importer,
    ImportReport,
    import_file,
    import_history,
    importer_of,
    survey_history,
)
from nomad_sessions.manager import NativeSessionManager

__all__ = ["register", "report_table"]

_SHOWN_WARNINGS = 20
_SHOWN_NAMES = 5
_FOLLOW_EVERY = 1.0  # seconds
_PROCESSES = min(os.cpu_count() or 1, 8)
_NOTHING = Text("nothing of the tools that we know was found on this computer")
_NAMES = ", ".join(each.name for each in IMPORTERS)


class _Source(NamedTuple):
    """Something to import: a tool's history, or, without an importer, a document."""

    importer: Importer | None
    path: Path


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    app.command("import")(guarded(import_))


def import_(
    what: Annotated[
        list[str],
        typer.Argument(
            help="auto: everything that is found on this computer. Or a tool's name, and where its history lies if not "
            f"at the usual place ({_NAMES}). Or files and folders: a tool's own, sessions.json, OpenCode exports.",
            metavar="auto|TOOL [PATH]|PATH...",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is and what would be done.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on, with what the tools write meanwhile, until Ctrl-C.")
    ] = False,
    no_originals: Annotated[
        bool, typer.Option("--no-originals", help="Do not keep what sessions are read from for `export --original`.")
    ] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Import conversations of other tools.

    A tool's history goes into a workspace for each project folder, a file into that of the current folder, unless
    --workspace says otherwise; what is in the data folder already is brought up to date where it is. Formats are found
    by content, and doing it twice is harmless. Exit code 1 when records were left out; the report says which, where and
    why.
    """
    sources = list(_sources(what))
    if dry_run:
        _survey(sources, workspace, data_dir, as_json)
        return
    if follow:
        _follow(sources, workspace, data_dir, as_json, originals=not no_originals)
        return
    reports: list[ImportReport] = []
    try:
        for source in sources:
            reports.append(_import(source, workspace, data_dir, originals=not no_originals))
    finally:  # when one cannot be read, those before it were imported all the same
        if reports or not sources:
            _print_reports(reports, as_json)
    if not all(report.complete for report in reports):
        raise typer.Exit(Exit.PROBLEM)


def _sources(what: list[str]) -> Iterator[_Source]:
    named = {importer.name: importer for importer in IMPORTERS}
    if what[0] == "auto" and len(what) == 1:
        for importer in IMPORTERS:
            yield from (_Source(importer, path) for path in importer.locate(Computer.here()) if path.exists())
    elif what[0] in named and not Path(what[0]).exists():
        importer = named[what[0]]
        paths = [Path(each) for each in what[1:]]
        for path in paths:
            if not path.exists():
                raise FileNotFoundError(2, "there is no such file or folder", str(path))
            other = importer_of(path)
            if other is not importer and not importer.sniff(path):
                hint = f": it looks like {other.label}'s" if other is not None else ""
                hint = hint or (": give a single file without the tool's name" if path.is_file() else "")
                reason = f"holds nothing of {importer.label}'s{hint}"
                raise InvalidInputError(field="path", value=str(path), reason=reason)
        found = paths or [path for path in importer.locate(Computer.here()) if path.exists()]
        if not found:
            places = ", ".join(str(path) for path in importer.locate(Computer.here()))
            raise InvalidInputError(field="tool", value=importer.name, reason=f"keeps nothing at {places}: say where")
        yield from (_Source(importer, path) for path in found)
    else:
        for path in map(Path, what):
            importer_found = importer_of(path)
            if importer_found is None and path.is_dir():
                documents = sorted(path.glob("*.json"))
                if not documents:
                    reason = "holds no history of a tool that we know, and no .json files"
                    raise InvalidInputError(field="path", value=str(path), reason=reason)
                yield from (_Source(None, each) for each in documents)
            else:
                yield _Source(importer_found, path)


def _import(source: _Source, workspace: str | None, data_dir: Path | None, *, originals: bool) -> ImportReport:
    importer, path = source
    if importer is None:
        with open_store(data_dir, workspace, create=True) as (manager, ws), working(f"Importing {path.name}") as done:
            return import_file(manager, ws, path, anywhere=workspace is None, progress=done)
    with NativeSessionManager(data_dir) as manager, working(f"Importing {importer.label}") as done:
        return import_history(
            manager,
            importer,
            path,
            workspace_id=workspace,
            progress=done,
            processes=_PROCESSES,
            originals=originals,
        )


def _follow(
    sources: list[_Source], workspace: str | None, data_dir: Path | None, as_json: bool, *, originals: bool
) -> None:
    """Imports again and again: what has not changed is not read. Says what each round brought."""
    if not sources:
        raise InvalidInputError(field="follow", value="auto", reason="no tool that we know keeps anything here")
    for importer, path in sources:
        if importer is None:
            raise InvalidInputError(field="path", value=str(path), reason="--follow is for the histories of tools")
    told: dict[Path, list[str]] = {}
    with NativeSessionManager(data_dir) as manager:
        while True:
            for importer, path in sources:
                assert importer is not None, "checked above"
                report = import_history(manager, importer, path, workspace_id=workspace, originals=originals)
                news = [each for each in report.warnings if each not in told.get(path, ())]
                told[path] = report.warnings
                if report.messages.imported or report.messages.updated or news:
                    _print_round(report, news, as_json)
            time.sleep(_FOLLOW_EVERY)


def _print_round(report: ImportReport, news: list[str], as_json: bool) -> None:
    if not for_people(as_json):
        write_line(report.as_dict())
        return
    console = Console()
    counts = f"{report.messages.imported} new, {report.messages.updated} changed messages"
    console.print(Text(plain(f"{report.format}: {counts} from {report.source}")))
    for warning in news[:_SHOWN_WARNINGS]:
        console.print(Text(plain(warning), style="yellow"))


def _survey(sources: list[_Source], workspace: str | None, data_dir: Path | None, as_json: bool) -> None:
    rows: list[dict[str, object]] = []
    with NativeSessionManager(data_dir) as manager:
        for importer, path in sources:
            if importer is None:
                reason = "is a single document: --dry-run is for the histories of tools"
                raise InvalidInputError(field="path", value=str(path), reason=reason)
            with working(f"Looking at {importer.label}"):
                found = survey_history(manager, importer, path, workspace_id=workspace)
            counts = {"sessions": found.sessions, "new": found.new, "changed": found.changed, "bytes": found.bytes}
            rows.append({"tool": importer.name, "path": str(path), **counts})
    if not for_people(as_json):
        write_json(rows)
        return
    console = Console()
    if not rows:
        console.print(_NOTHING)
        return
    columns = ("tool", "path", "sessions", "new", "changed", "size")
    cells = ([*map(str, list(row.values())[:-1]), size(int(str(row["bytes"])))] for row in rows)
    console.print(table(columns, cells, right=columns[2:]))


def _print_reports(reports: list[ImportReport], as_json: bool) -> None:
    if not for_people(as_json):
        write_json([report.as_dict() for report in reports])
        return
    console = Console()
    if not reports:
        console.print(_NOTHING)
        return
    console.print(report_table(reports))
    folders = {name for report in reports for name in report.workspaces}
    if folders:
        console.print(Text(plain(f"in {_listed(sorted(folders))}"), style="dim"))
    for report in reports:
        _print_warnings(console, report)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown if len(names) <= _SHOWN_NAMES else f"{shown} and {len(names) - _SHOWN_NAMES} more"


def report_table(reports: list[ImportReport]) -> object:
    """One line for each source: what became of its sessions and messages, or events."""
    columns = ("file", "format", "sessions", "messages", "new", "changed", "same", "left out")
    rows = []
    for report in reports:
        records = report.events if report.events.read else report.messages
        counts = (report.sessions.read, records.read, records.imported, records.updated, records.unchanged)
        numbers = map(str, (*counts, sum(report.skipped.values())))
        rows.append((Path(report.source).name, report.format, *numbers))
    return table(columns, rows, right=columns[2:], tight=True)


def _print_warnings(console: Console, report: ImportReport) -> None:
    for warning in report.warnings[:_SHOWN_WARNINGS]:
        console.print(Text(plain(f"{Path(report.source).name}: {warning}"), style="yellow"))
    more = len(report.warnings) + report.warnings_omitted - _SHOWN_WARNINGS
    if more > 0:
        console.print(Text(f"… and {more} more; --json has them", style="dim"))
    if report.ignored:
        whole = sum(report.ignored.values())
        console.print(Text(f"{whole} records that are no part of a conversation were not taken", style="dim"))
