"""What those who copy a store elsewhere ask of whoever has it open: a `NativeSessionManager` does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Protocol, TypeVar

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.sync.changes import current, messages_of, recorded
from nomad_sessions.sync.target import Change, Key
from nomad_sessions.workspace.log import LogReader
from nomad_sessions.workspace.options import Options
from nomad_sessions.workspace.state import RECORDED, WORKSPACE
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

__all__ = ["Host", "all_messages", "all_recorded", "looked", "now"]

T = TypeVar("T")
_SESSIONS = 20


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


def now(host: Host, workspace_id: str, keys: Collection[Key]) -> list[Change]:
    """What these are now, what was recorded among them. Cost: the log, read, where something was."""
    events = {key for key in keys if key.kind == "event"}
    others = [key for key in keys if key not in events]
    changes = looked(host, workspace_id, lambda view: current(view, workspace_id, others))
    if events:
        changes += [each for each in all_recorded(host, workspace_id) if each.key in events]
    return changes


def all_messages(host: Host, workspace_id: str) -> Iterator[list[Change]]:
    """All messages, those of some sessions at a time: looked up singly, one by one, they cost several times as much."""
    sessions = looked(host, workspace_id, lambda view: [*view.summaries(), WORKSPACE])
    while sessions:
        some, sessions = sessions[:_SESSIONS], sessions[_SESSIONS:]
        yield looked(host, workspace_id, partial(messages_of, workspace_id=workspace_id, session_ids=some))
