"""The command that brings in other tools' conversations: import."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nomad_sessions.cli.exits import Exit, guarded
from nomad_sessions.cli.output import counted, for_people, plain, size, table, write_json, write_line
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.sources import NAMES, Source, sources_of, tools_to_complete
from nomad_sessions.cli.store import AsJson, DataDir, Workspace, naming_new, open_store
from nomad_sessions.errors import InvalidInputError, StorageError
from nomad_sessions.formats import ImportReport, import_bytes, import_file, import_history, survey_history
from nomad_sessions.formats.importing import STDIN, read_document
from nomad_sessions.manager import NativeSessionManager

__all__ = ["register", "report_table"]

_SHOWN_WARNINGS = 20
_SHOWN_NAMES = 5
_SHOWN_KINDS = 3
_FOLLOW_EVERY = 1.0  # seconds
_PROCESSES = min(os.cpu_count() or 1, 8)
_NOTHING = Text("nothing of the tools that we know was found on this computer")


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    app.command("import")(guarded(import_))


def import_(
    what: Annotated[
        list[str],
        typer.Argument(
            help="auto: everything that is found on this computer. Or a tool's name, and where its history lies if not "
            f"at the usual place ({NAMES}). Or files and folders: a tool's own, sessions.json, OpenCode exports (./pi "
            "where one is called as a tool is); - is a document from stdin.",
            metavar="auto|TOOL [PATH]|PATH...",
            autocompletion=tools_to_complete,
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
    why; 5 when a workspace cannot be used, all others being done.
    """
    if dry_run and follow:
        raise InvalidInputError(field="--follow", value=True, reason="not with --dry-run, which imports nothing")
    sources = list(sources_of(what))
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
    _end(reports)


def _end(reports: list[ImportReport]) -> None:
    """Ends with the code that says what went wrong, if something did; workspaces that cannot be used are named."""
    failed = {name: reason for report in reports for name, reason in report.failed.items()}
    for name, reason in failed.items():
        print(f"nomad-sessions: workspace {plain(name)}: {plain(reason)}", file=sys.stderr)
    if failed:
        raise typer.Exit(Exit.STORAGE)
    if not all(report.complete for report in reports):
        raise typer.Exit(Exit.PROBLEM)


def _import(source: Source, workspace: str | None, data_dir: Path | None, *, originals: bool) -> ImportReport:
    importer, path = source.importer, source.path
    if importer is None:
        return _import_document(source, workspace, data_dir)
    with (
        NativeSessionManager(data_dir) as manager,
        naming_new(manager, workspace),
        working(f"Importing {importer.label}") as done,
    ):
        return import_history(
            manager,
            importer,
            path,
            workspace_id=workspace,
            progress=done,
            processes=_PROCESSES,
            originals=originals,
        )


def _import_document(source: Source, workspace: str | None, data_dir: Path | None) -> ImportReport:
    with (
        open_store(data_dir, workspace, create=True) as (manager, ws),
        working(f"Importing {source.path.name}") as done,
    ):
        try:
            if str(source.path) == STDIN:
                data = read_document(sys.stdin.buffer, STDIN)
                everywhere = workspace is None
                return import_bytes(
                    manager, ws, data, source=STDIN, anywhere=everywhere, form=source.form, progress=done
                )
            return import_file(manager, ws, source.path, anywhere=workspace is None, form=source.form, progress=done)
        except (InvalidInputError, OSError) as error:
            if not source.one_of_several or isinstance(error, StorageError):
                raise
            report = ImportReport(source=str(source.path), format="-")
            report.skip(str(source.path), _reason(error))
            return report


def _reason(error: InvalidInputError | OSError) -> str:
    return error.reason if isinstance(error, InvalidInputError) else f"cannot be read: {error.strerror}"


def _follow(
    sources: list[Source], workspace: str | None, data_dir: Path | None, as_json: bool, *, originals: bool
) -> None:
    """Imports again and again: what has not changed is not read. Says what each round brought."""
    if not sources:
        raise InvalidInputError(field="follow", value="auto", reason="no tool that we know keeps anything here")
    for importer, path, *_ in sources:
        if importer is None:
            raise InvalidInputError(field="path", value=str(path), reason="--follow is for the histories of tools")
    told: dict[Path, list[str]] = {}
    with NativeSessionManager(data_dir) as manager:
        while True:
            for importer, path, *_ in sources:
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
    counts = f"{report.messages.imported} new, {counted(report.messages.updated, 'changed message')}"
    console.print(Text(plain(f"{report.format}: {counts} from {report.source}")))
    for warning in news[:_SHOWN_WARNINGS]:
        console.print(Text(plain(warning), style="yellow"))


def _survey(sources: list[Source], workspace: str | None, data_dir: Path | None, as_json: bool) -> None:
    rows: list[dict[str, object]] = []
    reports: list[ImportReport] = []
    with NativeSessionManager(data_dir) as manager:
        for importer, path, *_ in sources:
            if importer is None:
                reason = "is a single document: --dry-run is for the histories of tools"
                raise InvalidInputError(field="path", value=str(path), reason=reason)
            with working(f"Looking at {importer.label}"):
                found = survey_history(manager, importer, path, workspace_id=workspace)
            reports.append(found.report)
            counts = {"sessions": found.sessions, "new": found.new, "changed": found.changed, "bytes": found.bytes}
            rows.append({"tool": importer.name, "path": str(path), **counts})
    _print_survey(rows, as_json)
    for report in reports:
        for warning in report.warnings[:_SHOWN_WARNINGS]:
            print(f"nomad-sessions: {plain(warning)}", file=sys.stderr)
    if any(report.failed for report in reports):
        raise typer.Exit(Exit.STORAGE)


def _print_survey(rows: list[dict[str, object]], as_json: bool) -> None:
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
        console.print(Text(plain(f"{Path(report.source).name}: {_told(report.ignored)}"), style="dim"))


def _told(ignored: dict[str, int]) -> str:
    """What was not taken: how many, and of which kinds most."""
    whole = sum(ignored.values())
    most = sorted(ignored, key=lambda kind: -ignored[kind])
    kinds = ", ".join(f"{kind} ({ignored[kind]})" for kind in most[:_SHOWN_KINDS])
    others = len(most) - _SHOWN_KINDS
    more = f" and {counted(others, 'other kind')}" if others > 0 else ""
    were = "1 record that is" if whole == 1 else f"{whole} records that are"
    return f"not taken, {were} no part of a conversation: {kinds}{more}"
