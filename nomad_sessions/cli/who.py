"""The command on who is connected: who."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import for_people, table, when, write_json
from nomad_sessions.cli.store import AsJson, DataDir, Workspace, find_session, open_store
from nomad_sessions.connections import ConnectionInfo

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds this group's command."""
    app.command()(guarded(who))


def who(
    session: Annotated[
        str | None, typer.Argument(help="Only this session: its id, or a piece of it, or @last.", metavar="[SESSION]")
    ] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show which clients are connected to which sessions, in all processes."""
    with open_store(data_dir, workspace) as (manager, ws):
        wanted = find_session(manager, ws, session).id if session is not None else None
        found = manager.connections(ws, wanted)
        titles = {}
        for each in found:
            record = manager.get_session(ws, each.session_id)
            titles[each.session_id] = record.title if record is not None else "-"
    if not for_people(as_json):
        write_json([_as_json(each) for each in found])
        return
    if not found:
        Console().print(Text("nobody is connected", style="dim"))
        return
    columns = ("session", "title", "client", "mode", "pid", "machine", "since", "")
    cells = ((each.session_id, titles[each.session_id], *_cells(each)) for each in found)
    Console().print(table(columns, cells, right=("pid",)))


def _cells(info: ConnectionInfo) -> tuple[str, ...]:
    late = "late" if info.expired else ""
    return info.client, _mode(info), str(info.pid), info.machine, when(info.since), late


def _mode(info: ConnectionInfo) -> str:
    return "exclusive" if info.exclusive else "shared"


def _as_json(info: ConnectionInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "workspaceId": info.workspace_id,
        "sessionId": info.session_id,
        "client": info.client,
        "mode": _mode(info),
        "pid": info.pid,
        "machine": info.machine,
        "since": info.since,
        "expiresAfter": info.expires_after,
        "heartbeatAge": round(info.heartbeat_age, 3),
        "expired": info.expired,
    }
