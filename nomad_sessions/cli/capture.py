"""The commands that follow another program into the store: capture."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import counted, for_people, plain, write_line
from nomad_sessions.cli.store import AsJson, DataDir
from nomad_sessions.config import validate_workspace_id
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.sources import Capture, Mirrored, OpenCodeClient

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_group)
    group.command()(guarded(opencode))
    app.add_typer(group, name="capture")


def _group() -> None:
    """Follow a running program into the store."""


def opencode(
    url: Annotated[
        str | None,
        typer.Argument(help="Where it serves. Default: OPENCODE_SERVER_URL, or http://127.0.0.1:4096."),
    ] = None,
    directory: Annotated[
        str | None, typer.Option(help="The project folder, as the server knows it. Default: the one it was started in.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Take what is there now, and end.")] = False,
    keep_deleted: Annotated[bool, typer.Option("--keep-deleted", help="Keep sessions that are deleted there.")] = False,
    workspace: Annotated[
        str | None,
        typer.Option("--workspace", "-w", help="The workspace. Default: that of the server's folder.", metavar="ID"),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Follow a running OpenCode server: its sessions, messages and events, as they come, until Ctrl-C.

    First everything that it has is taken in, then what happens; the same again after it was away. A password is that
    of OPENCODE_SERVER_PASSWORD, a token that of OPENCODE_AUTH_TOKEN.
    """
    if workspace is not None:
        validate_workspace_id(workspace)
    people = for_people(as_json)

    def tell(found: Mirrored) -> None:
        if not people:
            write_line({"workspaceId": capture.workspace_id, **_camel(found)})
            return
        print(f"{plain(client.url)} -> {plain(capture.workspace_id)}: {_said(found)}")
        sys.stdout.flush()

    with (
        NativeSessionManager(data_dir) as manager,
        OpenCodeClient(url, directory=directory) as client,
        Capture(manager, client, workspace_id=workspace, keep_deleted=keep_deleted, on_connect=tell) as capture,
    ):
        if once:
            tell(capture.once())
        else:
            capture.run()


def _said(found: Mirrored) -> str:
    parts = [f"{counted(found.sessions, 'session')}, {found.new} new, {found.changed_messages} messages changed"]
    if found.deleted:
        parts.append(f"{found.deleted} deleted")
    if found.kept:
        parts.append(f"{found.kept} that it lacks were kept")
    return ", ".join(parts)


def _camel(found: Mirrored) -> dict[str, int]:
    names = ("sessions", "new", "changedMessages", "deleted", "kept")
    return dict(zip(names, found, strict=True))
