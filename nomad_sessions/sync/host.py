"""What those who copy a store elsewhere ask of whoever has it open: a `NativeSessionManager` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.sync.changes import recorded
from nomad_sessions.sync.target import Change
from nomad_sessions.workspace.log import LogReader
from nomad_sessions.workspace.options import Options
from nomad_sessions.workspace.state import RECORDED
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

__all__ = ["Host", "all_recorded", "looked"]

T = TypeVar("T")


class Host(Protocol):
    """The files and the open workspaces."""

    data_dir: str
    _fs: FileSystem
    _options: Options

    def list_workspaces(self) -> list[str]:
        """The ids of all workspaces in the data folder, sorted."""
        ...

    def _use(self, workspace_id: str, use: Callable[[Workspace], T]) -> T:
        """`use(workspace)`, with the open workspace."""
        ...


def looked(host: Host, workspace_id: str, look: Callable[[View], T]) -> T:
    """`look(view)` at the newest state of a workspace."""
    return host._use(workspace_id, lambda workspace: workspace.read(look))


def all_recorded(host: Host, workspace_id: str) -> Iterator[Change]:
    """Everything that somebody recorded in a workspace, in order. Cost: the log, read."""
    folder = host._use(workspace_id, lambda workspace: workspace.folder)
    reader = LogReader(host._fs, folder, lambda look: looked(host, workspace_id, look), 0)
    try:
        for batch in reader.kept():
            records = (each.entry.record for each in batch)
            yield from (recorded(workspace_id, each) for each in records if each["type"] == RECORDED)
    finally:
        reader.close()
