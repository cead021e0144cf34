"""The command that finds: search."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from nomad_sessions.cli.completion import sessions_to_complete
from nomad_sessions.cli.exits import Exit, guarded, name_unreadable
from nomad_sessions.cli.output import counted, for_people, plain, when, write_json
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import AnyWorkspace, AsJson, DataDir, find_anywhere, find_newest, here, open_manager
from nomad_sessions.cli.times import period
from nomad_sessions.clock import SystemClock
from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, WorkspaceNotFoundError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import ROLES
from nomad_sessions.search import Filters, Hit, RankedResults, Results, Searcher, SemanticSearcher
from nomad_sessions.search.semantic import Mode
from nomad_sessions.sync.settings import read_settings

if TYPE_CHECKING:
    from nomad_sessions.sync.chroma import ChromaTarget

__all__ = ["register"]

_TIME = "A day or time (2026-11-20, 2026-11-20T14:30), or how long ago: 90m, 12h, 7d, 4w."


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    app.command()(guarded(search))


def search(
    query: Annotated[
        list[str] | None,
        typer.Argument(help='Words, "phrases", begin*, either OR other; after --, -without.', metavar="[QUERY]..."),
    ] = None,
    substring: Annotated[
        bool, typer.Option("--substring", "-s", help="Any part of a text, such as half a name in code; newest first.")
    ] = False,
    semantic: Annotated[
        bool, typer.Option("--semantic", help="What is near in meaning, by the vectors in Chroma; else by words.")
    ] = False,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="By words and by meaning, both orders as one.")] = False,
    session: Annotated[
        str | None,
        typer.Option(
            help="Only this session; @last is the newest of the current folder, or of all.",
            autocompletion=sessions_to_complete,
        ),
    ] = None,
    role: Annotated[str | None, typer.Option(help="Only messages of this role.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only messages of this agent.")] = None,
    model: Annotated[str | None, typer.Option(help="Only messages of this model: provider/model, or model.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only messages that call this tool.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Only from then on. {_TIME}")] = None,
    until: Annotated[str | None, typer.Option(help="Only before then.")] = None,
    archived: Annotated[
        bool | None, typer.Option("--archived/--no-archived", help="Only archived sessions, or none of them.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many: for the next page.")] = 0,
    workspace: AnyWorkspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Find messages and sessions by what they say, in all workspaces.

    The first search of a workspace makes its index; later ones cost what has changed since. Without a query, what the
    filters leave, newest first. --semantic and --hybrid find by meaning what was pushed to Chroma.
    """
    with open_manager(data_dir) as manager, Searcher(manager) as searcher:
        if workspace is not None and workspace not in manager.list_workspaces():
            validate_workspace_id(workspace)
            raise WorkspaceNotFoundError(workspace_id=workspace)
        if session is not None:
            workspace, session = _session(manager, workspace, session)
        now = SystemClock().now()
        times = period(since, until, now)
        filters = Filters(session, role, agent, model, tool, *times, archived)
        text = " ".join(query or ())
        if not text.strip() and filters == Filters():
            reason = "say what to find, or what of it: --role, --tool, --since and others"
            raise InvalidInputError(field="query", value=text, reason=reason)
        mode = _mode(semantic, hybrid, substring)
        found: Results | RankedResults
        if mode is not None:
            with working("Searching"), contextlib.closing(_vectors(manager)) as vectors:
                near = SemanticSearcher(searcher, vectors)
                found = near.find(text, mode=mode, workspace_id=workspace, filters=filters, limit=limit, offset=offset)
        else:
            with working("Reading what is new") as done:
                found = searcher.find(
                    text,
                    workspace_id=workspace,
                    substring=substring,
                    limit=limit,
                    offset=offset,
                    progress=done,
                    **filters._asdict(),
                )
    if not (found.hits or offset):
        _refuse_unknown(role)
    if not for_people(as_json):
        write_json(found.as_dict())
    elif isinstance(found, Results):
        _print(Console(), found, offset, several=workspace is None)
    else:
        _print_ranked(Console(), found, several=workspace is None)
    if name_unreadable(found.unreadable):
        raise typer.Exit(Exit.STORAGE)


def _session(manager: NativeSessionManager, workspace: str | None, name: str) -> tuple[str, str]:
    """The workspace and the id of the session that is meant."""
    near = workspace or manager.workspace_for(here(), create=False)
    newest = None if workspace is not None else find_newest(manager, near, name)
    found, session = newest or find_anywhere(manager, near, name, named=workspace is not None)
    return found, session.id


def _refuse_unknown(role: str | None) -> None:
    """Raises where nothing was found of a role that we do not know; another program may have written one."""
    if role is not None and role not in ROLES:
        reason = f"no message has it: it is one of {', '.join(sorted(ROLES))}"
        raise InvalidInputError(field="role", value=role, reason=reason)


def _mode(semantic: bool, hybrid: bool, substring: bool) -> Mode | None:
    if semantic + hybrid + substring > 1:
        reason = "choose one of --substring, --semantic and --hybrid"
        raise InvalidInputError(field="options", value=None, reason=reason)
    return "semantic" if semantic else "hybrid" if hybrid else None


def _vectors(manager: NativeSessionManager) -> ChromaTarget:
    from nomad_sessions.sync.chroma_settings import chroma_target  # Only here is it needed, and it costs 30 ms.

    return chroma_target(read_settings().environment(), manager.data_dir)


def _print(console: Console, found: Results, offset: int, *, several: bool) -> None:
    for hit in found.hits:
        console.print(_head(hit, several))
        console.print(Padding(_snippet(hit), (0, 0, 1, 2), expand=False))
    if not found.hits:
        console.print("nothing found" if not found.total else f"no more: {found.total} in all")
    elif found.next_offset is not None:
        shown = f"{offset + 1} to {offset + len(found.hits)} of {found.total}"
        console.print(Text(f"{shown}, --offset {found.next_offset} for more", style="dim"))
    for workspace in found.stale:
        text = f"{workspace}: another process is bringing its index up to date, so the newest may be missing"
        console.print(Text(plain(text), style="yellow"))


def _print_ranked(console: Console, found: RankedResults, *, several: bool) -> None:
    console.print(Text(plain(": ".join(filter(None, [found.mode, found.note]))), style="dim"))
    for hit, score in zip(found.hits, found.scores, strict=True):
        console.print(_head(hit, several), Text(f"{score:.3f}" if score else "", style="dim"))
        console.print(Padding(_snippet(hit), (0, 0, 1, 2), expand=False))
    if not found.hits:
        console.print("nothing found")
    elif found.next_offset is not None:
        console.print(Text(f"--offset {found.next_offset} for more", style="dim"))


def _head(hit: Hit, several: bool) -> Text:
    details = [hit.role or "session", when(hit.created_at or 0), hit.session_id]
    if several:
        details.append(hit.workspace_id)
    if hit.copies:
        details.append(f"and in {counted(hit.copies, 'fork')}")
    return Text.assemble((plain(hit.title), "bold"), (plain("  " + "  ".join(details)), "dim"))


def _snippet(hit: Hit) -> Text:
    """The snippet with its marks; a control character becomes one picture of itself, so that no place moves."""
    text = Text(plain(hit.snippet))
    for start, end in hit.marks:
        text.stylize("bold yellow", start, end)
    return text
