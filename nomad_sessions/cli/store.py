"""What every command needs first: its options, the open store, and which session an argument means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import (
    InvalidInputError,
    NomadSessionsError,
    SessionNotFoundError,
    TaskNotFoundError,
    WorkspaceNotFoundError,
)
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Session, Task

__all__ = [
    "AsJson",
    "AsRecord",
    "DataDir",
    "SessionId",
    "Workspace",
    "find_anywhere",
    "find_session",
    "find_task",
    "here",
    "open_store",
]

M = TypeVar("M", Session, Task)
_NEWEST = ("last", "@last")
_SHORTEST = 4  # characters of an id

Workspace = Annotated[
    str | None,
    typer.Option("--workspace", "-w", help="The workspace. Default: that of the current folder.", metavar="ID"),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where workspaces are kept. Default: NOMAD_SESSIONS_DIR, or the user's data folder."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, also in a terminal. (In a pipe or file it always is.)")]


def _sessions_to_complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids of the newest sessions, for the shell's completion, with their titles."""
    data_dir, workspace = context.params.get("data_dir"), context.params.get("workspace")
    try:
        with open_store(data_dir, workspace) as (manager, ws):
            newest = manager.list_sessions(ws, limit=200)
    except (NomadSessionsError, OSError):  # While somebody types nothing is printed but what can be completed.
        return []
    return [(each.id, each.title) for each in newest if each.id.startswith(incomplete)]


AsRecord = Annotated[bool, typer.Option("--json", help="The whole result as JSON, in place of the id.")]
SessionId = Annotated[
    str,
    typer.Argument(
        help="A session's id, the beginning or the end of one (4 characters or more), or @last.",
        metavar="SESSION",
        autocompletion=_sessions_to_complete,
    ),
]


@contextmanager
def open_store(
    data_dir: Path | None, workspace: str | None, *, create: bool = False
) -> Iterator[tuple[NativeSessionManager, str]]:
    """The manager, and the id of the workspace meant; closed at the end.

    `create` lets a workspace come into being. Without it a workspace that was named and does not exist is an error: a
    typing mistake should not look like an empty workspace.
    """
    with NativeSessionManager(data_dir) as manager:
        if workspace is None:
            yield manager, manager.workspace_for(here(), create=create)
            return
        validate_workspace_id(workspace)
        if not create and workspace not in manager.list_workspaces():
            raise WorkspaceNotFoundError(workspace_id=workspace)
        yield manager, workspace


def here() -> Path:
    """The current folder. Raises `InvalidInputError` where somebody has removed it."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        reason = "the current folder is gone: go to another, or say which with -w"
        raise InvalidInputError(field="workspace", value=None, reason=reason) from None


def find_session(manager: NativeSessionManager, workspace_id: str, name: str) -> Session:
    """The session that a user means by `name`. Cost: one lookup for a whole id, a list of all sessions otherwise."""
    found = manager.get_session(workspace_id, name)
    if found is not None:
        return found
    if name in _NEWEST:
        newest = manager.list_sessions(workspace_id, limit=1, archived=False)  # The first that `ls` shows.
        if newest:
            return newest[0]
        raise SessionNotFoundError(session_id=name, hint="there are no sessions here yet")
    found_so = _with_piece(manager, workspace_id, name)
    if found_so is None:
        for each in manager.list_workspaces():
            if each != workspace_id and manager.get_session(each, name) is not None:
                raise SessionNotFoundError(session_id=name, hint=f"it is in another workspace: add -w {each}")
        short = f"of an id, {_SHORTEST} characters are the least" if len(name) < _SHORTEST else None
        raise SessionNotFoundError(session_id=name, hint=short)
    return found_so


def find_anywhere(manager: NativeSessionManager, workspace_id: str, name: str, *, named: bool) -> tuple[str, Session]:
    """The workspace and the session that a user means by `name`: of this workspace, or, unless it was `named`, of
    another that alone has such a one. A search gives ids of all workspaces."""
    try:
        return workspace_id, find_session(manager, workspace_id, name)
    except SessionNotFoundError:
        if named or name in _NEWEST:
            raise
    others = [each for each in manager.list_workspaces() if each != workspace_id]
    found = [(each, manager.get_session(each, name) or _with_piece(manager, each, name)) for each in others]
    there = [(each, session) for each, session in found if session is not None]
    if len(there) > 1:
        reason = f"{len(there)} workspaces have such a session: say which with -w"
        raise InvalidInputError(field="session", value=name, reason=reason)
    if not there:
        raise SessionNotFoundError(session_id=name)
    return there[0]


def _with_piece(manager: NativeSessionManager, workspace_id: str, piece: str) -> Session | None:
    """The one session whose id begins or ends so. Ids made in one moment begin alike: their ends tell them apart."""
    if len(piece) < _SHORTEST:
        return None
    return _only_one("session", piece, manager.list_sessions(workspace_id))


def find_task(manager: NativeSessionManager, workspace_id: str, name: str) -> Task:
    """The task that a user means by `name`: its id, or the beginning or the end of it."""
    found = manager.get_task(workspace_id, name)
    if found is None and len(name) >= _SHORTEST:
        found = _only_one("task", name, manager.list_tasks(workspace_id))
    if found is None:
        raise TaskNotFoundError(task_id=name)
    return found


def _only_one(noun: str, piece: str, rows: Iterable[M]) -> M | None:
    found = [each for each in rows if each.id.startswith(piece) or each.id.endswith(piece)]
    if len(found) > 1:
        reason = f"the ids of {len(found)} {noun}s begin or end so: give more of it"
        raise InvalidInputError(field=noun, value=piece, reason=reason)
    return found[0] if found else None
