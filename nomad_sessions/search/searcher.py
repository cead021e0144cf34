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
from typing import TYPE_CHECKING, TypeVar

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, StoreClosedError
from nomad_sessions.search.catch_up import Progress, catch_up
from nomad_sessions.search.finding import Filters, Found, Question, find, shown
from nomad_sessions.search.hits import Hit, Results
from nomad_sessions.search.index import INDEX, Index

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Searcher"]

T = TypeVar("T")
_TEXTS = ("session_id", "role", "agent", "model", "tool")
_TIMES = ("since", "until")
_LIVING: weakref.WeakSet[Searcher] = weakref.WeakSet()


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

        Raises `InvalidInputError`, `StoreClosedError`, and what reading the store raises.
        """
        filters = Filters(session_id, role, agent, model, tool, since, until, archived)
        _check(query, filters, limit, offset)
        question = Question(query, substring, filters)
        there = self._manager.list_workspaces()
        if workspace_id is not None:
            validate_workspace_id(workspace_id)
            there = [each for each in there if each == workspace_id]
        stale = [each for each in there if not self._up_to_date(each, progress)]
        found: list[tuple[Found, str]] = []
        total = 0
        for each in there:
            count, best = self._ask(each, lambda index: find(index, question, offset + limit))
            total += count
            found += [(one, each) for one in best]
        page = sorted(found, key=lambda each: each[0][:2])[offset : offset + limit]
        hits = self._shown(question, page)
        following = offset + limit if total > offset + limit else None
        return Results(tuple(hits), total, following, tuple(stale))

    def _shown(self, question: Question, page: list[tuple[Found, str]]) -> list[Hit]:
        wanted: dict[str, list[Found]] = {}
        for found, workspace in page:
            wanted.setdefault(workspace, []).append(found)
        hits: dict[tuple[str, int], Hit] = {}
        for workspace, docs in wanted.items():
            shows = self._ask(workspace, partial(shown, question=question, workspace_id=workspace, found=docs))
            hits |= {(workspace, doc): hit for doc, hit in shows.items()}
        keys = [(workspace, found.doc) for found, workspace in page]
        return [hits[key] for key in keys if key in hits]

    def _up_to_date(self, workspace_id: str, progress: Progress | None) -> bool:
        """Brings an index up to date; False when another process was at it for too long, so that it may be behind."""
        try:
            self._ask(workspace_id, lambda index: catch_up(self._manager.workspace(workspace_id), index, progress))
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return False
        return True

    def _ask(self, workspace_id: str, ask: Callable[[Index], T]) -> T:
        """An answer from an index; one that turns out to be damaged is made again."""
        index = self._index(workspace_id)
        with index.mutex:
            try:
                return ask(index)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                index.replace()
                catch_up(self._manager.workspace(workspace_id), index)
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
    with contextlib.suppress(sqlite3.OperationalError, PermissionError):
        return Index(path)
    return Index(None)


def _check(query: object, filters: Filters, limit: object, offset: object) -> None:
    if not isinstance(query, str):
        raise InvalidInputError(field="query", value=query, reason="must be a str")
    for name in _TEXTS:
        value = getattr(filters, name)
        if value is not None and not isinstance(value, str):
            raise InvalidInputError(field=name, value=value, reason="must be a str")
    for name in _TIMES:
        value = getattr(filters, name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise InvalidInputError(field=name, value=value, reason="must be a time in ms")
    if filters.archived is not None and not isinstance(filters.archived, bool):
        raise InvalidInputError(field="archived", value=filters.archived, reason="must be True, False or None")
    for name, number, least in (("limit", limit, 1), ("offset", offset, 0)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise InvalidInputError(field=name, value=number, reason=f"must be a whole number, {least} or more")


def _after_fork_in_child() -> None:
    for searcher in list(_LIVING):
        searcher._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
