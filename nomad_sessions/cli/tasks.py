"""Commands on tasks: `tasks list`, `show`, `add`, `start`, `progress`, `done`, `fail`, …; and `info`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import for_people, page_as_json, pairs, show_page, table, when, write_json, write_line
from nomad_sessions.cli.sessions import check_own_id, given, report_written
from nomad_sessions.cli.store import (
    AsJson,
    AsRecord,
    DataDir,
    SessionId,
    Workspace,
    find_session,
    find_task,
    open_store,
)
from nomad_sessions.cli.times import span
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Page, Task, dump
from nomad_sessions.session_info import SessionInfo
from nomad_sessions.storage.codec import encode

__all__ = ["register"]

TaskId = Annotated[
    str,
    typer.Argument(
        help="A task's id; of one made here, its beginning or end (4 characters or more) too.", metavar="TASK"
    ),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]
Cursor = Annotated[str | None, typer.Option(help="Go on where an earlier list ended.")]
Idle = Annotated[str, typer.Option("--idle", help="How long without activity is too long: 30s, 90m, 12h, 7d.")]
_IDLE = "30m"


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    group = typer.Typer(name="tasks", help="Tasks of agents, and how far they are.", no_args_is_help=True)
    group.command("list")(guarded(ls))
    commands: tuple[Callable[..., None], ...] = (
        *(show, add, start, progress, done, fail, touch, rm),
        *(orphans, overdue, monitor),
    )
    for command in commands:
        group.command()(guarded(command))
    app.add_typer(group)
    app.command()(guarded(info))


def ls(
    session: Annotated[str | None, typer.Argument(help="Only those of this session.", metavar="SESSION")] = None,
    status: Annotated[str | None, typer.Option(help="pending, running, completed or failed.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    task_type: Annotated[str | None, typer.Option("--type", help="Only of this type.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List tasks, the newest change first."""
    with open_store(data_dir, workspace) as (manager, ws):
        of = find_session(manager, ws, session).id if session is not None else None
        page = manager.list_tasks(
            ws, limit=limit, cursor=cursor, session_id=of, status=status, agent_id=agent, task_type=task_type
        )
    _show_tasks(page, as_json, "No tasks here. `nomad-sessions tasks add SESSION` makes one.")


