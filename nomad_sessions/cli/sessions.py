"""Commands on sessions: new, ls, edit, fork, revert, unrevert, rm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nomad_sessions.cli.exits import Exit, guarded
from nomad_sessions.cli.output import counted, for_people, page_as_json, sessions_table, show_page, write_json
from nomad_sessions.cli.store import AsJson, AsRecord, DataDir, SessionId, Workspace, find_session, here, open_store
from nomad_sessions.errors import AlreadyExistsError, InvalidInputError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Model, Session, dump

__all__ = ["register"]

IfRev = Annotated[int | None, typer.Option("--if-rev", help="Only if the record still has this rev; else exit code 4.")]


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    for command in (new, ls, edit, fork, revert, unrevert, rm):
        app.command()(guarded(command))


def report_written(record: Model, record_id: str, as_json: bool) -> None:
    """What a writing command prints: the id, which is what a script wants, or with --json the record."""
    if as_json:
        write_json(dump(record))
    else:
        print(record_id)


def check_own_id(identifier: str | None) -> None:
    """Refuses an id that could not be named on a command line, or would mean something else there."""
    if identifier is not None and (identifier.startswith("@") or any(ord(each) < 32 for each in identifier)):
        raise InvalidInputError(
            field="id", value=identifier, reason="must not begin with @ nor hold control characters"
        )


def parse_model(text: str | None) -> dict[str, str] | None:
    """`provider/model` as the store keeps it. The model's own name may have slashes."""
    if text is None:
        return None
    provider, slash, model = text.partition("/")
    if not (provider and slash and model):
        raise InvalidInputError(field="model", value=text, reason="write it as provider/model")
    return {"providerId": provider, "modelId": model}


def given(**fields: Any) -> dict[str, Any]:
    """The options that were used."""
    return {name: value for name, value in fields.items() if value is not None}


