"""`ReadThrough`: the local store first, and what it lacks from other places, kept here from then on.

Invariant: an error never looks like an empty answer: nothing is said to be nowhere unless a place that had to know has
said so. What is written through is a whole session, so that no half of one is ever found here; writing it twice changes
nothing. Verified by `tests/unit/test_read_through.py` and `tests/contract/test_sources.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from nomad_sessions.errors import InvalidInputError, NomadSessionsError, SourcesFailedError
from nomad_sessions.forking import Mutex
from nomad_sessions.models import Event, Message, Session, Task
from nomad_sessions.sources.places import LocalSource
from nomad_sessions.sources.source import Conversation, Record, Source, Watched, matches
from nomad_sessions.sources.writing import origin_of, write_events, write_session, write_tasks

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Answer", "ReadThrough", "SourceMetrics", "read_through"]

_LOG = logging.getLogger("nomad_sessions")
T = TypeVar("T")
U = TypeVar("U")
_TTL = 60.0
_FAILURES = (NomadSessionsError, OSError)
_SHOWN = ("title", "updatedAt", "archivedAt", "parentId", "agent")
"""What tells in a list that a session has changed; its messages are asked for again after `ttl` in any case."""
_Key = tuple[str, str, str]


class Answer(NamedTuple, Generic[T]):
    """What was asked for; the `source` that said so ("local" where nobody else was asked, or had more); and those that
    `failed`, each with its reason."""

    value: T
    source: str
    failed: dict[str, str]


@dataclass
class SourceMetrics:
    """Of one source: how often it was asked, how often it had what was asked for, how often it failed, and the seconds
    that it took."""

    asked: int = 0
    hits: int = 0
    failures: int = 0
    seconds: float = 0.0

    @property
    def hit_rate(self) -> float | None:
        """How many of the answers had something, 0 to 1; None where there was none."""
        answered = self.asked - self.failures
        return self.hits / answered if answered else None


def read_through(manager: NativeSessionManager, sources: Iterable[Source] = (), *, ttl: float = _TTL) -> ReadThrough:
    """Reads the store, and what it lacks from `sources`, in this order. They are closed with it, the manager is not.

    `ttl` is in seconds: for how long what came from a source is taken as it is. Raises `InvalidInputError` for two
    sources of one name. Asks nobody yet.
    """
    return ReadThrough(manager, sources, ttl=ttl)


class ReadThrough:
    """`read_through` gives one. Safe for several threads.

    What began here is read here, at the store's own speed. What came from a source is asked of it again when `ttl` has
    passed, and what changed there is changed here; what is gone there stays. A source that fails costs a warning, and
    is named in the answer; where nothing is here and no source could say, `SourcesFailedError` has all reasons.
    """

    def __init__(self, manager: NativeSessionManager, sources: Iterable[Source] = (), *, ttl: float = _TTL) -> None:
        self._manager = manager
        self._local = LocalSource(manager)
        self._sources = list(sources)
        self._ttl = ttl
        self._mutex = Mutex()
        self._asked_at: dict[_Key, float] = {}
        self._invalidated = 0
        self._metrics = {self._local.name: SourceMetrics()}
        for each in self._sources:
            if each.name in self._metrics:
                raise InvalidInputError(field="sources", value=each.name, reason="is the name of two of them")
            self._metrics[each.name] = SourceMetrics()

    # Reading

    def get_session(self, workspace_id: str, session_id: str) -> Answer[Session | None]:
        """One session, or None where none of those that could say has it. Raises `SourcesFailedError`. Cost: the store,
        and where it lacks it a question to each source until one has it, which then comes whole."""
        asked = self._whole(workspace_id, session_id)
        found = None if asked.found is None else Session.model_validate(asked.found.session)
        return Answer(found, asked.source, asked.failed)

    def messages(self, workspace_id: str, session_id: str) -> Answer[list[Message]]:
        """A session's visible messages, in order; raises and costs as `get_session`."""
        asked = self._whole(workspace_id, session_id)
        found = () if asked.found is None else asked.found.messages[: asked.found.visible]
        return Answer([Message.model_validate(each) for each in found], asked.source, asked.failed)

    def list_sessions(self, workspace_id: str) -> Answer[list[Session]]:
        """All sessions that there are anywhere, the last changed first. Raises `SourcesFailedError` where none is here
        and no source could say. Cost: the store; after `ttl` a list of each source, and whole those that are new."""
        return self._listed(workspace_id, "", lambda source: source.list_sessions(workspace_id))

    def search_sessions(self, workspace_id: str, query: str, *, limit: int = 20) -> Answer[list[Session]]:
        """Those whose title, description, id or agent has the text, whatever the case, the last changed first. Raises
        and costs as `list_sessions`."""
        if type(query) is not str or not query:
            raise InvalidInputError(field="query", value=query, reason="must be a text to look for")
        found = self._listed(workspace_id, query, lambda source: source.search_sessions(workspace_id, query))
        return found._replace(value=found.value[:limit])

    def events(self, workspace_id: str, session_id: str) -> Answer[list[Event]]:
        """What was recorded of a session, in order. Raises `SourcesFailedError`."""
        asked = self._rows(
            ("event", workspace_id, session_id),
            lambda source: source.events(workspace_id, session_id),
            lambda rows: write_events(self._manager, workspace_id, rows),
        )
        return Answer([Event.model_validate(each) for each in asked.value], asked.source, asked.failed)

    def tasks(self, workspace_id: str, session_id: str) -> Answer[list[Task]]:
        """A session's tasks. Raises `SourcesFailedError`."""
        asked = self._rows(
            ("task", workspace_id, session_id),
            lambda source: source.tasks(workspace_id, session_id),
            lambda rows: write_tasks(self._manager, workspace_id, session_id, rows),
        )
        return Answer([Task.model_validate(each) for each in asked.value], asked.source, asked.failed)

    # What is known

    def warm(self, workspace_id: str, *, sessions: int = 20) -> int:
        """Reads the newest sessions of all sources whole, so that the next reads find them here; how many are here.
        Raises what `list_sessions` does."""
        listed = self.list_sessions(workspace_id).value[:sessions]
        return sum(self.get_session(workspace_id, each.id).value is not None for each in listed)

    def invalidate(self, workspace_id: str | None = None, session_id: str | None = None) -> None:
        """What is known of a session, of a workspace or of all is asked of its source again when it is next read."""
        with self._mutex:
            self._invalidated += 1
            kept = {
                key: at
                for key, at in self._asked_at.items()
                if not (workspace_id in (None, key[1]) and (session_id in (None, key[2]) or key[0] == "list"))
            }
            self._asked_at = kept

    def follow(self) -> None:
        """From now on a change that a source tells of invalidates what is known of its session. To be called once."""
        for each in self._sources:
            if isinstance(each, Watched):
                each.watch(lambda session_id: self.invalidate(None, session_id))

    def metrics(self) -> dict[str, SourceMetrics]:
        """How often each source was asked, had it, and failed; the store itself is "local"."""
        with self._mutex:
            return {name: SourceMetrics(**vars(each)) for name, each in self._metrics.items()}

    def close(self) -> None:
        """Closes the sources. May be called twice."""
        for each in self._sources:
            each.close()

    # How

    def _whole(self, workspace_id: str, session_id: str) -> _Asked:
        failed: dict[str, str] = {}
        since = self._invalidated
        look = _messages_of(workspace_id, session_id)
        here = self._ask(self._local, look, failed)
        key = ("session", workspace_id, session_id)
        others: Sequence[Source] = self._sources
        if here is not None:
            origin = self._origin(here.session, workspace_id, failed)
            if origin is None or self._is_fresh(key):
                return _Asked(here, self._local.name, failed)
            others = [origin]
        answered = here is not None
        for source in others:
            found = self._ask(source, look, failed)
            answered = answered or source.name not in failed
            if found is not None:
                self._note(key, since)
                return _Asked(self._kept(source, workspace_id, found), source.name, failed)
        self._must_have(answered or not failed, f"session {session_id}", failed)
        if here is not None:
            self._note(key, since)
        return _Asked(here, self._local.name, failed)

    def _kept(self, source: Source, workspace_id: str, found: Conversation) -> Conversation:
        """Writes a session through; as the store has it then, or, where the store cannot take it, as it was found."""
        try:
            write_session(self._manager, workspace_id, source, found)
            stored = self._local.messages(workspace_id, str(found.session["id"]))
        except _FAILURES as error:
            _LOG.warning("read through: %s cannot be kept here: %s", found.session.get("id"), error)
            return found
        return found if stored is None else stored

    def _listed(self, workspace_id: str, query: str, look: Callable[[Source], list[Record]]) -> Answer[list[Session]]:
        failed: dict[str, str] = {}
        since = self._invalidated
        here = self._ask(self._local, look, failed)
        there = {str(each["id"]): each for each in here or ()}
        source_name, answered = self._local.name, bool(there)
        key = ("list", workspace_id, query)
        if not self._is_fresh(key):
            known = {str(each["id"]): each for each in self._known(workspace_id)}
            for source in self._sources:
                rows = self._ask(source, look, failed)
                answered = answered or rows is not None
                for row in rows or ():
                    identifier = str(row["id"])
                    before = known.get(identifier)
                    if before is not None and not self._is_other(source, workspace_id, row, before, failed):
                        there.setdefault(identifier, before)
                        continue
                    whole = self._ask(source, _messages_of(workspace_id, identifier), failed)
                    if whole is not None:
                        known[identifier] = there[identifier] = self._kept(source, workspace_id, whole).session
                        source_name = source.name
            self._must_have(answered or not failed, f"the sessions of {workspace_id}", failed)
            self._note(key, since)
        found = [each for each in there.values() if not query or matches(each, query)]
        found.sort(key=lambda each: (-int(each.get("updatedAt") or 0), str(each["id"])))
        return Answer([Session.model_validate(each) for each in found], source_name, failed)

    def _known(self, workspace_id: str) -> list[Record]:
        try:
            return self._local.list_sessions(workspace_id)
        except _FAILURES:  # It was asked already, and is named.
            return []

    def _is_other(self, source: Source, workspace_id: str, row: Record, before: Record, failed: dict[str, str]) -> bool:
        """Whether a session that is here has come from this source, and has changed there since."""
        ours = self._origin(before, workspace_id, failed) is source
        return ours and any(row.get(field) != before.get(field) for field in _SHOWN)

    def _origin(self, record: Record, workspace_id: str, failed: dict[str, str]) -> Source | None:
        """The source that a session came from; None too where that cannot say which it is."""
        for source in self._sources:
            if self._ask(source, lambda each: origin_of(record, [each], workspace_id), failed, counted=False):
                return source
        return None

    def _rows(
        self, key: _Key, look: Callable[[Source], list[Record] | None], write: Callable[[list[Record]], list[Record]]
    ) -> Answer[list[Record]]:
        kind, workspace_id, session_id = key
        since = self._invalidated
        whole = self._whole(workspace_id, session_id)  # What is of a session that is not here would be nobody's.
        failed = dict(whole.failed)
        here = self._ask(self._local, look, failed)
        if whole.found is None:
            return Answer(here or [], self._local.name, failed)
        origin = self._origin(whole.found.session, workspace_id, failed)
        if self._is_fresh(key) or (here and origin is None):
            return Answer(here or [], self._local.name, failed)
        answered = bool(here)
        for source in self._sources:
            rows = self._ask(source, look, failed)
            answered = answered or source.name not in failed
            if rows:
                self._note(key, since)
                return Answer(write(rows), source.name, failed)
        self._must_have(answered or not failed, f"each {kind} of session {session_id}", failed)
        self._note(key, since)
        return Answer(here or [], self._local.name, failed)

    def _ask(
        self, source: Source, look: Callable[[Source], U | None], failed: dict[str, str], *, counted: bool = True
    ) -> U | None:
        """What a source says; None where it fails, which is noted."""
        began = time.monotonic()
        found: U | None = None
        try:
            found = look(source)
        except InvalidInputError:  # The question is wrong, not the source.
            raise
        except _FAILURES as error:
            failed[source.name] = str(error)
            _LOG.warning("read through: %s", error)
        with self._mutex:
            numbers = self._metrics[source.name] if counted else SourceMetrics()
            numbers.asked += 1
            numbers.hits += bool(found)
            numbers.failures += source.name in failed
            numbers.seconds += time.monotonic() - began
        return found

    def _must_have(self, known: bool, wanted: str, failed: dict[str, str]) -> None:
        if not known:
            raise SourcesFailedError(wanted=wanted, errors=failed)

    def _is_fresh(self, key: _Key) -> bool:
        with self._mutex:
            at = self._asked_at.get(key)
        return at is not None and time.monotonic() < at + self._ttl

    def _note(self, key: _Key, since: int) -> None:
        """It was asked; what was invalidated meanwhile may have been read before it changed."""
        with self._mutex:
            if self._invalidated == since:
                self._asked_at[key] = time.monotonic()

    def __enter__(self) -> ReadThrough:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Asked(NamedTuple):
    """A session that was asked for, who had it, and who failed."""

    found: Conversation | None
    source: str
    failed: dict[str, str]


def _messages_of(workspace_id: str, session_id: str) -> Callable[[Source], Conversation | None]:
    return lambda source: source.messages(workspace_id, session_id)
