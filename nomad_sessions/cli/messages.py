"""Commands on messages: add and show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import conversation, for_people, page_as_json, show_message, write_json, write_line
from nomad_sessions.cli.sessions import check_own_id, given, parse_model, read_text, report_written
from nomad_sessions.cli.store import (
    AsJson,
    AsRecord,
    DataDir,
    SessionId,
    Workspace,
    find_anywhere,
    find_session,
    open_store,
)
from nomad_sessions.errors import AlreadyExistsError, InvalidInputError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Message, Session, dump

__all__ = ["register"]

_UNFINISHED = ("streaming", "pending")


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
    as_json: AsRecord = False,
) -> None:
    """Add a message; once it is on the disk, print its id."""
    check_own_id(message_id)
    fields = given(id=message_id, role=role, agent=agent, model=parse_model(model))
    with open_store(data_dir, workspace) as (manager, ws):
        found = find_session(manager, ws, session)
        content = read_text(text)
        if not content.strip():
            raise InvalidInputError(
                field="text", value=content, reason="there is none: the command before gave nothing?"
            )
        message = manager.add_message(ws, found.id, {**fields, "content": content})
        # Where one of that id was there, it came back as it is.
        if message_id and (message.content, message.role) != (content, role):
            raise AlreadyExistsError(kind="message", id=message.id, current=message)
        report_written(message, message.id, as_json)


def show(
    session: SessionId = "@last",
    last: Annotated[int, typer.Option("--last", "--tail", "-n", min=1, help="The newest messages, this many.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(help="Go on where an earlier page ended; from the first message.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All messages.")] = False,
    reverted: Annotated[bool, typer.Option("--reverted", help="What a revert hides, too.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The messages as they are stored, a line of JSON each.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with messages as they are added, until Ctrl-C.")
    ] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a session and its messages.

    A session that is not in the current folder's workspace is looked for in the others.
    """
    extent: dict[str, Any] = {"last": last} if cursor is None else {"limit": last, "cursor": cursor}
    with open_store(data_dir, workspace) as (manager, here):
        ws, found = find_anywhere(manager, here, session, named=workspace is not None)
        page = manager.get_session_messages(ws, found.id, include_reverted=reverted, **({} if everything else extent))
        lines = raw or (follow and not for_people(as_json))
        if lines:
            for message in page:
                write_line(dump(message))
        elif for_people(as_json):
            conversation(Console(), found, page)
        else:
            write_json({"session": dump(found), "messages": page_as_json(page)})
        if follow:
            for message in _following(manager, ws, found):
                if lines:
                    write_line(dump(message))
                else:
                    show_message(Console(), message)


def _following(manager: NativeSessionManager, workspace_id: str, session: Session) -> Iterator[Message]:
    """The messages that are added from now on, each once it is whole; ends when the session is gone."""
    seen = set(session.message_ids)
    with manager.subscribe(workspace_id, session_id=session.id) as subscription:
        while (current := manager.get_session(workspace_id, session.id)) is not None:
            for message_id in current.message_ids:
                message = manager.get_message(workspace_id, message_id) if message_id not in seen else None
                if message is not None and message.status not in _UNFINISHED:
                    seen.add(message_id)
                    yield message
            subscription.next()
            subscription.at_hand()  # What they say is in the session.
