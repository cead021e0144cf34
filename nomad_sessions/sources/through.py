"""`ReadThrough`: the local store first, and what it lacks from other places, kept here from then on.

Invariant: an error never looks like an empty answer: nothing is said to be nowhere unless a place that had to know has
said so. What is written through is a whole session, so that no half of one is ever found here; writing it twice changes
nothing. Verified by `tests/unit/test_read_through.py`, `test_read_through_trouble.py` and
`tests/contract/test_sources.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import pydantic

from nomad_sessions.errors import InvalidInputError, SourcesFailedError
from nomad_sessions.forking import Mutex
from nomad_sessions.models import Event, Message, Model, Session, Task
from nomad_sessions.sources.asking import Key
from nomad_sessions.sources.bringing import FAILURES, Bringing, Brought, SourceMetrics
from nomad_sessions.sources.source import Record, Source, Watched, matches
from nomad_sessions.sources.writing import write_events, write_tasks

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Answer", "ReadThrough", "read_through"]

_LOG = logging.getLogger("nomad_sessions")
T = TypeVar("T")
M = TypeVar("M", bound=Model)
_Look = Callable[[Source], list[Record] | None]
_Write = Callable[[Source, list[Record]], list[Record]]
_TTL = 60.0
_SHOWN = ("title", "updatedAt", "archivedAt", "parentId", "agent")
"""What tells in a list that a session has changed; its messages are asked for again after `ttl` in any case."""


class Answer(NamedTuple, Generic[T]):
    """What was asked for; the `source` that said so ("local" where nobody else was asked, or had more); and those that
    `failed`, each with its reason."""

    value: T
    source: str
    failed: dict[str, str]

    @property
    def is_certain(self) -> bool:
        """Whether everybody who was asked could say: what is not in an answer that is not certain, and be it None, may
        be with one of those that failed."""
        return not self.failed


def read_through(manager: NativeSessionManager, sources: Iterable[Source] = (), *, ttl: float = _TTL) -> ReadThrough:
    """Reads the store, and what it lacks from `sources`, in this order. They are closed with it, the manager is not.

    `ttl` is in seconds: for how long what came from a source is taken as it is; 0 asks each time. Raises
    `InvalidInputError` for one that is no time, and for two sources of one name. Asks nobody yet.
    """
    return ReadThrough(manager, sources, ttl=ttl)


class ReadThrough:
    """`read_through` gives one. Safe for several threads.

    What began here is read here, at the store's own speed. What came from a source is asked of it again when `ttl` has
    passed, and what changed there is changed here; what is gone there stays. A source that fails costs a warning, is
    named in the answer, and in those that follow until it is asked again, after 5 s at the latest; where nothing is
    here and no source could say, `SourcesFailedError` has all reasons.
    """

    def __init__(self, manager: NativeSessionManager, sources: Iterable[Source] = (), *, ttl: float = _TTL) -> None:
        if type(ttl) not in (int, float) or not ttl >= 0:
            raise InvalidInputError(field="ttl", value=ttl, reason="must be a time in seconds")
        self._manager = manager
        self._bringing = Bringing(manager, sources, ttl)
        self._mutex = Mutex()
        self._follows = False

    # Reading

    def get_session(self, workspace_id: str, session_id: str) -> Answer[Session | None]:
        """One session, or None where none of those that could say has it. Raises `SourcesFailedError`. Cost: the store,
        and where it lacks it a question to each source until one has it, which then comes whole."""
        asked = self._bringing.whole(workspace_id, session_id, bodies=False)
        found = None if asked.found is None else Session.model_validate(asked.found.session)
        return Answer(found, asked.source, asked.failed)

    def messages(self, workspace_id: str, session_id: str) -> Answer[list[Message]]:
        """A session's visible messages, in order; raises and costs as `get_session`. Those of a copy that has not got
        all of them are given, with the copy among those that failed, and not kept."""
        asked = self._bringing.whole(workspace_id, session_id, bodies=True)
        found = () if asked.found is None else asked.found.messages[: asked.found.visible]
        return Answer([Message.model_validate(each) for each in found], asked.source, asked.failed)

    def list_sessions(self, workspace_id: str) -> Answer[list[Session]]:
        """All sessions that there are anywhere, the last changed first. Raises `SourcesFailedError` where none is here
        and no source could say. Cost: the store; after `ttl` a list of each source, and whole those that are new."""
        return self._listed(workspace_id, "", lambda source: source.list_sessions(workspace_id))

    def search_sessions(self, workspace_id: str, query: str, *, limit: int = 20) -> Answer[list[Session]]:
        """Those whose title, description, id or agent has the text, whatever the case, the last changed first. Raises
        and costs as `list_sessions`."""
        _check_count("limit", limit)
        if type(query) is not str or not query:
            raise InvalidInputError(field="query", value=query, reason="must be a text to look for")
        found = self._listed(workspace_id, query, lambda source: source.search_sessions(workspace_id, query))
        return found._replace(value=found.value[:limit])

    def events(self, workspace_id: str, session_id: str) -> Answer[list[Event]]:
        """What was recorded of a session, in order. Raises `SourcesFailedError`."""
        return self._rows(
            ("event", workspace_id, session_id),
            Event,
            lambda source: source.events(workspace_id, session_id),
            lambda source, rows: write_events(self._manager, workspace_id, session_id, rows),
        )

    def tasks(self, workspace_id: str, session_id: str) -> Answer[list[Task]]:
        """A session's tasks. Raises `SourcesFailedError`."""
        return self._rows(
            ("task", workspace_id, session_id),
            Task,
            lambda source: source.tasks(workspace_id, session_id),
            lambda source, rows: write_tasks(self._manager, workspace_id, session_id, source, rows),
        )

    # What is known

    def warm(self, workspace_id: str, *, sessions: int = 20) -> int:
        """Reads the newest sessions of all sources whole, so that the next reads find them here; how many are here.
        Raises `SourcesFailedError`. Cost: a list of each source, and whole those of these sessions that are not here.
        Where it is interrupted, what it has brought stays."""
        _check_count("sessions", sessions)
        asking, failed, found, answered = self._bringing, dict[str, str](), dict[str, int](), False
        for source in (asking.local, *asking.sources):
            said: dict[str, str] = {}
            rows = asking.ask(source, lambda each: each.list_sessions(workspace_id), said) or ()
            answered = answered or bool(rows) or (source is not asking.local and not said)
            failed.update(said)
            for each in rows:
                updated = each.get("updatedAt")
                found.setdefault(str(each["id"]), updated if isinstance(updated, int) else 0)
        asking.must_have(answered or not failed, f"the sessions of {workspace_id}", failed)
        newest = sorted(found, key=lambda name: (-found[name], name))[:sessions]
        return sum(self.get_session(workspace_id, each).value is not None for each in newest)

    def invalidate(self, workspace_id: str | None = None, session_id: str | None = None) -> None:
        """What is known of a session, of a workspace or of all is asked of its source again when it is next read."""
        self._bringing.asked.forget(workspace_id, session_id)

    def follow(self) -> None:
        """From now on a change that a source tells of invalidates what is known of its session. Once is enough."""
        with self._mutex:
            begun, self._follows = self._follows, True
        for each in () if begun else self._bringing.sources:
            if isinstance(each, Watched):
                each.watch(lambda session_id: self.invalidate(None, session_id))

    def metrics(self) -> dict[str, SourceMetrics]:
        """How often each source was asked, had it, and failed; the store itself is "local"."""
        return self._bringing.metrics()

    def close(self) -> None:
        """Closes the sources. May be called twice."""
        for each in self._bringing.sources:
            each.close()

    # How

    def _listed(self, workspace_id: str, query: str, look: _Look) -> Answer[list[Session]]:
        key, asking = ("list", workspace_id, query), self._bringing
        if asking.asked.fresh(key) is not None:
            return self._list(key, look)
        with asking.turns.of(key):
            return self._list(key, look)

    def _list(self, key: Key, look: _Look) -> Answer[list[Session]]:
        query = key[2]
        asking, failed = self._bringing, dict[str, str]()
        here = asking.ask(asking.local, look, failed)
        there = {str(each["id"]): each for each in here or ()}
        source = asking.local.name
        fresh = asking.asked.fresh(key)
        if fresh is None:
            source = self._bring_lists(key, look, there, failed)
        failed.update(fresh or {})
        found = [each for each in there.values() if not query or matches(each, query)]
        found.sort(key=lambda each: (-int(each.get("updatedAt") or 0), str(each["id"])))
        return Answer([Session.model_validate(each) for each in found], source, failed)

    def _bring_lists(self, key: Key, look: _Look, there: dict[str, Record], failed: dict[str, str]) -> str:
        """Adds to a list what each source has of it, brought whole where it is new; who had something."""
        _, workspace_id, _ = key
        asking, moment, answered, all_kept = self._bringing, self._bringing.asked.moment, bool(there), True
        name = asking.local.name
        known = {str(each["id"]): each for each in self._known(workspace_id)}
        for source in asking.sources:
            rows = asking.ask(source, look, failed)
            answered = answered or rows is not None
            for row in rows or ():
                identifier = str(row["id"])
                before = known.get(identifier)
                if before is None or self._is_other(source, workspace_id, row, before, failed):
                    brought, is_kept = self._of_list(source, workspace_id, row, failed)
                    name = name if brought is None else source.name
                    before = before if brought is None else brought
                    all_kept = all_kept and is_kept
                if before is not None:
                    known[identifier] = there[identifier] = before
        asking.must_have(answered or not failed, f"the sessions of {workspace_id}", failed)
        if all_kept:  # Else the next list would lack them.
            asking.asked.note(key, moment, failed)
        return name

    def _known(self, workspace_id: str) -> list[Record]:
        try:
            return self._bringing.local.list_sessions(workspace_id)
        except FAILURES:  # It was asked already, and is named.
            return []

    def _is_other(self, source: Source, workspace_id: str, row: Record, before: Record, failed: dict[str, str]) -> bool:
        """Whether a session that is here has come from this source, and has changed there since."""
        ours = self._bringing.origin(before, workspace_id, failed) is source
        return ours and any(row.get(field) != before.get(field) for field in _SHOWN)

    def _of_list(
        self, source: Source, workspace_id: str, row: Record, failed: dict[str, str]
    ) -> tuple[Record | None, bool]:
        """A session that a source has listed, brought whole, and whether it is kept; where it cannot be had whole, what
        the list says of it. None where it has gone since, or is none."""
        nobody = Brought(None, self._bringing.local.name, {})
        try:
            asked = self._bringing.brought(("session", workspace_id, str(row["id"])), nobody, [source])
            return None if asked.found is None else asked.found.session, asked.is_kept
        except SourcesFailedError:
            return next(iter(self._readable(Session, source, [row], failed)), None), False
        finally:
            failed.update(nobody.failed)

    def _rows(self, key: Key, model: type[M], look: _Look, write: _Write) -> Answer[list[M]]:
        _, workspace_id, session_id = key
        asking = self._bringing
        whole = asking.whole(workspace_id, session_id, bodies=False)
        failed = dict(whole.failed)
        rows, name = asking.ask(asking.local, look, failed) or [], asking.local.name
        if whole.found is not None:  # What is of a session that is nowhere would be nobody's.
            began_here = whole.source == name and asking.origin(whole.found.session, workspace_id, failed) is None
            fresh = asking.asked.fresh(key)
            failed.update(fresh or {})
            if not began_here and fresh is None:
                with asking.turns.of(key):
                    rows, name = self._bring_rows(key, model, rows, look, write, failed)
        return Answer([model.model_validate(each) for each in rows], name, failed)

    def _bring_rows(
        self, key: Key, model: type[M], here: list[Record], look: _Look, write: _Write, failed: dict[str, str]
    ) -> tuple[list[Record], str]:
        asking, moment, answered = self._bringing, self._bringing.asked.moment, bool(here)
        for source in asking.sources:
            said: dict[str, str] = {}
            rows = asking.ask(source, look, said)
            answered = answered or not said
            failed.update(said)
            if rows:
                try:
                    written = write(source, rows)
                    asking.asked.note(key, moment, failed)
                    return written, source.name
                except FAILURES as error:
                    _LOG.warning("read through: each %s of %s cannot be kept here: %s", key[0], key[2], error)
                    return self._readable(model, source, rows, failed), source.name
        asking.must_have(answered or not failed, f"each {key[0]} of session {key[2]}", failed)
        asking.asked.note(key, moment, failed)
        return here, asking.local.name

    def _readable(self, model: type[Model], source: Source, rows: list[Record], failed: dict[str, str]) -> list[Record]:
        """Those that are what they should be; that others are not is noted."""
        found = []
        for each in rows:
            try:
                model.model_validate(each)
                found.append(each)
            except pydantic.ValidationError:
                failed[source.name] = f"{model.__name__.lower()} {each.get('id')!r} there cannot be read"
                _LOG.warning("read through: %s: %s", source.name, failed[source.name])
        return found

    def __enter__(self) -> ReadThrough:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_count(field: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise InvalidInputError(field=field, value=value, reason="must be a whole number, 1 or more")
