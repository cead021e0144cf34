"""`SessionInfo`: what a session is doing, computed from facts: its times, its open streams, its tasks.

Invariant: nothing here is stored, and nothing is guessed from the number of messages; the same files at the same time
say the same. What lies ahead of the clock is a time that an earlier, wrong clock gave (it was set back since): it says
nothing about now, and a session's own `updatedAt` stays there, for it never goes back. Then the newest of the other
times decides: the session's creation, its last message's, its tasks'. Verified by `tests/unit/test_session_info.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple, get_args

from pydantic import Field

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import Model, Text
from nomad_sessions.models.base import no_list
from nomad_sessions.operations.listing import check_count, order
from nomad_sessions.operations.reading import Looking, check_text, listed_session
from nomad_sessions.operations.task_rows import last_sign, number, status_of, task_rows, text
from nomad_sessions.workspace.places import Summary
from nomad_sessions.workspace.state import Body

__all__ = ["ActivitySummary", "InfoQuery", "Pagination", "SessionInfo", "SessionInfoList", "info_of", "list_of"]

ActivityStatus = Literal["active", "waiting_for_input", "idle"]
STATUSES: frozenset[str] = frozenset(get_args(ActivityStatus))

ACTIVE_MS = 5 * 60_000
"""What was changed less than this ago, in ms, is active; or lies less than this ahead, as the clocks of two machines
may differ."""
IDLE_MS = 30 * 60_000
"""What was changed longer ago than this, in ms, is idle."""


class SessionInfo(Model):
    """What a session is doing. `last_activity_time` is in ms since the epoch (what lies 5 minutes ahead of the clock or
    more only where there is no other), `session_age` in whole seconds since its creation, `message_count` of visible
    messages; `agent_task_status` that of its running task, else of its newest."""

    id: Text = ""
    title: Text = ""
    message_count: int = 0
    last_activity_time: int = 0
    session_age: int = 0
    activity_status: ActivityStatus = "idle"
    is_agent_task: bool = False
    agent_task_status: Text | None = None


class Pagination(Model):
    """Where a page lies in a list. `limit` None is a page of everything; pages are counted from 1."""

    limit: int | None = None
    offset: int = 0
    has_more: bool = False
    current_page: int = 1
    total_pages: int = 0


class ActivitySummary(Model):
    """How many of all sessions of a workspace are in each state, and how many have tasks."""

    active: int = 0
    waiting_for_input: int = Field(default=0, alias="waiting_for_input")
    idle: int = 0
    agent_tasks: int = 0


class SessionInfoList(Model):
    """A page of sessions. `total_count` is of all that match the filters, `summary` of all that there are."""

    sessions: list[SessionInfo] = Field(default_factory=no_list)
    total_count: int = 0
    pagination: Pagination = Field(default_factory=Pagination)
    summary: ActivitySummary = Field(default_factory=ActivitySummary)


class InfoQuery(NamedTuple):
    """Filters of a list of session infos; None is no filter."""

    activity_status: str | None = None
    is_agent_task: bool | None = None
    archived: bool | None = None
    updated_since: int | None = None

    def check(self) -> None:
        """Raises `InvalidInputError` for a filter that nothing could match."""
        status = self.activity_status
        if status is not None and status not in get_args(ActivityStatus):
            reason = f"must be one of {', '.join(get_args(ActivityStatus))}"
            raise InvalidInputError(field="activity_status", value=status, reason=reason)
        for field in ("is_agent_task", "archived"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, bool):
                raise InvalidInputError(field=field, value=value, reason="must be True, False or None")
        if self.updated_since is not None and type(self.updated_since) is not int:
            raise InvalidInputError(field="updated_since", value=self.updated_since, reason="must be a time in ms")

    def keeps(self, summary: Summary, doing: Doing) -> bool:
        """Whether this session matches."""
        return (
            (self.activity_status is None or doing.status == self.activity_status)
            and (self.is_agent_task is None or doing.is_agent_task == self.is_agent_task)
            and (self.archived is None or (summary.archived_at is not None) == self.archived)
            and (self.updated_since is None or summary.updated_at >= self.updated_since)
        )


class Doing(NamedTuple):
    """What a session is doing, without what has to be read of it."""

    status: ActivityStatus
    last: int
    is_agent_task: bool
    task_status: str | None


def info_of(view: Looking, session_id: str, live: Collection[str], now: int) -> SessionInfo | None:
    """What one session is doing, or None. `live` are the sessions with an open stream, `now` is in ms."""
    summary = view.summaries().get(check_text("session_id", session_id))
    return _info(view, summary, _doing(view, summary, _tasks(view, summary.id), live, now), now) if summary else None


def list_of(
    view: Looking, query: InfoQuery, limit: int | None, offset: int, live: Collection[str], now: int
) -> SessionInfoList:
    """A page of sessions, newest change first, with what all of them are doing."""
    check_count("limit", limit)
    if type(offset) is not int or offset < 0:
        raise InvalidInputError(field="offset", value=offset, reason="must be a whole number, not negative")
    query.check()
    doing = dict(_all_doing(view, live, now))
    summaries = view.summaries()
    found = sorted((each for each in summaries.values() if query.keeps(each, doing[each.id])), key=order)
    page = found[offset:] if limit is None else found[offset : offset + limit]
    view.prepare(each.id for each in page)
    return SessionInfoList(
        sessions=[_info(view, each, doing[each.id], now) for each in page],
        total_count=len(found),
        pagination=_pagination(len(found), limit, offset),
        summary=_summary(doing.values()),
    )


def _all_doing(view: Looking, live: Collection[str], now: int) -> Iterator[tuple[str, Doing]]:
    by_session: dict[str, list[Body]] = {}
    for row in task_rows(view).values():
        by_session.setdefault(text(row, "sessionId"), []).append(row)
    summaries = view.summaries()
    view.prepare(each.id for each in summaries.values() if _lies_ahead(each.updated_at, now))
    for session_id, summary in summaries.items():
        yield session_id, _doing(view, summary, by_session.get(session_id, []), live, now)


def _tasks(view: Looking, session_id: str) -> list[Body]:
    return [row for row in task_rows(view).values() if text(row, "sessionId") == session_id]


def _doing(view: Looking, summary: Summary, tasks: list[Body], live: Collection[str], now: int) -> Doing:
    running = [row for row in tasks if status_of(row) == "running"]
    told = max(running or tasks, key=lambda row: number(row, "rev"), default=None)
    last = now if summary.id in live else _last(view, summary, tasks, now)
    status = _status(summary, bool(running), summary.id in live, now - last)
    return Doing(status, last, bool(tasks), status_of(told) if told is not None else None)


def _last(view: Looking, summary: Summary, tasks: list[Body], now: int) -> int:
    """When something last happened, by the times that do not lie ahead of the clock; by all where all do."""
    times = [summary.updated_at]
    for row in tasks:
        times += [last_sign(row), number(row, "updatedAt")]
    if _lies_ahead(summary.updated_at, now):
        times += [summary.created_at, _last_message(view, summary.id)]
    return max((time for time in times if time and not _lies_ahead(time, now)), default=max(times))


def _lies_ahead(time: int, now: int) -> bool:
    return time - now >= ACTIVE_MS


def _last_message(view: Looking, session_id: str) -> int:
    """When the last visible message of a session was added, 0 where there is none."""
    session = view.session(session_id)
    state = session.message(session.order[-1]) if session is not None and session.order else None
    return number(state.body(), "createdAt") if state is not None else 0


def _status(summary: Summary, running: bool, live: bool, quiet: int) -> ActivityStatus:
    """`quiet` is how long ago the last activity was, in ms: negative where it lies ahead of the clock."""
    if not (live or running) and (summary.closed_at is not None or summary.archived_at is not None):
        return "idle"
    if live or abs(quiet) < ACTIVE_MS:
        return "active"
    return "waiting_for_input" if running or 0 <= quiet < IDLE_MS else "idle"


def _info(view: Looking, summary: Summary, doing: Doing, now: int) -> SessionInfo:
    session = listed_session(view, summary.id)
    assert session is not None, "a summary stands for a session"
    return SessionInfo(
        id=summary.id,
        title=session.title,
        message_count=summary.visible,
        last_activity_time=doing.last,
        session_age=max(0, now - summary.created_at) // 1000,
        activity_status=doing.status,
        is_agent_task=doing.is_agent_task,
        agent_task_status=doing.task_status,
    )


def _pagination(total: int, limit: int | None, offset: int) -> Pagination:
    size = total if limit is None else limit
    return Pagination(
        limit=limit,
        offset=offset,
        has_more=limit is not None and offset + limit < total,
        current_page=1 if limit is None else offset // limit + 1,
        total_pages=-(-total // size) if size else 0,
    )


def _summary(all_doing: Iterable[Doing]) -> ActivitySummary:
    counts = dict.fromkeys(STATUSES, 0)
    agent_tasks = 0
    for doing in all_doing:
        counts[doing.status] += 1
        agent_tasks += doing.is_agent_task
    return ActivitySummary(
        active=counts["active"],
        waiting_for_input=counts["waiting_for_input"],
        idle=counts["idle"],
        agent_tasks=agent_tasks,
    )
