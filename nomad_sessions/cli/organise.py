"""Commands that put things in their place: workspaces, relink, move, archive, unarchive, close, reopen, tree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from nomad_sessions.cli.completion import workspaces_to_complete
from nomad_sessions.cli.exits import Exit, guarded, name_unreadable
from nomad_sessions.cli.output import counted, for_people, plain, table, when, write_json
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.sessions import report_written
from nomad_sessions.cli.store import (
    AsJson,
    AsRecord,
    DataDir,
    SessionId,
    Workspace,
    find_anywhere,
    find_session,
    here,
    open_manager,
    open_store,
)
from nomad_sessions.errors import InvalidInputError, StorageError, WorkspaceNotFoundError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Session
from nomad_sessions.workspaces import workspace_id_of

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    for command in (workspaces, relink, move, archive, unarchive, close, reopen, tree):
        app.command()(guarded(command))


def workspaces(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the workspaces: their project folders, how many sessions, the newest change.

    One that cannot be read is listed too, with the reason; the exit code is 5 then.
    """
    rows: list[dict[str, Any]] = []
    with open_manager(data_dir) as manager, working("Looking"):
        folders = manager.workspace_folders()
        for ws in manager.list_workspaces():
            row: dict[str, Any] = {"id": ws, "folder": folders.get(ws), "sessions": None, "updatedAt": None}
            try:
                newest = manager.list_sessions(ws, limit=1)
            except (StorageError, OSError) as error:
                row["error"] = str(error)
            else:
                row |= {"sessions": newest.total, "updatedAt": newest[0].updated_at if newest else 0}
            rows.append(row)
    if for_people(as_json):
        cells = ([row["id"], row["folder"] or "-", *_state(row)] for row in rows)
        Console().print(table(("id", "folder", "sessions", "updated"), cells, right=("sessions",)))
    else:
        write_json(rows)
    if name_unreadable((row["id"], row["error"]) for row in rows if "error" in row):
        raise typer.Exit(Exit.STORAGE)


def _state(row: dict[str, Any]) -> list[str]:
    return ["-", "unreadable"] if "error" in row else [str(row["sessions"]), when(row["updatedAt"])]


