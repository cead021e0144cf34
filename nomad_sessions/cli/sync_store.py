"""What the `sync` commands open: the store, with the targets of the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, WorkspaceNotFoundError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.configured import configured_targets
from nomad_sessions.sync.settings import config_path, read_settings

__all__ = ["Target", "opened"]

Target = Annotated[str | None, typer.Option("--target", "-t", help="Only this target. Default: all.", metavar="NAME")]


@contextmanager
def opened(
    data_dir: Path | None, workspace: str | None, tell: Callable[[int, int], None] | None = None
) -> Iterator[tuple[NativeSessionManager, Synchronizer]]:
    """The store and its targets; `tell` hears how far what takes long is. Raises `InvalidInputError` where there are
    none, and `WorkspaceNotFoundError`."""
    with NativeSessionManager(data_dir) as manager:
        if workspace is not None:
            validate_workspace_id(workspace)
            if workspace not in manager.list_workspaces():
                raise WorkspaceNotFoundError(workspace_id=workspace)
        targets = configured_targets(read_settings(), manager.data_dir, tell)
        if not targets:
            reason = f"there is none: set MONGODB_URI, CHROMA_URL or EMBEDDING_DRIVER, or write it into {config_path()}"
            raise InvalidInputError(field="target", value=None, reason=reason)
        with Synchronizer(manager, targets) as sync:
            yield manager, sync
