"""What the shell offers while somebody types: sessions, workspaces, forms of an export.

Nothing is printed but what can be completed: an error is no offer.
"""

from __future__ import annotations

from pathlib import Path

import typer

from nomad_sessions.errors import NomadSessionsError
from nomad_sessions.manager import NativeSessionManager

__all__ = ["forms_to_complete", "sessions_to_complete", "workspaces_to_complete"]

_NEWEST = 200


def sessions_to_complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids of the newest sessions of the workspace that is meant, with their titles."""
    workspace = context.params.get("workspace")
    try:
        with NativeSessionManager(context.params.get("data_dir")) as manager:
            workspace = workspace or manager.workspace_for(Path.cwd(), create=False)
            newest = manager.list_sessions(workspace, limit=_NEWEST)
    except (NomadSessionsError, OSError):
        return []
    found = [(each.id, each.title) for each in newest]
    return _that_begin(incomplete, [*found, ("@last", "the newest")] if found else [])


def workspaces_to_complete(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids of all workspaces, with their folders."""
    try:
        with NativeSessionManager(context.params.get("data_dir")) as manager:
            folders = manager.workspace_folders()
            found = [(each, folders.get(each, "")) for each in manager.list_workspaces()]
    except (NomadSessionsError, OSError):
        return []
    return _that_begin(incomplete, found)


def forms_to_complete(incomplete: str) -> list[tuple[str, str]]:
    """The forms that a session can be written in."""
    from nomad_sessions.formats.exporting import EXPORTS

    return _that_begin(incomplete, [(name, each.label) for name, each in EXPORTS.items()])


def _that_begin(incomplete: str, offers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [each for each in offers if each[0].startswith(incomplete)]
