"""Commands on messages: add and show."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import conversation, for_people, page_as_json, write_json
from nomad_sessions.cli.sessions import given, parse_model, read_text, report_written
from nomad_sessions.cli.store import AsJson, DataDir, SessionId, Workspace, find_session, open_store
from nomad_sessions.models import dump

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    for command in (add, show):
        app.command()(guarded(command))


def add(
    session: SessionId,
    text: Annotated[str | None, typer.Argument(help="The text. Default, and with '-': read from stdin.")] = None,
    role: Annotated[str, typer.Option("--role", "-r", help="user, assistant, system or tool.")] = "user",
    message_id: Annotated[str | None, typer.Option("--id", help="An id of your own: repeating is harmless.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent's name.")] = None,
    model: Annotated[str | None, typer.Option(help="As provider/model.")] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add a message; once it is on the disk, print its id."""
    fields = given(id=message_id, role=role, agent=agent, model=parse_model(model))
    with open_store(data_dir, workspace) as (manager, ws):
        found = find_session(manager, ws, session)
        message = manager.add_message(ws, found.id, {**fields, "content": read_text(text)})
        report_written(message, message.id, as_json)


def show(
    session: SessionId = "last",
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="The newest messages, this many.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(help="Go on where an earlier page ended; from the first message.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All messages.")] = False,
    reverted: Annotated[bool, typer.Option("--reverted", help="What a revert hides, too.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a session and its messages."""
    extent: dict[str, Any] = {"last": last} if cursor is None else {"limit": last, "cursor": cursor}
    with open_store(data_dir, workspace) as (manager, ws):
        found = find_session(manager, ws, session)
        page = manager.get_session_messages(ws, found.id, include_reverted=reverted, **({} if everything else extent))
        if for_people(as_json):
            conversation(Console(), found, page)
        else:
            write_json({"session": dump(found), "messages": page_as_json(page)})
