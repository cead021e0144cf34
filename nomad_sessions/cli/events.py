"""The commands on what happens: events, record, watch."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import counted, for_people, plain, table, when, write_json, write_line
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import AsJson, DataDir, Workspace, find_session, open_store
from nomad_sessions.cli.times import period
from nomad_sessions.clock import SystemClock
from nomad_sessions.errors import EventsPrunedError, InvalidInputError, SessionNotFoundError
from nomad_sessions.events import EventFilter, Subscription
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Event, dump
from nomad_sessions.search import Searcher
from nomad_sessions.storage.codec import decode, encode

__all__ = ["register", "told"]

_TIME = "A day or time (2026-11-20, 2026-11-20T14:30), or how long ago: 90m, 12h, 7d, 4w."
_PAGE = 20  # events of a list
_CUT = 120  # characters of an event in a list
_SESSIONS, _EVENTS = 10, 12  # lines that `watch` shows


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    app.command()(guarded(events))
    app.command()(guarded(record))
    app.command()(guarded(watch))


def events(
    query: Annotated[
        list[str] | None,
        typer.Argument(help='Words that it has, "phrases", begin*, either OR other.', metavar="[QUERY]..."),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", "-t", help="Only of this type, or like it: 'session.*'. Repeatable.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    recorded: Annotated[
        bool | None, typer.Option("--recorded/--changes", help="Only what was recorded, or the store's own changes.")
    ] = None,
    tool: Annotated[bool | None, typer.Option("--tool/--no-tool", help="Only about a tool, or about none.")] = None,
    task: Annotated[
        bool | None, typer.Option("--task/--no-task", help="Only of sessions with an agent's task, or of others.")
    ] = None,
    since: Annotated[str | None, typer.Option(help=f"Only from then on. {_TIME}")] = None,
    until: Annotated[str | None, typer.Option(help="Only before then.")] = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="Replay: all that follow the event with this seq, the oldest first.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with events as they come, until Ctrl-C.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="How many at most: of a list 20, of a replay all.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Of a list, leave out this many: for the next page.")] = 0,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what happened in a workspace: its changes, and what was recorded, the newest first.

    With --after it is a replay from there, all of it; with --follow, what comes from now on as well. Both give a line
    of JSON for each event where the output is not a terminal.
    """
    now = SystemClock().now()
    with open_store(data_dir, workspace) as (manager, ws):
        if session is not None:
            session = _session(manager, ws, session, waits=follow)
        times = period(since, until, now)
        wanted = EventFilter(types or (), session, None, recorded, tool, task, *times)
        if after is not None or follow:
            for field, value in (("query", " ".join(query or ())), ("offset", offset)):
                if value:
                    reason = "is for a list: it goes neither with --after nor with --follow"
                    raise InvalidInputError(field=field, value=value, reason=reason)
            people = for_people(as_json)
            for event in itertools.islice(_stream(manager, ws, wanted, after, follow=follow), limit):
                if people:
                    Console().print(_line(event), soft_wrap=True)
                else:
                    write_line(dump(event))
            return
        with Searcher(manager) as searcher, working("Reading what is new"):
            found = searcher.events(ws, wanted, query=" ".join(query or ()), limit=limit or _PAGE, offset=offset)
    if not for_people(as_json):
        items = [dump(event) for event in found.events]
        write_json({"items": items, "total": found.total, "nextOffset": found.next_offset, "stale": found.stale})
        return
    console = Console()
    for event in found.events:
        console.print(_line(event), soft_wrap=True)
    more = f"; --offset {found.next_offset} goes on" if found.next_offset is not None else ""
    console.print(Text(f"{len(found.events)} of {counted(found.total, 'event')}{more}", style="dim"))


def _session(manager: NativeSessionManager, workspace_id: str, name: str, *, waits: bool) -> str:
    """The id of the session that is meant; one that is not here may be another tool's, or deleted, of which something
    is told. Raises `SessionNotFoundError`; who `waits` for what will be told is only warned."""
    try:
        return find_session(manager, workspace_id, name).id
    except SessionNotFoundError as error:
        with Searcher(manager) as searcher, working("Reading what is new"):
            known = searcher.events(workspace_id, EventFilter((), name), limit=1).total
        if not known and not waits:
            raise
        if not known:
            print(f"nomad-sessions: {error.message}: waiting for what may be told of it", file=sys.stderr)
        return name


