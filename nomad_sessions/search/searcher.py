"""`Searcher`: searches of one workspace or of all, each through an index that is brought up to date first."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, LockTimeoutError, StorageError, StoreClosedError
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.search.catch_up import Progress, catch_up
from nomad_sessions.search.event_finding import EventQuestion, EventResults, count_events, find_events, load_events
from nomad_sessions.search.event_rows import catch_up_events, catch_up_words
from nomad_sessions.search.finding import Filters, Found, Question, find, shown
from nomad_sessions.search.hits import Hit, Results
from nomad_sessions.search.index import INDEX, WAIT, Index, is_busy, is_damage
from nomad_sessions.search.query import phrases
from nomad_sessions.search.ranking import Commonness, commonness, scales
from nomad_sessions.workspace.faults import translated

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Searcher"]

T = TypeVar("T")
_ATTEMPTS = 4
_TEXTS = ("session_id", "role", "agent", "model", "tool")
_MOST = 1 << 53  # Of hits, or ms: the sum of two still is a number for SQLite.
_LIVING: weakref.WeakSet[Searcher] = weakref.WeakSet()


class _Asked(NamedTuple):
    """A question, how many of the best are wanted at most, and whom to tell of progress."""

    question: Question
    most: int
    progress: Progress | None


class _Answer(NamedTuple):
    """What a workspace has to it: how many in all, the best, and how common the words are there."""

    workspace_id: str
    total: int
    found: list[Found]
    stale: bool
    common: Commonness | None


def _best(answers: list[_Answer]) -> list[tuple[Found, str]]:
    """What all workspaces have, in order."""
    common = {each.workspace_id: each.common for each in answers if each.common is not None}
    by = dict(zip(common, scales(list(common.values())), strict=True))
    whole = [
        (found._replace(rank=found.rank * by.get(answer.workspace_id, 1.0)), answer.workspace_id)
        for answer in answers
        for found in answer.found
    ]
    return sorted(whole, key=lambda each: (each[0].rank, each[1], each[0].doc))


class Searcher:
    """Searches the workspaces of a manager. Safe to share between threads; close it before the manager.

    A workspace's index is the file `index.sqlite` in its folder. Making it the first time reads every message once;
    later searches cost what has changed since. No write to the store waits for it, and deleting it loses nothing. Where
    the folder cannot be written, the index is made in memory.
    """

    def __init__(self, manager: NativeSessionManager) -> None:
        self._manager = manager
        self._mutex = threading.Lock()
        self._indexes: dict[str, Index] = {}
        self._inherited: list[Index] = []
        self._closed = False
        _LIVING.add(self)

    def _after_fork(self) -> None:
        """In a forked child: SQLite's connections are the parent's, not to be used here, nor closed."""
        self._mutex = threading.Lock()
        self._inherited += self._indexes.values()
        self._indexes.clear()

    def find(
        self,
        query: str,
        *,
        workspace_id: str | None = None,
        substring: bool = False,
        session_id: str | None = None,
        role: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        tool: str | None = None,
        since: int | None = None,
        until: int | None = None,
        archived: bool | None = None,
        limit: int = 20,
        offset: int = 0,
        progress: Progress | None = None,
    ) -> Results:
        """The messages and sessions that match, best first; of one workspace, or of all.

        `query` is words (all of them), `"phrases"`, `begin*`, `-without`, `either OR other`; with `substring` any part
        of a text, newest first, whatever the case. Without a query, what the filters leave, newest first. What is
        searched: titles, descriptions, ids and agents of sessions; what messages say, names and arguments of tools, and
        what those gave. A message that forks have copied is one hit.

        Filters: `role`, `agent`, `tool` by name, `model` as `provider/model` or `model`, times in ms of the message
        (`since` <= it < `until`), `archived` sessions only or none of them. `progress(done, total)` counts messages
        while an index is brought up to date.

        Raises `InvalidInputError`, `StoreClosedError`, and, of a workspace that was named, what reading it raises; of
        all workspaces those that cannot be read are named in the results.
        """
        filters = Filters(session_id, role, agent, model, tool, since, until, archived)
        _check_filters(filters)
        _check_page(query, limit, offset)
        asked = _Asked(Question(query, substring, filters), offset + limit, progress)
        there = self._manager.list_workspaces()
        if workspace_id is not None:
            validate_workspace_id(workspace_id)
            there = [each for each in there if each == workspace_id]
        answers: list[_Answer] = []
        unreadable: list[tuple[str, str]] = []
        for each in there:
            try:
                answers.append(self._answer(each, asked, several=len(there) > 1))
            except (StorageError, OSError) as error:
                if workspace_id is not None:
                    raise
                unreadable.append((each, str(error)))
        page = _best(answers)[offset : offset + limit]
        hits = self._shown(asked.question, page)
        total = sum(each.total for each in answers)
        following = offset + limit if total > offset + limit else None
        stale = tuple(each.workspace_id for each in answers if each.stale)
        return Results(tuple(hits), total, following, stale, tuple(unreadable))

    def _answer(self, workspace_id: str, asked: _Asked, *, several: bool) -> _Answer:
        """What one workspace has; of several, how common the words are in each is asked as well."""
        stale = not self._brought_up(workspace_id, self._catch_up(workspace_id, asked.progress))
        again = self._catch_up(workspace_id)
        total, best = self._ask(workspace_id, lambda index: find(index, asked.question, asked.most), again)
        words = phrases(asked.question.text) if several and total and not asked.question.substring else []
        common = self._ask(workspace_id, lambda index: commonness(index, words), again) if words else None
        return _Answer(workspace_id, total, best, stale, common)

    def events(
        self,
        workspace_id: str,
        wanted: EventFilter | None = None,
        *,
        query: str = "",
        limit: int = 20,
        offset: int = 0,
        newest_first: bool = True,
    ) -> EventResults:
        """The events of a workspace that pass a filter and have the words of `query`, with their total.

        `query` is in the language of `find`; searched are types, ids, and every text that an event has. Through the
        index: a page and its total cost what they hold, not what the log does; the first question costs reading the
        log once, and so does the first one with words. What the log no longer has is not counted.

        Raises `InvalidInputError`, `StoreClosedError`, and what reading the store raises.
        """
        wanted = EventFilter() if wanted is None else wanted
        _check_page(query, limit, offset)
        _check_times(after=wanted.after, before=wanted.before)
        validate_workspace_id(workspace_id)
        if workspace_id not in self._manager.list_workspaces():
            return EventResults((), 0, None)
        workspace = self._manager.workspace(workspace_id)
        hub = self._manager._events()
        with_tasks = hub.sessions_with_tasks(workspace_id) if wanted.is_agent_task is not None else ()
        question = EventQuestion.of(query, wanted, with_tasks)

        def bring_up(index: Index) -> None:
            catch_up_events(workspace, index)
            if question.match is not None:
                catch_up_words(workspace, index)

        page = partial(find_events, question=question, limit=limit, offset=offset, newest_first=newest_first)
        for attempt in range(_ATTEMPTS):
            stale = not self._brought_up(workspace_id, bring_up)
            total = self._ask(workspace_id, lambda index: count_events(index, question), bring_up)
            found = partial(page, total=total)
            places = self._ask(workspace_id, found, bring_up) if total > offset else []
            try:
                with translated(workspace.folder):
                    events = load_events(workspace, places)
                break
            except FileNotFoundError:  # Gone since, with the retention.
                if attempt == _ATTEMPTS - 1:
                    raise
        following = offset + limit if total > offset + limit else None
        return EventResults(tuple(events), total, following, stale)

    def _shown(self, question: Question, page: list[tuple[Found, str]]) -> list[Hit]:
        wanted: dict[str, list[Found]] = {}
        for found, workspace in page:
            wanted.setdefault(workspace, []).append(found)
        hits: dict[tuple[str, int], Hit] = {}
        for workspace, docs in wanted.items():
            show = partial(shown, question=question, workspace_id=workspace, found=docs)
            shows = self._ask(workspace, show, self._catch_up(workspace))
            hits |= {(workspace, doc): hit for doc, hit in shows.items()}
        keys = [(workspace, found.doc) for found, workspace in page]
        return [hits[key] for key in keys if key in hits]

    def _catch_up(self, workspace_id: str, progress: Progress | None = None) -> Callable[[Index], None]:
        return partial(catch_up, self._manager.workspace(workspace_id), progress=progress)

    def _brought_up(self, workspace_id: str, bring_up: Callable[[Index], None]) -> bool:
        """Brings an index up to date; False when another process was at it for too long, so that it may be behind."""
        try:
            self._ask(workspace_id, bring_up, lambda index: None)
        except LockTimeoutError:
            return False
        return True

    def _ask(self, workspace_id: str, ask: Callable[[Index], T], bring_up: Callable[[Index], None]) -> T:
        """An answer from an index. One that turns out to be damaged is made again, one that cannot be written is made
        in memory, and brought up to date."""
        index = self._index(workspace_id)
        with index.mutex:
            try:
                return ask(index)
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                if is_busy(error):
                    path = f"{self._manager.data_dir}/{workspace_id}/{INDEX}"
                    raise LockTimeoutError(path=path, waited=WAIT) from error
                if isinstance(error, sqlite3.ProgrammingError):
                    raise
                index.replace(in_memory=not is_damage(error))
                bring_up(index)
                return ask(index)

    def _index(self, workspace_id: str) -> Index:
        with self._mutex:
            if self._closed:
                raise StoreClosedError(path=self._manager.data_dir)
            index = self._indexes.get(workspace_id)
            if index is None or not index.is_in_place():
                index = self._indexes[workspace_id] = _opened(f"{self._manager.data_dir}/{workspace_id}/{INDEX}")
            return index

    def close(self) -> None:
        """Gives every file back."""
        with self._mutex:
            self._closed = True
            for index in self._indexes.values():
                index.close()
            self._indexes.clear()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(path: str) -> Index:
    """The index in this file; in memory where the folder cannot be written."""
    with contextlib.suppress(sqlite3.OperationalError, OSError):
        return Index(path)
    return Index(None)


def _check_filters(filters: Filters) -> None:
    for name in _TEXTS:
        value = getattr(filters, name)
        if value is not None and not isinstance(value, str):
            raise InvalidInputError(field=name, value=value, reason="must be a str")
    _check_times(since=filters.since, until=filters.until)
    if filters.archived is not None and not isinstance(filters.archived, bool):
        raise InvalidInputError(field="archived", value=filters.archived, reason="must be True, False or None")


def _check_times(**times: object) -> None:
    for name, value in times.items():
        if value is not None and not _is_whole(value, -_MOST):
            raise InvalidInputError(field=name, value=value, reason="must be a time in ms")


def _check_page(query: object, limit: object, offset: object) -> None:
    if not isinstance(query, str):
        raise InvalidInputError(field="query", value=query, reason="must be a str")
    for name, number, least in (("limit", limit, 1), ("offset", offset, 0)):
        if not _is_whole(number, least):
            raise InvalidInputError(field=name, value=number, reason=f"must be a whole number, {least} to {_MOST}")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST


def _after_fork_in_child() -> None:
    for searcher in list(_LIVING):
        searcher._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
