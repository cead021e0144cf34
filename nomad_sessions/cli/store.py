"""What every command needs first: its options, the open store, and which session an argument means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, SessionNotFoundError, WorkspaceNotFoundError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Session

__all__ = ["AsJson", "DataDir", "SessionId", "Workspace", "find_session", "open_store"]

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
SessionId = Annotated[
    str, typer.Argument(help="A session's id, the end of one that is unique, or 'last'.", metavar="SESSION")
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
            yield manager, manager.workspace_for(Path.cwd(), create=create)
            return
        validate_workspace_id(workspace)
        if not create and workspace not in manager.list_workspaces():
            raise WorkspaceNotFoundError(workspace_id=workspace)
        yield manager, workspace


def find_session(manager: NativeSessionManager, workspace_id: str, name: str) -> Session:
    """The session that a user means by `name`. Cost: one lookup for a whole id, a list of all sessions otherwise."""
    found = manager.get_session(workspace_id, name)
    if found is not None:
        return found
    if name == "last":
        newest = manager.list_sessions(workspace_id, limit=1)
        if newest:
            return newest[0]
        raise SessionNotFoundError(session_id=name)
    # Ids made in one moment begin alike, so it is their ends that people can tell apart.
    ends = [session for session in manager.list_sessions(workspace_id) if len(name) >= 4 and session.id.endswith(name)]
    if len(ends) > 1:
        raise InvalidInputError(field="session", value=name, reason=f"{len(ends)} sessions end so: give more of the id")
    if not ends:
        raise SessionNotFoundError(session_id=name)
    return ends[0]
