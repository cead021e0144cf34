"""What every command needs first: its options, the open store, and which session an argument means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from nomad_sessions.cli.completion import sessions_to_complete, workspaces_to_complete
from nomad_sessions.cli.exits import name_unreadable
from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import (
    InvalidInputError,
    NotFoundError,
    SessionNotFoundError,
    StorageError,
    TaskNotFoundError,
    WorkspaceNotFoundError,
)
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Session, Task

__all__ = [
    "AnyWorkspace",
    "AsJson",
    "AsRecord",
    "DataDir",
    "SessionId",
    "Workspace",
    "find_anywhere",
    "find_newest",
    "find_session",
    "find_task",
    "here",
    "naming_new",
    "open_manager",
    "open_store",
]

M = TypeVar("M", Session, Task)
_NEWEST = ("last", "@last")
_SHORTEST = 4  # characters of an id
_MADE = re.compile("[0-9A-HJKMNP-TV-Z]{26}")

Workspace = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        help="The workspace. Default: that of the current folder.",
        metavar="ID",
        autocompletion=workspaces_to_complete,
    ),
]
AnyWorkspace = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        "-w",
        help="One workspace. Default: all of them.",
        metavar="ID",
        autocompletion=workspaces_to_complete,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where workspaces are kept. Default: NOMAD_SESSIONS_DIR, or the user's data folder."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, also in a terminal. (In a pipe or file it always is.)")]


AsRecord = Annotated[bool, typer.Option("--json", help="The whole result as JSON, in place of the id.")]
SessionId = Annotated[
    str,
    typer.Argument(
        help="A session's id, the beginning or the end of one (4 characters or more), or @last.",
        metavar="SESSION",
        autocompletion=sessions_to_complete,
    ),
]


def open_manager(data_dir: Path | None, *, create: bool = False) -> NativeSessionManager:
    """The manager. A data folder that was named and is not there is an error, unless it may come into being: a typing
    mistake should not look like an empty store."""
    if data_dir is not None and not create and not data_dir.exists():
        raise NotFoundError(kind="data folder", id=str(data_dir), hint="it is made by the first session or import")
    return NativeSessionManager(data_dir)


@contextmanager
def open_store(
    data_dir: Path | None, workspace: str | None, *, create: bool = False
) -> Iterator[tuple[NativeSessionManager, str]]:
    """The manager, and the id of the workspace meant; closed at the end.

    `create` lets a workspace come into being, and says so. Without it one that was named and does not exist is an
    error, as for a data folder.
    """
    with open_manager(data_dir, create=create) as manager:
        if workspace is None:
            found = manager.workspace_for(here(), create=False)
            try:
                yield manager, found
            finally:  # A command that fails makes no project of the folder it was called in.
                if create and found in manager.list_workspaces():
                    manager.workspace_for(here())
            return
        validate_workspace_id(workspace)
        if not create and workspace not in manager.list_workspaces():
            raise WorkspaceNotFoundError(workspace_id=workspace)
        with naming_new(manager, workspace):
            yield manager, workspace


@contextmanager
def naming_new(manager: NativeSessionManager, workspace: str | None) -> Iterator[None]:
    """Says on stderr, beside others, that the workspace that was named has come into being: it may be mistyped."""
    known = manager.list_workspaces() if workspace is not None else []
    yield
    if known and workspace not in known and workspace in manager.list_workspaces():
        typer.echo(f"{workspace} is a new workspace", err=True)


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
        elsewhere, _ = _elsewhere(manager, workspace_id, name)
        hint = f"of an id, {_SHORTEST} characters are the least" if len(name) < _SHORTEST else None
        if elsewhere:
            hint = f"it is in another workspace: add -w {elsewhere[0][0]}"
        raise SessionNotFoundError(session_id=name, hint=hint)
    return found_so


def find_anywhere(manager: NativeSessionManager, workspace_id: str, name: str, *, named: bool) -> tuple[str, Session]:
    """The workspace and the session that a user means by `name`: of this workspace, or, unless it was `named`, of
    another that alone has such a one. A search gives ids of all workspaces.

    A workspace that cannot be read is named on stderr, and is an error only where nothing else was found.
    """
    unreadable: list[tuple[str, Exception]] = []
    missing: Exception = SessionNotFoundError(session_id=name)
    try:
        return workspace_id, find_session(manager, workspace_id, name)
    except SessionNotFoundError as error:
        if named or name in _NEWEST:
            raise
        missing = error
    except (StorageError, OSError) as error:
        if named or name in _NEWEST:
            raise
        unreadable.append((workspace_id, error))
    there, others = _elsewhere(manager, workspace_id, name)
    unreadable += others
    if len(there) > 1:
        reason = f"{len(there)} workspaces have such a session: say which with -w"
        raise InvalidInputError(field="session", value=name, reason=reason)
    if not there:
        raise unreadable[0][1] if unreadable else missing
    name_unreadable((each, str(error)) for each, error in unreadable)
    return there[0]


def find_newest(manager: NativeSessionManager, workspace_id: str, name: str) -> tuple[str, Session] | None:
    """Of `@last`, where this workspace has no session: the newest of all; else None. Others cannot be in its way."""
    if name not in _NEWEST or manager.list_sessions(workspace_id, limit=1, archived=False):
        return None
    found, unreadable = _of_each(
        manager, lambda each: next(iter(manager.list_sessions(each, limit=1, archived=False)), None)
    )
    name_unreadable((each, str(error)) for each, error in unreadable)
    return max(found, key=lambda each: each[1].updated_at, default=None)


def _elsewhere(
    manager: NativeSessionManager, workspace_id: str, name: str
) -> tuple[list[tuple[str, Session]], list[tuple[str, Exception]]]:
    """The sessions of this name in other workspaces, and those of these that cannot be read."""

    def look(each: str) -> Session | None:
        if each == workspace_id:
            return None
        return manager.get_session(each, name) or _with_piece(manager, each, name)

    return _of_each(manager, look)


def _of_each(
    manager: NativeSessionManager, look: Callable[[str], Session | None]
) -> tuple[list[tuple[str, Session]], list[tuple[str, Exception]]]:
    found: list[tuple[str, Session]] = []
    unreadable: list[tuple[str, Exception]] = []
    for each in manager.list_workspaces():
        try:
            session = look(each)
        except (StorageError, OSError) as error:
            unreadable.append((each, error))
        else:
            found += [(each, session)] if session is not None else []
    return found, unreadable


def _with_piece(manager: NativeSessionManager, workspace_id: str, piece: str) -> Session | None:
    """The one session whose id begins or ends so. Ids made in one moment begin alike: their ends tell them apart."""
    if len(piece) < _SHORTEST:
        return None
    return _only_one("session", piece, manager.list_sessions(workspace_id))


def find_task(manager: NativeSessionManager, workspace_id: str, name: str) -> Task:
    """The task that a user means by `name`: its id, or the beginning or the end of one that the store made. Of an id
    that somebody chose a piece may be another's whole."""
    found = manager.get_task(workspace_id, name)
    if found is None and len(name) >= _SHORTEST:
        made = (each for each in manager.list_tasks(workspace_id) if _MADE.fullmatch(each.id))
        found = _only_one("task", name, made)
    if found is None:
        raise TaskNotFoundError(task_id=name)
    return found


def _only_one(noun: str, piece: str, rows: Iterable[M]) -> M | None:
    found = [each for each in rows if each.id.startswith(piece) or each.id.endswith(piece)]
    if len(found) > 1:
        reason = f"the ids of {len(found)} {noun}s begin or end so: give more of it"
        raise InvalidInputError(field=noun, value=piece, reason=reason)
    return found[0] if found else None