def _stream(
    manager: NativeSessionManager, workspace_id: str, wanted: EventFilter, after: int | None, *, follow: bool
) -> Iterator[Event]:
    given: dict[str, Any] = {
        "types": wanted.types,
        "session_id": wanted.session_id,
        "recorded": wanted.recorded,
        "has_tool": wanted.has_tool,
        "is_agent_task": wanted.is_agent_task,
    }
    if not follow:
        yield from manager.events(workspace_id, since=after, after=wanted.after, before=wanted.before, **given)
        return
    with manager.subscribe(workspace_id, since=after, **given) as subscription:
        for event in _each(subscription):
            if (wanted.after or 0) <= event.timestamp and (wanted.before is None or event.timestamp < wanted.before):
                yield event


def _each(subscription: Subscription) -> Iterator[Event]:
    """Every event; what is missing between two of them is said on stderr."""
    while not subscription.closed:
        try:
            yield from subscription
        except EventsPrunedError as error:
            print(f"nomad-sessions: {error.message}", file=sys.stderr)


def record(
    type: Annotated[str, typer.Argument(help="What happened: session.idle, tool.ran, anything.", metavar="TYPE")],
    properties: Annotated[str, typer.Argument(help="What is to be said of it: a JSON object.")] = "{}",
    session: Annotated[str | None, typer.Option(help="The session that it is about; of this store or another.")] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Record that something happened outside of the store; prints its seq. It outlives the journal's retention."""
    try:
        value = decode(properties.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise InvalidInputError(
            field="properties", value=properties, reason=f"must be a JSON object: {error}"
        ) from None
    with open_store(data_dir, workspace, create=True) as (manager, ws):
        seq = manager.record_event(ws, type, value, session_id=session)
    if as_json:
        write_json({"seq": seq, "workspaceId": ws, "type": type})
    else:
        print(seq)


def watch(workspace: Workspace = None, data_dir: DataDir = None) -> None:
    """Watch a workspace live in the terminal: its newest sessions, and what happens, until Ctrl-C.

    Where the output is not a terminal, a line of JSON for each event, as `events --follow`.
    """
    with open_store(data_dir, workspace) as (manager, ws):
        if not for_people(False):
            with manager.subscribe(ws) as subscription:
                for event in _each(subscription):
                    write_line(dump(event))
            return
        with Searcher(manager) as searcher:
            newest = list(searcher.events(ws, limit=_EVENTS).events)
        seen = newest[0].seq if newest else 0
        screen = Live(_screen(manager, ws, newest), screen=True, auto_refresh=False)
        with manager.subscribe(ws, since=seen) as subscription, screen as live:
            for event in _each(subscription):
                newest = [*subscription.at_hand()[::-1], event, *newest][:_EVENTS]
                live.update(_screen(manager, ws, newest), refresh=True)


def _screen(manager: NativeSessionManager, workspace_id: str, newest: list[Event]) -> Group:
    page = manager.list_sessions(workspace_id, limit=_SESSIONS, archived=False)
    rows = [(each.title or each.id, str(len(each.message_ids)), when(each.updated_at)) for each in page]
    happened = Table.grid()
    happened.add_column(no_wrap=True, overflow="ellipsis")
    for event in newest:
        happened.add_row(_line(event))
    title = Text(plain(f"{workspace_id}: {counted(page.total, 'session')}. Ctrl-C ends."), style="bold")
    return Group(title, Text(), table(("session", "messages", "updated"), rows, right=("messages",)), Text(), happened)


def _line(event: Event) -> Text:
    line = Text(plain(f"{event.seq:>7}  {when(event.timestamp)}  "), style="dim")
    line.append(plain(event.type), style="bold")
    if event.session_id is not None:
        line.append(plain(f"  {event.session_id}"), style="cyan")
    line.append(plain("  " + told(event)), style="default")
    return line


def told(event: Event) -> str:
    """What an event says, in a line."""
    properties = event.properties
    info = properties.get("info")
    if event.type == "message.part.delta":
        said = str(properties.get("delta", ""))
    elif isinstance(info, dict) and "role" in info:
        said = f"{info['role']}: {info.get('content') or ', '.join(_kinds(info))}"
    elif isinstance(info, dict):
        said = str(info.get("title") or info.get("id") or "")
    elif isinstance(properties.get("set"), dict):
        changed = itertools.chain(properties["set"], properties.get("unset", ()))
        said = "changed " + ", ".join(sorted(set(changed)))
    else:
        said = encode(properties).decode("utf-8", "replace") if properties else ""
    said = " ".join(said.split())
    return said if len(said) <= _CUT else said[: _CUT - 1] + "…"


def _kinds(info: dict[str, Any]) -> list[str]:
    parts = info.get("parts")
    return [str(part.get("type")) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