def relink(
    workspace_id: Annotated[
        str, typer.Argument(help="The workspace.", metavar="WORKSPACE", autocompletion=workspaces_to_complete)
    ],
    folder: Annotated[Path | None, typer.Argument(help="Where the project is now. Default: here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where another workspace has that folder.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Say where a project that was moved is now."""
    with open_manager(data_dir) as manager:
        if workspace_id not in manager.list_workspaces():
            raise WorkspaceNotFoundError(workspace_id=workspace_id)
        place = folder or here()
        if not place.is_dir():
            raise FileNotFoundError(2, "there is no such folder", str(place))
        current = manager.workspace_for(place, create=False)
        real = str(place.resolve())
        its = manager.workspace_folders().get(current, real) == real
        if its and not force and current != workspace_id and current in manager.list_workspaces():
            has = counted(manager.list_sessions(current, limit=1).total, "session")
            reason = f"is the folder of workspace {current} with {has}, which would lose it: --force"
            raise InvalidInputError(field="folder", value=str(place), reason=reason)
        manager.link_workspace(workspace_id, place)
    print(workspace_id)


def move(
    session: SessionId,
    to: Annotated[
        str,
        typer.Argument(
            help="The workspace to move it to, or a project's folder.",
            metavar="WORKSPACE|FOLDER",
            autocompletion=workspaces_to_complete,
        ),
    ],
    create: Annotated[bool, typer.Option("--create", help="Make the workspace, if there is none.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Move a session, with its messages and ids, to another workspace.

    A session that is not in the current folder's workspace is looked for in the others.
    """
    with open_store(data_dir, workspace) as (manager, here):
        ws, found = find_anywhere(manager, here, session, named=workspace is not None)
        target = _target(manager, to, create)
        moved = manager.move_session(ws, found.id, to_workspace=target)
        report_written(moved, moved.id, as_json)


def _target(manager: NativeSessionManager, to: str, create: bool) -> str:
    """The id of the workspace that is meant. A folder may be one that was no project yet, not one that is not there."""
    if os.sep not in to and to not in (".", ".."):
        if not create and to not in manager.list_workspaces():
            raise WorkspaceNotFoundError(workspace_id=to)
        return to
    place, real = Path(to), str(Path(to).resolve())
    folders = {folder: workspace for workspace, folder in manager.workspace_folders().items()}
    if not place.exists() and real not in folders:
        if not create:
            raise FileNotFoundError(2, "there is no such folder (--create makes a workspace for it)", to)
        made = workspace_id_of(real, folders)
        manager.link_workspace(made, place)
        return made
    return manager.workspace_for(place)


def archive(
    session: SessionId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False
) -> None:
    """Take a session out of the lists; nothing of it is removed."""
    _mark(NativeSessionManager.archive_session, session, workspace, data_dir, as_json)


def unarchive(
    session: SessionId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False
) -> None:
    """Bring an archived session back into the lists."""
    _mark(NativeSessionManager.unarchive_session, session, workspace, data_dir, as_json)


def close(session: SessionId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False) -> None:
    """Say that a session has come to its end."""
    _mark(NativeSessionManager.close_session, session, workspace, data_dir, as_json)


def reopen(
    session: SessionId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False
) -> None:
    """Say that a closed session goes on."""
    _mark(NativeSessionManager.reopen_session, session, workspace, data_dir, as_json)


def _mark(
    change: Callable[[NativeSessionManager, str, str], Session],
    session: str,
    workspace: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    with open_store(data_dir, workspace) as (manager, ws):
        changed = change(manager, ws, find_session(manager, ws, session).id)
        report_written(changed, changed.id, as_json)


def tree(workspace: Workspace = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show which sessions came from which: forks and sub-agents under their parents."""
    with open_store(data_dir, workspace) as (manager, ws):
        sessions = list(manager.list_sessions(ws))
    known = {session.id for session in sessions}
    children: dict[str | None, list[Session]] = {}
    for session in sorted(sessions, key=lambda each: (each.created_at, each.id)):
        children.setdefault(session.parent_id if session.parent_id in known else None, []).append(session)
    top = [*children.get(None, []), *_in_circles(sessions)]
    if not for_people(as_json):
        write_json([_as_json(session, children, set()) for session in top])
        return
    whole = Tree(Text(counted(len(sessions), "session")))
    for session in top:
        _grow(whole, session, children, set())
    Console().print(whole)


def _in_circles(sessions: list[Session]) -> list[Session]:
    """One session of each circle that parents go in: an import may bring such a thing."""
    parents = {session.id: session.parent_id for session in sessions}
    found: list[Session] = []
    reached: set[str] = set()
    for session in sessions:
        seen: list[str] = []
        at: str | None = session.id
        while at is not None and at in parents and at not in seen and at not in reached:
            seen.append(at)
            at = parents[at]
        if at in seen:
            found.append(next(each for each in sessions if each.id == at))
        reached.update(seen)
    return found


def _as_json(session: Session, children: dict[str | None, list[Session]], above: set[str]) -> dict[str, Any]:
    below = [each for each in children.get(session.id, []) if each.id not in above | {session.id}]
    inner = [_as_json(each, children, above | {session.id}) for each in below]
    return {"id": session.id, "title": session.title, "messages": len(session.message_ids), "children": inner}


def _grow(branch: Tree, session: Session, children: dict[str | None, list[Session]], above: set[str]) -> None:
    label = Text(plain(session.title))
    label.append(f"  {session.id[-8:]}  {counted(len(session.message_ids), 'message')}", style="dim")
    twig = branch.add(label)
    for each in children.get(session.id, []):
        if each.id not in above | {session.id}:
            _grow(twig, each, children, above | {session.id})