def new(
    title: Annotated[str | None, typer.Argument(help="Its title.")] = None,
    session_id: Annotated[str | None, typer.Option("--id", help="An id of your own: repeating is harmless.")] = None,
    parent: Annotated[str | None, typer.Option(help="The session that this one is a child of.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent's name.")] = None,
    model: Annotated[str | None, typer.Option(help="As provider/model.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Make a session and print its id."""
    check_own_id(session_id)
    fields = given(id=session_id, title=title, parentId=parent, agent=agent, description=description)
    with open_store(data_dir, workspace, create=True) as (manager, ws):
        if parent is not None:
            fields["parentId"] = find_session(manager, ws, parent).id
        fields |= given(model=parse_model(model), directory=None if workspace else str(here()))
        session = manager.create_session(ws, fields)
        # Where one of that id was there, it came back as it is.
        if session_id and title is not None and session.title != title:
            raise AlreadyExistsError(kind="session", id=session.id, current=session)
        report_written(session, session.id, as_json)


def ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on where an earlier list ended.")] = None,
    archived: Annotated[bool, typer.Option("--archived", help="The archived ones instead.")] = False,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Archived ones too, and without a limit.")] = False,
    parent: Annotated[str | None, typer.Option(help="Only the children of this session.")] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List sessions, the newest change first."""
    with open_store(data_dir, workspace) as (manager, ws):
        filters: dict[str, Any] = {} if parent is None else {"parent_id": find_session(manager, ws, parent).id}
        shown = None if everything else archived
        page = manager.list_sessions(ws, limit=None if everything else limit, cursor=cursor, archived=shown, **filters)
        others = (
            None if page.total or shown is None else manager.list_sessions(ws, limit=1, archived=not shown, **filters)
        )
        away = others.total if others is not None else 0
        moved = not (page.total or away) and any(
            not Path(each).exists() for each in manager.workspace_folders().values()
        )
    if not for_people(as_json):
        write_json(page_as_json(page))
        return
    console = Console()
    if page.total:
        console.print(sessions_table(page, console.width))
        show_page(console, page, "sessions")
    elif away:
        what = "is not archived: `ls`" if archived else "is archived: `ls --archived`"
        console.print(f"What is here, {counted(away, 'session')}, {what} lists it.")
    else:
        console.print("No sessions here yet. `nomad-sessions new` makes one, `nomad-sessions import` brings some.")
        if moved:
            console.print("A project that was moved? `nomad-sessions workspaces` and `relink` bring its sessions here.")


def edit(
    target: Annotated[str, typer.Argument(help="A session or a message.", metavar="SESSION|MESSAGE")],
    title: Annotated[str | None, typer.Option(help="Session: its title.")] = None,
    description: Annotated[str | None, typer.Option(help="Session: its description.")] = None,
    text: Annotated[str | None, typer.Option(help="Message: its text; '-' reads it from stdin.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent's name.")] = None,
    model: Annotated[str | None, typer.Option(help="As provider/model.")] = None,
    archive: Annotated[bool | None, typer.Option("--archive/--unarchive", help="Session: archive it or not.")] = None,
    if_rev: IfRev = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Change fields of a session or a message."""
    shared = given(agent=agent, model=parse_model(model))
    of_session = given(title=title, description=description)
    if not (shared or of_session or text is not None or archive is not None):
        raise InvalidInputError(field="edit", value=target, reason="say what to change, see --help")
    with open_store(data_dir, workspace) as (manager, ws):
        message = manager.get_message(ws, target)
        if message is not None:
            if of_session or archive is not None:
                raise InvalidInputError(field="edit", value=target, reason="a message has --text, --agent and --model")
            changes = shared if text is None else {**shared, **text_changes(message.parts, read_text(text))}
            written = manager.update_message(ws, message.id, changes, if_rev=if_rev)
            report_written(written, written.id, as_json)
            return
        if text is not None:
            raise InvalidInputError(field="text", value=target, reason="is a message's; no message has this id")
        session = find_session(manager, ws, target)
        session = _edit_session(manager, ws, session, {**shared, **of_session}, archive, if_rev)
        report_written(session, session.id, as_json)


def _edit_session(
    manager: NativeSessionManager,
    workspace_id: str,
    session: Session,
    changes: dict[str, Any],
    archive: bool | None,
    if_rev: int | None,
) -> Session:
    """All the changes, or none of them."""
    with manager.transaction(workspace_id) as tx:
        if changes or if_rev is not None:
            session = tx.update_session(workspace_id, session.id, changes, if_rev=if_rev)
        if archive is not None:
            mark = tx.archive_session if archive else tx.unarchive_session
            session = mark(workspace_id, session.id)
    return session


def text_changes(parts: list[Any], text: str) -> dict[str, Any]:
    """Changes that give a message this text: where it has parts they are canonical, so its one text part changes."""
    if not parts:
        return {"content": text}
    dumped = [dump(part) for part in parts]
    texts = [part for part in dumped if part.get("type") == "text"]
    if len(texts) != 1:
        raise InvalidInputError(field="text", value=len(texts), reason="can be set where a message has one text part")
    texts[0]["content"] = text
    return {"parts": dumped}


def read_text(text: str | None) -> str:
    """The text given, or all of stdin for '-' and for none. Stored exactly: a final newline stays."""
    if text is not None and text != "-":
        return text
    if text is None and sys.stdin.isatty():
        raise InvalidInputError(field="text", value=None, reason="give it as an argument or on stdin")
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(field="text", value=data[:40], reason=f"stdin is not UTF-8 text: {error}") from error


def fork(
    session: SessionId,
    at: Annotated[str | None, typer.Option(help="The last message to copy. Default: all.", metavar="MESSAGE")] = None,
    title: Annotated[str | None, typer.Option(help="Its title. Default: the old one and '(fork)'.")] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Copy a session, or its beginning, and print the copy's id."""
    with open_store(data_dir, workspace) as (manager, ws):
        found = find_session(manager, ws, session)
        copied = manager.fork_session(ws, found.id, message_id=at, title=title)
        report_written(copied, copied.id, as_json)


def revert(
    session: SessionId,
    message: Annotated[str | None, typer.Argument(help="The last message to keep. Default: hide the last one.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the session.")] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Hide what follows a message.

    `unrevert` brings it back, until the next `add` makes it final.
    """
    with open_store(data_dir, workspace) as (manager, ws):
        written = manager.revert(ws, find_session(manager, ws, session).id, message, reason=reason)
        report_written(written, written.id, as_json)


def unrevert(
    session: SessionId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False
) -> None:
    """Show again what a revert hid."""
    with open_store(data_dir, workspace) as (manager, ws):
        written = manager.unrevert(ws, find_session(manager, ws, session).id)
        report_written(written, written.id, as_json)


def rm(
    targets: Annotated[list[str], typer.Argument(help="Sessions or messages.", metavar="SESSION|MESSAGE...")],
    children: Annotated[bool, typer.Option("--children", help="The session's children too.")] = False,
    forks: Annotated[bool, typer.Option("--forks", help="The session's forks too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask. (Only at a terminal is asked.)")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Delete sessions or messages, and print the deleted ids.

    A session's messages go with it; its children and forks stay unless asked for. What was imported comes back with
    the next import of its source, as long as that is there: archive it instead.
    """
    deleted: list[str] = []
    with open_store(data_dir, workspace) as (manager, ws):
        found = [manager.get_message(ws, target) or find_session(manager, ws, target) for target in targets]
        for record in found:
            name = f"the session {record.title!r}" if isinstance(record, Session) else f"the message {record.id}"
            if not yes and sys.stdin.isatty() and not typer.confirm(f"Delete {name}?", err=True):
                raise typer.Exit(Exit.INTERRUPTED)
        with manager.transaction(ws) as tx:  # all of them or, should one fail, none
            for record in found:
                if isinstance(record, Session):
                    deleted += tx.delete_session(ws, record.id, children=children, forks=forks)
                else:
                    tx.delete_message(ws, record.id)
                    deleted.append(record.id)
    if as_json:
        write_json({"deleted": deleted})
    else:
        print("\n".join(deleted))
