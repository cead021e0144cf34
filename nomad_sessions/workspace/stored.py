"""A session, and the workspace's own fields, as a snapshot has them."""

from __future__ import annotations

from nomad_sessions.storage.snapshot import GroupRow, Snapshot
from nomad_sessions.storage.table import Region
from nomad_sessions.workspace.run import SnapshotRun
from nomad_sessions.workspace.state import WORKSPACE, Body, SessionState

__all__ = ["stored_session", "stored_workspace"]


def stored_session(base: Snapshot, row: GroupRow) -> SessionState:
    """The session of a row; its messages are read when they are asked for."""
    fields: Body = base.value(row.record)
    order: list[str] = fields.pop("messageIds")
    rev = fields.pop("rev")
    created, hidden, detached = row.info[2], row.info[-2] or [], row.info[-1] or []
    state = SessionState(row.id, fields, created, rev, SnapshotRun(base, row, [*order, *hidden, *detached]))
    state.order, state.hidden, state.detached = order, list(hidden), list(detached)
    return state


def stored_workspace(base: Snapshot, row: GroupRow | None) -> SessionState:
    """Further top-level keys, settings, and the messages that belong to no session (those of `row`)."""
    fields = {key: base.value(Region(*place)) for key, place in base.head["extras"].items()}
    detached: list[str] = (row.info[-1] or []) if row is not None else []
    run = SnapshotRun(base, row, list(detached)) if row is not None else None
    state = SessionState(WORKSPACE, fields, 0, base.head["workspaceRev"], run)
    state.detached = list(detached)
    state.settings = base.head["settings"]
    return state
