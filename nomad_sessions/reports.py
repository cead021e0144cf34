"""What `stats` and `status` tell of a workspace."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

__all__ = ["WorkspaceStats", "WorkspaceStatus", "stats_of", "status_of"]


class WorkspaceStats(NamedTuple):
    """Counts over everything in a workspace; `bytes_…` are on disk.

    `messages`, `parts` and `roles` are of visible messages; `oldest` is the first creation of a session, `newest` the
    last change of one, both in ms, None in an empty workspace.
    """

    sessions: int
    archived_sessions: int
    messages: int
    reverted_messages: int
    parts: int
    roles: dict[str, int]
    oldest: int | None
    newest: int | None
    bytes_snapshot: int
    bytes_journal: int
    bytes_attachments: int


class WorkspaceStatus(NamedTuple):
    """How a workspace's files stand.

    `unfolded_records` changes, `unfolded_bytes` of the journal, are not in `sessions.json` yet; `foreign` says that
    another program wrote that file last, `unreadable` why it cannot be read at the moment.
    """

    workspace_id: str
    path: str
    seq: int
    snapshot_seq: int
    snapshot_bytes: int
    journal_bytes: int
    segments: int
    unfolded_records: int
    unfolded_bytes: int
    foreign: bool
    unreadable: str | None
    durability: str


def stats_of(fs: FileSystem, folder: str, view: View) -> WorkspaceStats:
    """Counts everything in a view."""
    roles: Counter[str] = Counter()
    parts = reverted = 0
    rows = view.summaries().values()
    for session in view.load_all():
        reverted += len(session.hidden)
        for state in map(session.message, session.order):
            body = state.body() if state is not None else {}
            roles[str(body.get("role"))] += 1
            parts += len(body.get("parts") or ())
    times = [row.updated_at for row in rows]
    return WorkspaceStats(
        sessions=len(rows),
        archived_sessions=sum(1 for row in rows if row.archived_at is not None),
        messages=roles.total(),
        reverted_messages=reverted,
        parts=parts,
        roles=dict(roles),
        oldest=min((row.created_at for row in rows), default=None),
        newest=max(times, default=None),
        bytes_snapshot=_size(fs, f"{folder}/sessions.json"),
        bytes_journal=_folder_size(fs, f"{folder}/journal"),
        bytes_attachments=_folder_size(fs, f"{folder}/attachments"),
    )


def status_of(fs: FileSystem, workspace_id: str, workspace: Workspace, view: View) -> WorkspaceStatus:
    """Describes the files under a view."""
    opened = workspace.opened
    assert opened is not None, "a view has been opened"
    return WorkspaceStatus(
        workspace_id=workspace_id,
        path=workspace.folder,
        seq=view.seq,
        snapshot_seq=view.floor,
        snapshot_bytes=_size(fs, f"{workspace.folder}/sessions.json"),
        journal_bytes=_folder_size(fs, view.journal.folder),
        segments=len(view.journal.first_seqs()),
        unfolded_records=view.seq - view.floor,
        unfolded_bytes=view.pending_bytes,
        foreign=opened.foreign is not None,
        unreadable=opened.unreadable,
        durability=workspace.options.durability,
    )


def _size(fs: FileSystem, path: str) -> int:
    stat = fs.stat(path)
    return stat.size if stat is not None else 0


def _folder_size(fs: FileSystem, folder: str) -> int:
    return sum(_size(fs, f"{folder}/{name}") for name in fs.listdir(folder))
