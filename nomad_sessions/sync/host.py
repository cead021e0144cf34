"""What those who copy a store elsewhere ask of whoever has it open: a `NativeSessionManager` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.options import Options
from nomad_sessions.workspace.store import Workspace

__all__ = ["Host"]

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
