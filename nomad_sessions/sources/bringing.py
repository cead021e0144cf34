"""A session from where it is: here, or whole from the first source that has it, kept here from then on.

Invariant: what is written through is a whole session, so that no half of one is ever found here; that a source failed
is said, and never that it has nothing. Verified by `tests/unit/test_read_through.py` and
`tests/unit/test_read_through_trouble.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pydantic

from nomad_sessions.errors import InvalidInputError, NomadSessionsError, SourcesFailedError
from nomad_sessions.forking import Mutex
from nomad_sessions.models import Message, Session
from nomad_sessions.sources.asking import Asked, Key, Turns
from nomad_sessions.sources.places import LocalSource
from nomad_sessions.sources.source import Conversation, Record, Source
from nomad_sessions.sources.writing import origin_of, write_session

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["FAILURES", "Bringing", "Brought", "SourceMetrics"]

_LOG = logging.getLogger("nomad_sessions")
U = TypeVar("U")
FAILURES = (NomadSessionsError, OSError)


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


class Brought(NamedTuple):
    """A session that was asked for, who had it, and who failed; whether it is kept here, where it was found."""

    found: Conversation | None
    source: str
    failed: dict[str, str]
    is_kept: bool = True


class Bringing:
    """The store and the sources behind it. Safe for several threads."""

    def __init__(self, manager: NativeSessionManager, sources: Iterable[Source], ttl: float) -> None:
        """Raises `InvalidInputError` for two sources of one name."""
        self._manager = manager
        self.local = LocalSource(manager)
        self.sources = list(sources)
        self.asked = Asked(ttl)
        self.turns = Turns()
        self._mutex = Mutex()
        self._metrics = {self.local.name: SourceMetrics()}
        for each in self.sources:
            if each.name in self._metrics:
                raise InvalidInputError(field="sources", value=each.name, reason="is the name of two of them")
            self._metrics[each.name] = SourceMetrics()

    def whole(self, workspace_id: str, session_id: str, *, bodies: bool) -> Brought:
        """A session; with the messages that it has here, where these are wanted."""
        key = ("session", workspace_id, session_id)
        asked, others = self._here(key, bodies)
        if others is None:
            return asked
        with self.turns.of(key) as waited:
            if waited:  # Who asked before may have brought it.
                asked, others = self._here(key, bodies)
            return asked if others is None else self.brought(key, asked, others)

    def _here(self, key: Key, bodies: bool) -> tuple[Brought, Sequence[Source] | None]:
        """What is here of a session, and whom to ask for it; None for nobody."""
        _, workspace_id, session_id = key
        failed: dict[str, str] = {}
        here = self.ask(self.local, (_messages_of if bodies else _session_of)(workspace_id, session_id), failed)
        asked = Brought(here, self.local.name, failed)
        if here is None:
            return asked, self.sources
        known = self.asked.fresh(key)
        if known is not None:
            failed.update(known)
            return asked, None
        moment = self.asked.moment
        origin = self.origin(here.session, workspace_id, failed)
        if origin is None and failed:
            self.asked.note(key, moment, failed)
        return asked, None if origin is None else (origin,)

    def brought(self, key: Key, asked: Brought, others: Sequence[Source]) -> Brought:
        """A session from the first of these sources that has it whole."""
        _, workspace_id, session_id = key
        failed, moment = asked.failed, self.asked.moment
        answered = asked.found is not None
        half: Brought | None = None
        for source in others:
            said: dict[str, str] = {}
            found = self.ask(source, _messages_of(workspace_id, session_id), said)
            if found is not None and found.missing:
                said[source.name] = f"it lacks {found.missing} messages of session {session_id}"
                found = self._readable(source, found, said)
                half = Brought(found, source.name, failed, False) if half is None and found is not None else half
                found = None
            kept = None if found is None else self._kept(source, workspace_id, found, said)
            answered = answered or not said
            failed.update(said)
            if kept is not None:
                if kept.is_kept:
                    self.asked.note(key, moment, failed)
                return kept._replace(failed=failed)
        if half is not None and asked.found is None:
            return half
        self.must_have(answered or not failed, f"session {session_id}", failed)
        if asked.found is not None:
            self.asked.note(key, moment, failed)
        return asked

    def _kept(self, source: Source, workspace_id: str, found: Conversation, failed: dict[str, str]) -> Brought | None:
        """Writes a session through; as the store has it then, or, where the store cannot take it, as it was found. None
        for what is no session, which is noted."""
        try:
            write_session(self._manager, workspace_id, source, found)
            stored = self.local.messages(workspace_id, str(found.session["id"]))
        except FAILURES as error:
            _LOG.warning("read through: %s cannot be kept here: %s", found.session.get("id"), error)
            stored = None
        if stored is not None:
            return Brought(stored, source.name, failed)
        readable = self._readable(source, found, failed)
        return None if readable is None else Brought(readable, source.name, failed, False)

    def _readable(self, source: Source, found: Conversation, failed: dict[str, str]) -> Conversation | None:
        """What was found, if it is a session; that it is none is noted."""
        try:
            Session.model_validate(found.session)
            for each in found.messages:
                Message.model_validate(each)
        except pydantic.ValidationError:
            failed[source.name] = f"session {found.session.get('id')!r} there cannot be read"
            _LOG.warning("read through: %s: %s", source.name, failed[source.name])
            return None
        return found

    def origin(self, record: Record, workspace_id: str, failed: dict[str, str]) -> Source | None:
        """The source that a session came from; None too where that cannot say which it is."""
        for source in self.sources:
            if self.ask(source, lambda each: origin_of(record, [each], workspace_id), failed, counted=False):
                return source
        return None

    def ask(
        self, source: Source, look: Callable[[Source], U | None], failed: dict[str, str], *, counted: bool = True
    ) -> U | None:
        """What a source says; None where it fails, which is noted."""
        began = time.monotonic()
        found: U | None = None
        reason: str | None = None
        try:
            found = look(source)
        except InvalidInputError:  # The question is wrong, not the source.
            raise
        except FAILURES as error:
            failed[source.name] = reason = str(error)
            _LOG.warning("read through: %s", error)
        with self._mutex:
            numbers = self._metrics[source.name] if counted else SourceMetrics()
            numbers.asked += 1
            numbers.hits += bool(found)
            numbers.failures += reason is not None
            numbers.seconds += time.monotonic() - began
        return found

    def must_have(self, known: bool, wanted: str, failed: dict[str, str]) -> None:
        """Raises `SourcesFailedError` where nobody could say."""
        if not known:
            raise SourcesFailedError(wanted=wanted, errors=failed)

    def metrics(self) -> dict[str, SourceMetrics]:
        """What each source was asked, by name."""
        with self._mutex:
            return {name: SourceMetrics(**vars(each)) for name, each in self._metrics.items()}


def _messages_of(workspace_id: str, session_id: str) -> Callable[[Source], Conversation | None]:
    return lambda source: source.messages(workspace_id, session_id)


def _session_of(workspace_id: str, session_id: str) -> Callable[[Source], Conversation | None]:
    def look(source: Source) -> Conversation | None:
        found = source.get_session(workspace_id, session_id)
        return None if found is None else Conversation(found, (), 0)

    return look
