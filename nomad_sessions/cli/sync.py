"""`sync`: copies elsewhere, and what several machines have in common: bringing them up to now, how they stand."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from nomad_sessions.cli.exits import Exit, guarded, name_unreadable
from nomad_sessions.cli.output import for_people, plain, table, when, write_json
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import AnyWorkspace, AsJson, DataDir, Workspace, here, open_store
from nomad_sessions.cli.sync_conflicts import conflicts
from nomad_sessions.cli.sync_store import Target, opened
from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import (
    LockTimeoutError,
    NomadSessionsError,
    NotFoundError,
    StorageError,
    TargetUnavailableError,
)
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.comparing import Difference
from nomad_sessions.sync.outbox import Pushed

__all__ = ["register"]

_SHOWN = 20
_LOOK_EVERY = 0.5  # seconds
_OTHER = ("already", "incomplete")


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    group = typer.Typer(
        name="sync", help="Copies elsewhere: MongoDB, Chroma (MONGODB_URI, CHROMA_URL, …).", no_args_is_help=True
    )
    commands: tuple[Callable[..., None], ...] = (
        *(status, push, pull, verify, restore),
        *(retry, dead, conflicts, watch, reset),
    )
    for command in commands:
        group.command()(guarded(command))
    app.add_typer(group)


def status(workspace: AnyWorkspace = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show how far each target has been told, what it refused, and whether it is there."""
    with opened(data_dir, workspace) as (_, sync):
        rows = sync.status(workspace)
        there = {target.name: _asked(target.ping) for target in sync.targets}
        places = {target.name: target.describe() for target in sync.targets}
    if not for_people(as_json):
        targets = [
            {"name": name, "kind": info.kind, "place": info.place, "details": dict(info.details), "error": there[name]}
            for name, info in places.items()
        ]
        items = [
            {"target": row.target, "workspaceId": row.workspace_id, "behind": row.behind, "dead": row.dead}
            for row in rows
        ]
        write_json({"targets": targets, "items": items})
        return
    console = Console()
    for name, info in places.items():
        said = "is there" if there[name] is None else f"is not there: {there[name]}"
        console.print(plain(f"{name}: {info.kind} at {info.place}, {said}"), soft_wrap=True)
    cells = [(row.target, row.workspace_id, _number(row.behind), _number(row.dead)) for row in rows]
    console.print(table(("target", "workspace", "behind", "refused"), cells, right=("behind", "refused")))


