"""Commands on a whole workspace: check, repair, checkpoint, status, stats; and on all of them: doctor."""

from __future__ import annotations

import statistics
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from nomad_sessions.cli.exits import Exit, guarded
from nomad_sessions.cli.output import counted, for_people, pairs, plain, size, table, when, write_json
from nomad_sessions.cli.plot import draw
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import AnyWorkspace, AsJson, AsRecord, DataDir, Workspace, open_manager, open_store
from nomad_sessions.doctor import DoctorReport
from nomad_sessions.models.base import to_camel
from nomad_sessions.reports import WorkspaceStats, WorkspaceStatus
from nomad_sessions.usage import Amounts, Usage
from nomad_sessions.workspace.check import CheckReport
from nomad_sessions.workspace.repair import RepairReport

__all__ = ["register"]

T = TypeVar("T")
_ROWS = 10


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    for command in (check, repair, checkpoint, status, stats, doctor):
        app.command()(guarded(command))


def check(workspace: Workspace = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Verify everything, change nothing.

    Exit code 1 when something is wrong.
    """
    with open_store(data_dir, workspace) as (manager, ws), working("Checking"):
        report = manager.check(ws)
    if for_people(as_json):
        _print_check(Console(), report)
    else:
        write_json(_check_as_json(report))
    if not report.ok:
        raise typer.Exit(Exit.PROBLEM)


def repair(
    drop_corrupt: Annotated[
        bool,
        typer.Option("--drop-corrupt", help="Go on without records that are damaged. They are kept in quarantine/."),
    ] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Mend what can be mended.

    Whatever is taken out is kept in quarantine/. Exit code 1 when something stays wrong.
    """
    with open_store(data_dir, workspace) as (manager, ws), working("Repairing"):
        report: RepairReport = manager.repair(ws, drop_corrupt=drop_corrupt)
    if for_people(as_json):
        console = Console()
        for action in report.actions or ["nothing to repair"]:
            console.print(Text(action))
        _print_check(console, report.after)
    else:
        before, after = _check_as_json(report.before), _check_as_json(report.after)
        write_json({"actions": list(report.actions), "before": before, "after": after})
    if not report.after.ok:
        raise typer.Exit(Exit.PROBLEM)


def checkpoint(workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False) -> None:
    """Fold the journal into sessions.json now.

    Other programs, which read that file only, then see everything.
    """
    with open_store(data_dir, workspace) as (manager, ws), working("Folding the journal"):
        folded = manager.checkpoint(ws)
    if as_json:
        write_json({"folded": folded})
    else:
        print("folded" if folded else "nothing to fold")


def status(workspace: Workspace = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Where the workspace is, and what is not folded yet."""
    with open_store(data_dir, workspace) as (manager, ws):
        found: WorkspaceStatus = manager.status(ws)
    if not for_people(as_json):
        write_json(_camel(found._asdict()))
        return
    waiting = f"{counted(found.unfolded_records, 'change')}, {size(found.unfolded_bytes)}, in the journal only"
    state = found.unreadable or (waiting if found.unfolded_records else "has everything")
    Console().print(
        pairs(
            [
                ("workspace", found.workspace_id),
                ("folder", found.path),
                ("changes", f"{found.seq} (sessions.json has {found.snapshot_seq})"),
                ("sessions.json", f"{size(found.snapshot_bytes)}, {state}"),
                ("journal", f"{size(found.journal_bytes)} in {found.segments} segments"),
                ("written by", "another program" if found.foreign else "nomad-sessions"),
                ("durability", found.durability),
            ]
        )
    )


def stats(
    plot: Annotated[
        Path | None, typer.Option(help="Draw messages and tokens by day into this file: .png, .svg or .pdf.")
    ] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """How much is in the workspace, and what it took: tokens, cost, tools; by day, agent and model."""
    with open_store(data_dir, workspace) as (manager, ws), working("Counting"):
        found: WorkspaceStats = manager.stats(ws)
        usage = manager.usage(ws)
    if plot is not None:
        draw(usage, plot)
    if not for_people(as_json):
        write_json({**_camel(found._asdict()), "usage": _usage_as_json(usage)})
        return
    roles = ", ".join(f"{count} {role}" for role, count in sorted(found.roles.items()))
    console = Console()
    console.print(
        pairs(
            [
                ("sessions", f"{found.sessions}, {found.archived_sessions} archived"),
                ("messages", f"{found.messages} ({roles})" if roles else "0"),
                ("hidden by reverts", str(found.reverted_messages)),
                ("parts", str(found.parts)),
                ("tokens", _tokens(usage.total)),
                ("cost", f"${usage.total.cost:,.2f}"),
                ("a session lasts", _lasting(usage.durations)),
                ("oldest, newest", f"{when(found.oldest or 0)}, {when(found.newest or 0)}"),
                ("sessions.json", size(found.bytes_snapshot)),
                ("journal", size(found.bytes_journal)),
                ("attachments", size(found.bytes_attachments)),
            ]
        )
    )
    _print_usage(console, usage)


def _lasting(durations: list[int]) -> str:
    """From its first message to its last: the median, and the longest."""
    if not durations:
        return "-"
    middle, longest = (timedelta(seconds=ms // 1000) for ms in (statistics.median_low(durations), durations[-1]))
    return f"{middle}, the longest {longest}"


def _tokens(amounts: Amounts) -> str:
    cached = f", {amounts.cache_read:,} from the cache" if amounts.cache_read else ""
    return f"{amounts.input:,} in, {amounts.output:,} out{cached}"


def _print_usage(console: Console, usage: Usage) -> None:
    """The busiest models, agents and tools, and the last days."""
    days = dict(list(usage.days.items())[-_ROWS:])
    for name, amounts in (("model", usage.models), ("agent", usage.agents), ("day", days)):
        if amounts:
            rows = ((key, f"{each.messages:,}", _tokens(each), f"${each.cost:,.2f}") for key, each in _first(amounts))
            console.print()
            console.print(table((name, "messages", "tokens", "cost"), rows, right=("messages", "cost")))
    if usage.tools:
        console.print()
        console.print(table(("tool", "calls"), ((key, f"{n:,}") for key, n in _first(usage.tools)), right=("calls",)))


def _first(found: dict[str, T]) -> list[tuple[str, T]]:
    return list(found.items())[:_ROWS]


def _usage_as_json(usage: Usage) -> dict[str, Any]:
    def plain(found: dict[str, Amounts]) -> dict[str, Any]:
        return {name: _camel(each._asdict()) for name, each in found.items()}

    parts = {name: plain(getattr(usage, name)) for name in ("days", "agents", "models")}
    return {"total": _camel(usage.total._asdict()), "tools": usage.tools, **parts, "durations": usage.durations}


def doctor(
    workspace: AnyWorkspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """See whether the data lies where it is safe: no network mount, no cloud folder, no copies of its files.

    Changes nothing. Exit code 1 when something was found.
    """
    with open_manager(data_dir) as manager, working("Looking around"):
        report = manager.doctor(workspace)
    if for_people(as_json):
        _print_doctor(Console(), report)
    else:
        findings = [finding._asdict() for finding in report.findings]
        write_json({"ok": report.ok, **_camel(report._asdict()), "findings": findings})
    if not report.ok:
        raise typer.Exit(Exit.PROBLEM)


def _print_doctor(console: Console, report: DoctorReport) -> None:
    for finding in report.findings:
        style = "red" if finding.level == "error" else "yellow"
        console.print(Text(plain(f"{finding.level}: {finding.path}: {finding.detail}"), style=style))
        console.print(Text(plain(f"  {finding.hint}"), style="dim"))
    where = f"{counted(report.workspaces, 'workspace')} in {report.data_dir}"
    console.print(Text(plain(f"ok: {where}" if report.ok else where), style="green" if report.ok else ""))


def _print_check(console: Console, report: CheckReport) -> None:
    numbers = ((report.sessions, "session"), (report.messages, "message"), (report.seq, "change"))
    counts = ", ".join(counted(number, noun) for number, noun in numbers)
    if report.ok:
        console.print(Text(f"ok: {counts}", style="green"))
        return
    columns = ("kind", "file", "offset", "length", "detail")
    rows = ((p.kind, p.path, str(p.offset), str(p.length), p.detail) for p in report.problems)
    console.print(table(columns, rows, right=("offset", "length")))
    lost = sum(problem.kind == "attachment-missing" for problem in report.problems)
    hint = "Attachments have to come from a backup." if lost else ""
    if lost < len(report.problems):
        hint = f"`nomad-sessions repair` mends. {hint}".strip()
    told = counted(len(report.problems), "problem")
    console.print(Text(f"{told}; {counts} can be read. {hint}", style="red"))


def _check_as_json(report: CheckReport) -> dict[str, Any]:
    problems = [problem._asdict() for problem in report.problems]
    return {"ok": report.ok, **_camel(report._asdict()), "problems": problems}


def _camel(fields: dict[str, Any]) -> dict[str, Any]:
    """Field names as JSON spells them, here as everywhere."""
    return {to_camel(name): value for name, value in fields.items()}
