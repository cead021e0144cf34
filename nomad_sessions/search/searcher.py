"""`Searcher`: searches of one workspace or of all, each through an index that is brought up to date first."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import (
    CorruptionError,
    JournalCorruptError,
    LockTimeoutError,
    StorageError,
    StoreClosedError,
)
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.models import Event
from nomad_sessions.search.arguments import check_filters, check_flag, check_page, check_wanted
from nomad_sessions.search.catch_up import Progress, catch_up
from nomad_sessions.search.event_finding import (
    EventQuestion,
    EventResults,
    Place,
    count_events,
    find_events,
    load_events,
)
from nomad_sessions.search.event_rows import catch_up_events, catch_up_words
from nomad_sessions.search.finding import Filters, Found, Question, find, shown
from nomad_sessions.search.hits import Hit, Results
from nomad_sessions.search.index import INDEX, WAIT, Index, is_busy, is_certain, is_damage, rest_others
from nomad_sessions.search.locating import Entry, located
from nomad_sessions.search.query import phrases
from nomad_sessions.search.ranking import Commonness, commonness, scales
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.store import Workspace

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Searcher"]

T = TypeVar("T")
_ATTEMPTS = 4
_LIVING: weakref.WeakSet[Searcher] = weakref.WeakSet()


class _Asked(NamedTuple):
    """A question, how many of the best are wanted at most, and whom to tell of progress."""

    question: Question
    most: int
    progress: Progress | None


class _Answer(NamedTuple):
    """What a workspace has to it: how many in all, the best, and how common the words are there. Of this index, which
    calls them so for as long as its epoch is the same."""

    workspace_id: str
    of: Index
    epoch: str
    total: int
    found: list[Found]
    stale: bool
    common: Commonness | None


class _Page(NamedTuple):
    """What an index says of events, at one moment: how many match, where those of the page lie."""

    total: int
    places: list[Place]
    stale: bool
    epoch: str


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
        check_filters(filters)
        check_page(query, limit, offset)
        asked = _Asked(Question(query, substring, filters), offset + limit, progress)
        if workspace_id is not None:
            validate_workspace_id(workspace_id)
        for _ in range(_ATTEMPTS):
            answers, unreadable = self._answers(workspace_id, asked)
            hits = self._shown(asked.question, _best(answers)[offset : offset + limit], answers)
            if hits is not None:
                break
        else:
            raise _hopeless(f"{self._manager.data_dir}/*/{INDEX}", "it was made anew again and again meanwhile")
        total = sum(each.total for each in answers)
        following = offset + limit if total > offset + limit else None
        stale = tuple(each.workspace_id for each in answers if each.stale)
        return Results(tuple(hits), total, following, stale, tuple(unreadable))

    def _answers(self, workspace_id: str | None, asked: _Asked) -> tuple[list[_Answer], list[tuple[str, str]]]:
        """What a workspace has, or each; and of all, which cannot be read, and why."""
        there = [each for each in self._manager.list_workspaces() if workspace_id in (None, each)]
        answers: list[_Answer] = []
        unreadable: list[tuple[str, str]] = []
        for each in there:
            try:
                answers.append(self._answer(each, asked, several=len(there) > 1))
            except (StorageError, OSError) as error:
                if workspace_id is not None:
                    raise
                unreadable.append((each, str(error)))
        return answers, unreadable

    def _answer(self, workspace_id: str, asked: _Asked, *, several: bool) -> _Answer:
        """What one workspace has; of several, how common the words are in each is asked as well."""
        bring_up = partial(catch_up, self._manager.workspace(workspace_id), progress=asked.progress)

        def ask(index: Index) -> _Answer:
            stale = not _brought_up(index, bring_up)
            total, best = find(index, asked.question, asked.most)
            words = phrases(asked.question.text) if several and total and not asked.question.substring else []
            common = commonness(index, words) if words else None
            return _Answer(workspace_id, index, index.meta("epoch"), total, best, stale, common)

        return self._ask(workspace_id, ask)

    def hits_of(self, workspace_id: str, texts: Mapping[Entry, str], filters: Filters) -> dict[Entry, Hit]:
        """What a search shows of these, each with a snippet that is given; those that are not there, not visible or not
        let through are left out. Raises what `find` does of a workspace that was named."""
        if workspace_id not in self._manager.list_workspaces():
            return {}
        bring_up = partial(catch_up, self._manager.workspace(workspace_id), progress=None)

        def ask(index: Index) -> dict[Entry, Hit]:
            _brought_up(index, bring_up)
            with index.reading():
                docs = located(index, texts, filters)
                found = [Found(0.0, doc, texts[entry]) for entry, doc in docs.items()]
                hits = shown(index, Question("", False, filters), workspace_id, found) if found else {}
            return {entry: hits[doc] for entry, doc in docs.items() if doc in hits}

        return self._ask(workspace_id, ask)

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
        check_wanted(wanted)
        check_page(query, limit, offset)
        check_flag("newest_first", newest_first)
        validate_workspace_id(workspace_id)
        if workspace_id not in self._manager.list_workspaces():
            return EventResults((), 0, None)
        workspace = self._manager.workspace(workspace_id)
        hub = self._manager._events()
        with_tasks = hub.sessions_with_tasks(workspace_id) if wanted.is_agent_task is not None else ()
        question = EventQuestion.of(query, wanted, with_tasks)
        page = partial(find_events, question=question, limit=limit, offset=offset, newest_first=newest_first)

        def ask(index: Index) -> _Page:
            stale = not _brought_up(index, partial(_catch_up_events, workspace, words=question.match is not None))
            with index.reading():
                total = count_events(index, question)
                places = page(index, total=total) if total > offset else []
                return _Page(total, places, stale, index.meta("event_epoch"))

        found, events = self._loaded(workspace, ask)
        following = offset + limit if found.total > offset + limit else None
        return EventResults(tuple(events), found.total, following, found.stale)

    def _loaded(self, workspace: Workspace, ask: Callable[[Index], _Page]) -> tuple[_Page, list[Event]]:
        """A page and its events. Where these do not lie where the index says, it is asked again: they may have gone
        since, with the retention; then all that it has of events is made anew, for the log may be another."""
        workspace_id = os.path.basename(workspace.folder)
        for attempt in range(_ATTEMPTS):
            found = self._ask(workspace_id, ask)
            try:
                with translated(workspace.folder):
                    return found, load_events(workspace, found.places)
            except (FileNotFoundError, JournalCorruptError) as error:
                reason = str(error)
                if attempt or not isinstance(error, FileNotFoundError):
                    self._ask(workspace_id, partial(_forget_events, epoch=found.epoch))
        raise _hopeless(f"{workspace.folder}/{INDEX}", f"it does not agree with the log: {reason}")

    def _shown(self, question: Question, page: list[tuple[Found, str]], answers: list[_Answer]) -> list[Hit] | None:
        """The hits of a page; None where what was found is no longer what the index calls so."""
        wanted: dict[str, list[Found]] = {}
        for found, workspace in page:
            wanted.setdefault(workspace, []).append(found)
        hits: dict[tuple[str, int], Hit] = {}
        for answer in answers:
            workspace = answer.workspace_id
            if workspace not in wanted:
                continue
            shows = self._show(answer, question, wanted[workspace])
            if shows is None:
                return None
            hits |= {(workspace, doc): hit for doc, hit in shows.items()}
        keys = [(workspace, found.doc) for found, workspace in page]
        return [hits[key] for key in keys if key in hits]

    def _show(self, answer: _Answer, question: Question, found: list[Found]) -> dict[int, Hit] | None:
        """The hits for docs of an answer; None where its index was made anew since, or turns out to be damaged."""
        index = answer.of
        with self._mutex:
            rest_others(self._indexes, answer.workspace_id)
        with index.mutex:
            try:
                with index.reading():
                    if index.meta("epoch") == answer.epoch:
                        return shown(index, question, answer.workspace_id, found)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                self._mend(answer.workspace_id, index, error, first=False)
        return None

    def _ask(self, workspace_id: str, ask: Callable[[Index], T]) -> T:
        """An answer from an index, which `ask` brings up to date first. One that turns out to be damaged is made again,
        one that cannot be written is made in memory. Raises `LockTimeoutError` where another process has it for too
        long, `CorruptionError` where it stays damaged: no error of SQLite's."""
        for attempt in range(_ATTEMPTS):
            index = self._index(workspace_id)
            with index.mutex:
                try:
                    return ask(index)
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    reason = str(error)
                    self._mend(workspace_id, index, error, first=attempt == 0)
        raise _hopeless(f"{self._manager.data_dir}/{workspace_id}/{INDEX}", reason)

    def _mend(self, workspace_id: str, index: Index, error: Exception, *, first: bool) -> None:
        """Makes an index fit to be asked again, after an error; what another process did to the file is no damage of
        it. Raises `StoreClosedError`, and `LockTimeoutError` where another process has the file."""
        if self._closed:
            raise StoreClosedError(path=self._manager.data_dir) from error
        if is_busy(error):
            raise LockTimeoutError(path=f"{self._manager.data_dir}/{workspace_id}/{INDEX}", waited=WAIT) from error
        if not index.is_in_place():
            return  # Deleted, or made anew: the next to ask opens what is there now.
        if not is_damage(error):
            index.leave()
        else:
            index.reopen(anew=is_certain(error) or not first)

    def _index(self, workspace_id: str) -> Index:
        with self._mutex:
            if self._closed:
                raise StoreClosedError(path=self._manager.data_dir)
            index = self._indexes.pop(workspace_id, None)
            if index is None or not index.is_in_place():
                index = _opened(f"{self._manager.data_dir}/{workspace_id}/{INDEX}")
            rest_others(self._indexes, workspace_id)
            self._indexes[workspace_id] = index  # The last to rest.
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
    """The index in this file; in memory where the folder cannot be written, or nothing can be made of the file."""
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError, OSError):
        return Index(path)
    return Index(None)


def _hopeless(path: str, reason: str) -> CorruptionError:
    return CorruptionError(path=path, reason=reason, hint="delete it: it is made again, of the store")


def _brought_up(index: Index, bring_up: Callable[[Index], None]) -> bool:
    """Brings an index up to date; False when another process was at it for too long, so that it may be behind."""
    try:
        bring_up(index)
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        return False
    return True


def _catch_up_events(workspace: Workspace, index: Index, *, words: bool) -> None:
    catch_up_events(workspace, index)
    if words:
        catch_up_words(workspace, index)


def _forget_events(index: Index, *, epoch: str) -> None:
    """Takes out what an index has of events, unless another process has done so since this epoch."""
    with index.changing():
        if index.meta("event_epoch") == epoch:
            index.forget_events()


def _after_fork_in_child() -> None:
    for searcher in list(_LIVING):
        searcher._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