def _asked(ping: Callable[[], None]) -> str | None:
    try:
        ping()
    except NomadSessionsError as error:
        return str(error)
    return None


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def push(
    target: Target = None, workspace: AnyWorkspace = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Bring targets up to now. What another program is sending at the moment is left to it."""
    with working("Sending") as tell, opened(data_dir, workspace, tell) as (manager, sync):
        pairs = _pairs(manager, sync, target, workspace)
        done = _carried(sync.push, pairs, tell, alone=workspace is not None)
        disputed = len(sync.conflicts(workspace, target=target))
    _show(done, disputed, as_json)


def pull(
    target: Target = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="Only this one. Default: all that are here, or there.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring what other machines did; what was done here goes there first. For targets that are two-way."""
    if workspace is not None:
        validate_workspace_id(workspace)
    with working("Fetching") as tell, opened(data_dir, None, tell) as (_, sync):
        pairs = [
            (name, each)
            for name in sync.two_way(target)
            for each in (sync.shared(name) if workspace is None else [workspace])
        ]
        done = _carried(sync.pull, pairs, tell, alone=workspace is not None)
        disputed = len(sync.conflicts(workspace, target=target))
    _show(done, disputed, as_json)


class _Carried(NamedTuple):
    """What was done, where another program is at it, which targets are away, and which workspaces cannot be read, with
    the reasons."""

    done: dict[tuple[str, str], Pushed]
    busy: list[tuple[str, str]]
    away: dict[str, TargetUnavailableError]
    unreadable: dict[str, str]


def _carried(
    carry: Callable[..., dict[tuple[str, str], Pushed]],
    pairs: list[tuple[str, str]],
    tell: Callable[[int, int], None],
    *,
    alone: bool,
) -> _Carried:
    found = _Carried({}, [], {}, {})
    for name, each in pairs:
        if name in found.away:
            continue
        try:
            found.done.update(carry(each, target=name, progress=lambda _, __, count: tell(count, count)))
        except LockTimeoutError:
            found.busy.append((name, each))
        except TargetUnavailableError as error:  # The others are there all the same.
            found.away[name] = error
        except StorageError as error:
            if alone:
                raise
            found.unreadable[each] = str(error)
    if found.away and not found.done and not found.busy:
        raise next(iter(found.away.values()))
    return found


def _show(carried: _Carried, disputed: int, as_json: bool) -> None:
    done, busy, away, unreadable = carried
    if for_people(as_json):
        _show_pushed(done, busy)
        if disputed:
            Console().print(f"`sync conflicts` lists {disputed:,} in which two machines changed the same.", style="dim")
    else:
        items = [
            {
                "target": name,
                "workspaceId": ws,
                "sent": each.confirmed,
                "fetched": each.fetched,
                "refused": each.rejected,
                "why": each.compared,
            }
            for (name, ws), each in done.items()
        ]
        others = [{"target": name, "workspaceId": ws} for name, ws in busy]
        missing = [{"target": name, "error": str(error)} for name, error in away.items()]
        write_json({"items": items, "busy": others, "away": missing, "conflicts": disputed})
    left_out = name_unreadable(unreadable.items())
    for error in away.values():
        print(f"nomad-sessions: {error}", file=sys.stderr)
    if away:
        raise typer.Exit(Exit.STORAGE)
    if left_out or any(each.rejected for each in done.values()):
        raise typer.Exit(Exit.PROBLEM)


def _pairs(
    manager: NativeSessionManager, sync: Synchronizer, target: str | None, workspace: str | None
) -> list[tuple[str, str]]:
    names = [each.name for each in sync.targets] if target is None else [target]
    workspaces = manager.list_workspaces() if workspace is None else [workspace]
    return [(name, each) for name in names for each in workspaces]


def _show_pushed(done: dict[tuple[str, str], Pushed], busy: list[tuple[str, str]]) -> None:
    console = Console()
    cells = [
        (*place, f"{each.confirmed:,}", f"{each.fetched:,}", f"{each.rejected:,}", each.compared)
        for place, each in done.items()
    ]
    names = ("target", "workspace", "sent", "fetched", "refused", "compared, for")
    console.print(table(names, cells, right=("sent", "fetched", "refused")))
    for name, ws in busy:
        console.print(plain(f"{ws}: another program is sending it to {name}"), style="dim")
    if any(each.rejected for each in done.values()):
        console.print("`sync dead` lists what was refused, `sync retry` sends it again.", style="dim")


def verify(
    target: Target = None,
    repair: Annotated[bool, typer.Option("--repair", help="Make the target what the store is.")] = False,
    workspace: AnyWorkspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compare targets with the store, in full. Exit code 1 where something differs, and was not repaired.

    One that was cut short, today, goes on where it was.
    """
    found: list[tuple[str, str, Difference]] = []
    with working("Comparing") as tell, opened(data_dir, workspace, tell) as (manager, sync):
        for name, each in _pairs(manager, sync, target, workspace):
            differences = sync.verify(each, target=name, repair=repair, progress=tell)
            found += [(name, each, difference) for difference in differences]
    rows = [
        {
            "target": name,
            "workspaceId": ws,
            "kind": each.key.kind,
            "id": each.key.id,
            "problem": each.problem,
            "rev": each.ours,
            "theirs": each.theirs,
        }
        for name, ws, each in found
    ]
    if for_people(as_json):
        _show_differences(found, repair)
    else:
        write_json({"items": rows, "total": len(rows), "repaired": repair})
    if found and not repair:
        raise typer.Exit(Exit.PROBLEM)


def _show_differences(found: list[tuple[str, str, Difference]], repaired: bool) -> None:
    console = Console()
    if not found:
        console.print("No difference.")
        return
    cells = [(name, ws, each.key.kind, each.key.id, each.problem) for name, ws, each in found[:_SHOWN]]
    console.print(table(("target", "workspace", "kind", "id", "problem"), cells))
    more = "" if len(found) <= _SHOWN else f", of which {_SHOWN} are shown"
    console.print(f"{len(found):,} differences{more}; {'repaired' if repaired else '--repair makes them right'}.")


def restore(
    target: Annotated[str, typer.Argument(help="From which target.", metavar="NAME")],
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="Which workspace. Default: that of the current folder.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a workspace again from a target: on a new machine, or after its folder was lost. What is here stays."""
    with NativeSessionManager(data_dir) as manager:
        ws = manager.workspace_for(here(), create=True) if workspace is None else validate_workspace_id(workspace)
    with opened(data_dir, None) as (manager, sync), working("Restoring") as tell:
        done = sync.restore(ws, target=target, progress=tell)
        if not any(done) and ws not in manager.list_workspaces():
            raise NotFoundError(kind="workspace", id=ws, hint=f"{target} has nothing of it, nor is it here")
    if for_people(as_json):
        said = ", ".join(f"{count:,} {name}" for name, count in done._asdict().items() if name not in _OTHER)
        Console().print(plain(f"{ws}: {said}; {done.already:,} sessions were here already."))
    else:
        write_json({"workspaceId": ws, **done._asdict()})
    if done.incomplete:
        lost = f"{len(done.incomplete):,} messages that sessions name are not in the target"
        print(f"nomad-sessions: {lost}, the first {done.incomplete[0]}", file=sys.stderr)
        raise typer.Exit(Exit.PROBLEM)


def dead(
    target: Target = None, workspace: AnyWorkspace = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """List what targets have refused, and why."""
    with opened(data_dir, workspace) as (_, sync):
        letters = sync.dead(workspace, target=target)
    if for_people(as_json):
        cells = [(name, ws, each.key.kind, each.key.id, when(each.at), each.reason) for name, ws, each in letters]
        Console().print(table(("target", "workspace", "kind", "id", "updated", "reason"), cells))
        return
    items = [
        {
            "target": name,
            "workspaceId": ws,
            "kind": each.key.kind,
            "id": each.key.id,
            "rev": each.rev,
            "reason": each.reason,
            "attempts": each.attempts,
            "at": each.at,
        }
        for name, ws, each in letters
    ]
    write_json({"items": items, "total": len(items)})


def retry(
    target: Target = None, workspace: AnyWorkspace = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Send what was refused once more, as it is now."""
    with working("Sending") as tell, opened(data_dir, workspace, tell) as (_, sync):
        done = sync.retry(workspace, target=target)
    if for_people(as_json):
        Console().print(f"{done.confirmed:,} taken, {done.rejected:,} refused again.")
    else:
        write_json({"sent": done.confirmed, "refused": done.rejected})
    if done.rejected:
        raise typer.Exit(Exit.PROBLEM)


def watch(data_dir: DataDir = None) -> None:
    """Keep targets up to date until Ctrl-C, and say what happens to them."""
    with opened(data_dir, None) as (_, sync):
        sync.start()
        console = Console(stderr=True)
        console.print(plain(f"Sending to {', '.join(each.name for each in sync.targets)}. Ctrl-C ends."), style="dim")
        told: dict[tuple[str, str], tuple[Any, ...]] = {}
        while True:
            for row in sync.status():
                said = (row.behind == 0, row.dead, row.error)
                if told.get((row.target, row.workspace_id)) != said:
                    told[row.target, row.workspace_id] = said
                    error = f": {row.error}" if row.error is not None else ""
                    behind = f"{_number(row.behind)} behind, {_number(row.dead)} refused{error}"
                    console.print(plain(f"{row.target}, {row.workspace_id}: {behind}"), soft_wrap=True)
            time.sleep(_LOOK_EVERY)


def reset(
    target: Annotated[str, typer.Argument(help="Which target.", metavar="NAME")],
    workspace: Workspace = None,
    data_dir: DataDir = None,
) -> None:
    """Forget how far a target has been told of a workspace: the next push compares the whole."""
    with open_store(data_dir, workspace) as (_, ws), opened(data_dir, ws) as (_, sync):
        sync.reset(ws, target=target)
    print(f"{target}: the next push compares {ws} as a whole")
