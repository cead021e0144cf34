"""Where the sessions of a data folder are: a conversation that is here already is brought up to date where it is.

It may have been moved to another workspace since it was imported, or have come in from another source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nomad_sessions.errors import StorageError
from nomad_sessions.formats.report import ImportReport

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Homes"]


class Homes:
    """The workspace of each session, looked up once, when the first is asked for. Cost: a list of all sessions.

    A workspace that cannot be read is in the report, and counts as empty: it is no reason not to import into others.
    """

    def __init__(self, manager: NativeSessionManager, report: ImportReport) -> None:
        self._manager = manager
        self._report = report
        self._found: dict[str, list[str]] | None = None

    def of(self, session_id: str, first: Callable[[], str]) -> str | None:
        """The workspace that has a session; None for one that is nowhere. Of several, which the report names, the one
        that `first` gives, if it is among them."""
        if self._found is None:
            self._found = {}
            for workspace in self._manager.list_workspaces():
                self._look_into(workspace, self._found)
        found = self._found.get(session_id, [])
        if len(found) < 2:
            return found[0] if found else None
        wanted = first()
        chosen = wanted if wanted in found else found[0]
        text = f"it is in several workspaces ({', '.join(found)}), and brought up to date in {chosen}"
        self._report.warn(f"session {session_id!r}", text)
        return chosen

    def _look_into(self, workspace: str, found: dict[str, list[str]]) -> None:
        try:
            for session in self._manager.list_sessions(workspace):
                found.setdefault(session.id, []).append(workspace)
        except (StorageError, PermissionError) as error:
            self._report.warn_of_workspace(workspace, str(error))
