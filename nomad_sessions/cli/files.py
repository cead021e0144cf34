"""The command that brings in other tools' files: import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nomad_sessions.cli.exits import Exit, guarded
from nomad_sessions.cli.output import for_people, plain, table, write_json
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import AsJson, DataDir, Workspace, open_store
from nomad_sessions.formats import ImportReport, import_file

__all__ = ["register", "report_table"]

_SHOWN_WARNINGS = 20


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    app.command("import")(guarded(import_))


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="NomadArch sessions.json files, OpenCode exports.", metavar="FILE...")
    ],
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Import conversations of other tools.

    The format is found by content, ids are kept, and doing it twice is harmless. Exit code 1 when records were left
    out; the report says which, where and why.
    """
    reports: list[ImportReport] = []
    try:
        with open_store(data_dir, workspace, create=True) as (manager, ws):
            for file in files:
                with working(f"Importing {file.name}") as progress:
                    reports.append(import_file(manager, ws, file, progress=progress))
    finally:  # when one file cannot be read, those before it were imported all the same
        if reports:
            _print_reports(reports, as_json)
    if not all(report.complete for report in reports):
        raise typer.Exit(Exit.PROBLEM)


def _print_reports(reports: list[ImportReport], as_json: bool) -> None:
    if not for_people(as_json):
        write_json([report.as_dict() for report in reports])
        return
    console = Console()
    console.print(report_table(reports))
    for report in reports:
        _print_warnings(console, report)


def report_table(reports: list[ImportReport]) -> object:
    """One line for each file: what became of its sessions and messages."""
    columns = ("file", "format", "sessions", "messages", "new", "changed", "same", "left out")
    rows = (
        (
            Path(report.source).name,
            report.format,
            str(report.sessions.read),
            str(report.messages.read),
            str(report.messages.imported),
            str(report.messages.updated),
            str(report.messages.unchanged),
            str(sum(report.skipped.values())),
        )
        for report in reports
    )
    return table(columns, rows, right=columns[2:], tight=True)


def _print_warnings(console: Console, report: ImportReport) -> None:
    for warning in report.warnings[:_SHOWN_WARNINGS]:
        console.print(Text(plain(f"{Path(report.source).name}: {warning}"), style="yellow"))
    if len(report.warnings) > _SHOWN_WARNINGS:
        console.print(Text(f"… and {len(report.warnings) - _SHOWN_WARNINGS} more; --json has them all", style="dim"))