def orphans(
    limit: Limit = 50,
    cursor: Cursor = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the tasks whose session is not there any more."""
    with open_store(data_dir, workspace) as (manager, ws):
        page = manager.list_tasks(ws, limit=limit, cursor=cursor, orphaned=True)
    _show_tasks(page, as_json, "Every task here has its session.")


def show(task: TaskId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show one task with all its fields."""
    with open_store(data_dir, workspace) as (manager, ws):
        record = dump(find_task(manager, ws, task))
    if not for_people(as_json):
        write_json(record)
        return
    times = ("createdAt", "updatedAt", "startTime", "lastActivity")
    lines = ((key, when(value) if key in times else _spelt(value)) for key, value in record.items())
    Console().print(pairs(lines))


def add(
    session: SessionId,
    task_type: Annotated[str | None, typer.Option("--type", help="What kind of work it is.")] = None,
    agent: Annotated[str | None, typer.Option(help="The agent's name.")] = None,
    input_data: Annotated[str | None, typer.Option("--input", help="What it is given, as JSON.")] = None,
    task_id: Annotated[str | None, typer.Option("--id", help="An id of your own: repeating is harmless.")] = None,
    running: Annotated[bool, typer.Option("--start", help="It runs already.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Make a task of a session and print its id."""
    check_own_id(task_id)
    fields = given(id=task_id, taskType=task_type, agentId=agent, status="running" if running else None)
    if input_data is not None:
        fields["inputData"] = _parsed("input", input_data)
    with open_store(data_dir, workspace) as (manager, ws):
        made = manager.create_task(ws, find_session(manager, ws, session).id, fields)
        report_written(made, made.id, as_json)


def start(task: TaskId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False) -> None:
    """Begin a pending task. Of several who do, one gets it."""
    _step(lambda manager, ws, found: manager.start_task(ws, found), task, workspace, data_dir, as_json)


def progress(
    task: TaskId,
    percent: Annotated[float, typer.Argument(help="0 to 100.", metavar="PERCENT")],
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Say how far a running task is."""
    whole = int(percent) if percent.is_integer() else percent
    _step(lambda manager, ws, found: manager.progress_task(ws, found, whole), task, workspace, data_dir, as_json)


def touch(task: TaskId, workspace: Workspace = None, data_dir: DataDir = None, as_json: AsRecord = False) -> None:
    """Say that a running task is worked on."""
    _step(lambda manager, ws, found: manager.touch_task(ws, found), task, workspace, data_dir, as_json)


def done(
    task: TaskId,
    output: Annotated[str | None, typer.Option("--output", help="What came out, as JSON.")] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Complete a running task."""
    result = None if output is None else _parsed("output", output)
    _step(lambda manager, ws, found: manager.complete_task(ws, found, result), task, workspace, data_dir, as_json)


def fail(
    task: TaskId,
    reason: Annotated[str, typer.Argument(help="Why.", metavar="REASON")],
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsRecord = False,
) -> None:
    """Say that a task came to nothing, and why."""
    _step(lambda manager, ws, found: manager.fail_task(ws, found, reason), task, workspace, data_dir, as_json)


def rm(task: TaskId, workspace: Workspace = None, data_dir: DataDir = None) -> None:
    """Delete a task."""
    with open_store(data_dir, workspace) as (manager, ws):
        found = find_task(manager, ws, task).id
        manager.delete_task(ws, found)
        print(found)


def overdue(
    idle: Idle = _IDLE,
    give_up: Annotated[bool, typer.Option("--fail", help="Make them failed, now.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the running tasks that show no activity, by the clock; with --fail, give them up."""
    idle_ms = span("idle", idle)
    with open_store(data_dir, workspace) as (manager, ws):
        look = manager.fail_overdue_tasks if give_up else manager.overdue_tasks
        page = Page(look(ws, idle_ms=idle_ms))
    _show_tasks(page, as_json, f"No running task has been without activity for {idle}.")


def monitor(
    idle: Idle = _IDLE,
    every: Annotated[str, typer.Option(help="How often to look.")] = "30s",
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give up running tasks that are seen without activity for too long, until Ctrl-C; print each, a line of JSON.

    It counts what it has seen itself, so that setting the clock fails nothing; so it has to run for that long first.
    """
    times = {"idle_ms": span("idle", idle), "every_ms": span("every", every)}
    people = for_people(as_json)
    with open_store(data_dir, workspace) as (manager, ws):
        if not people:
            write_line({"monitoring": ws, **times})
        with (
            manager.subscribe(ws, types="task.updated") as changes,
            manager.monitor_tasks(ws, **times),
        ):
            for event in changes:
                changed = event.properties.get("set", {})
                # What its own agent fails shows activity by that.
                if changed.get("status") != "failed" or "lastActivity" in changed:
                    continue
                task = manager.get_task(ws, event.properties["id"])
                if task is not None and people:
                    Console().print(f"{task.id}  {task.error_message}", markup=False, highlight=False)
                elif task is not None:
                    write_line(dump(task))


def info(
    session: Annotated[str | None, typer.Argument(help="Only this one.", metavar="SESSION")] = None,
    limit: Limit = 50,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out before.")] = 0,
    status: Annotated[str | None, typer.Option(help="active, waiting_for_input or idle.")] = None,
    agent_tasks: Annotated[bool, typer.Option("--agent-tasks", help="Only sessions that have tasks.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what sessions are doing: which are active, which wait, which are idle, and their tasks."""
    with open_store(data_dir, workspace) as (manager, ws):
        if session is not None:
            one = manager.session_info(ws, find_session(manager, ws, session).id)
            assert one is not None, "it was just found"
            shown, rest = dump(one), [one]
        else:
            found = manager.list_session_info(
                ws, limit=limit, offset=offset, activity_status=status, is_agent_task=agent_tasks or None
            )
            shown, rest = dump(found), found.sessions
    if not for_people(as_json):
        write_json(shown)
        return
    console = Console()
    console.print(_info_table(rest))
    if session is None:
        counts = ", ".join(f"{count} {name}" for name, count in shown["summary"].items())
        console.print(f"{len(rest)} of {shown['totalCount']}; in all {counts}", style="dim")


def _info_table(rows: Iterable[SessionInfo]) -> Table:
    cells = (
        (
            each.id,
            each.title,
            str(each.message_count),
            each.activity_status,
            each.agent_task_status or "-",
            when(each.last_activity_time),
        )
        for each in rows
    )
    return table(("id", "title", "messages", "status", "task", "updated"), cells, right=("messages",))


def _show_tasks(page: Page[Task], as_json: bool, none: str) -> None:
    if not for_people(as_json):
        write_json(page_as_json(page))
        return
    console = Console()
    if not page.total:
        console.print(none)
        return
    cells = (
        (each.id, each.status, f"{each.progress:g} %", each.agent_id or "-", each.session_id, when(each.updated_at))
        for each in page
    )
    console.print(table(("id", "status", "progress", "agent", "session", "updated"), cells, right=("progress",)))
    show_page(console, page, "tasks")


def _step(
    step: Callable[[NativeSessionManager, str, str], Task],
    task: str,
    workspace: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    with open_store(data_dir, workspace) as (manager, ws):
        changed = step(manager, ws, find_task(manager, ws, task).id)
        report_written(changed, changed.id, as_json)


def _parsed(field: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInputError(field=field, value=text, reason="is no JSON; put a text in quotes") from None


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()
