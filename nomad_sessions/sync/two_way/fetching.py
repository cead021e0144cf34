"""What changed in the common place, brought here: which records, in which order, in how large pieces.

Invariant: a record is known (`shadow.py`) to be as it is there only when it is here, durably; what had to wait is
fetched again. Verified by `tests/properties/test_two_way.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from nomad_sessions.sync.host import Host, looked
from nomad_sessions.sync.target import Kind
from nomad_sessions.sync.two_way import receiving
from nomad_sessions.sync.two_way.arrangement import arrangement_of
from nomad_sessions.sync.two_way.place import AT_ONCE, Place, pieces
from nomad_sessions.sync.two_way.receiving import Revs, Told
from nomad_sessions.sync.two_way.shadow import Shadow, known_of
from nomad_sessions.sync.two_way.versions import Version
from nomad_sessions.workspace.state import WORKSPACE
from nomad_sessions.workspace.store import Operation, Workspace
from nomad_sessions.workspace.view import View

__all__ = ["Fetched", "Fetcher"]

T = TypeVar("T")
_ROWS: tuple[Kind, ...] = ("task", "mail")


class Fetched(NamedTuple):
    """How many records were brought up to date, and whether all of them could be."""

    records: int
    complete: bool


class Fetcher:
    """One workspace, one place."""

    def __init__(
        self,
        host: Host,
        workspace_id: str,
        place: Place,
        place_id: str,
        shadow: Shadow,
        between: Callable[[int], None],
    ) -> None:
        """`between` is told, between two pieces of what is fetched, how many records were. Asks nobody yet."""
        self._host = host
        self._workspace_id = workspace_id
        self._place = place
        self._place_id = place_id
        self._shadow = shadow
        self._between = between
        self._count = 0
        self._complete = True
        self._told = Told(0, set())

    def fetch(self, sent: int, *, whole: bool) -> Fetched:
        """Brings what others did. `sent` is the seq up to which the place has been told of what was done here; with
        `whole`, all of it is looked at, not only what changed since the last time. Durable on return."""
        self._count, self._complete = 0, True
        self._told = Told(sent, set())
        changed, moments = self._changed(whole)
        self._top_level(changed["workspace"])
        for kind in _ROWS:
            for versions in self._read(kind, changed[kind]):
                self._take(versions, receiving.rows(self._place_id, list(versions.values()), self._told))
        messages = dict.fromkeys(changed["message"])
        for versions in self._read("session", changed["session"]):
            self._sessions([versions[each] for each in sorted(versions)], messages)
        for versions in self._read("message", list(messages)):
            self._loose(versions)
        for versions in self._read("event", changed["event"]):
            self._take(versions, receiving.events(self._place_id, _in_order(versions)))
        if self._complete:
            for kind, moment in moments.items():
                self._shadow.tell(f"since-{kind}", str(moment))
        return Fetched(self._count, self._complete)

    def _changed(self, whole: bool) -> tuple[dict[Kind, list[str]], dict[Kind, int]]:
        """By kind, the ids of what is otherwise there than it was; and the moments for the next time.

        Sessions are asked for first: whose messages come later than that come with the next change of theirs."""
        found: dict[Kind, list[str]] = {}
        moments: dict[Kind, int] = {}
        for kind in ("session", "message", *_ROWS, "workspace", "event"):
            since = None if whole else self._shadow.told(f"since-{kind}")
            there, moments[kind] = self._place.numbers(self._workspace_id, kind, None if since is None else int(since))
            found[kind] = self._shadow.otherwise(kind, there)
        return found, moments

    def _read(self, kind: Kind, ids: Iterable[str]) -> Iterator[dict[str, Version]]:
        return pieces(self._place, self._workspace_id, kind, ids)

    def _take(self, versions: Mapping[str, Version], operation: Operation[Revs]) -> None:
        revs = self._use(partial(Workspace.commit, operation=operation))
        self._told.fetched.update(revs.now.values(), (now for _, now in revs.beside.values()))
        self._use(Workspace.flush)  # Before it is noted that it is here.
        done = {each.key: known_of(each, revs.now[each.key]) for each in versions.values() if each.key in revs.now}
        for key, (before, now) in revs.beside.items():  # Where it was as it is there, it is so under another rev.
            known = self._shadow.known(key.kind, [key.id]).get(key.id)
            if known is not None and known.rev == before:
                done[key] = known._replace(rev=now)
        self._shadow.note(done)
        self._count += len(done)
        self._complete &= all(each.key in done for each in versions.values())
        self._between(self._count)

    def _top_level(self, changed: Collection[str]) -> None:
        for versions in self._read("workspace", list(changed)):
            for each in versions.values():
                self._take({each.key.id: each}, receiving.top_level(self._place_id, each, self._told))

    def _sessions(self, versions: Iterable[Version], changed: dict[str, None]) -> None:
        """Sessions, each with those of its messages that are otherwise there, or not here. They are changed no more.
        The messages of some sessions are read at once: singly, each session would cost a round trip."""
        some: list[tuple[Version, list[str]]] = []
        for each in versions:
            some.append((each, self._wanted(each, changed)))
            if sum(len(wanted) for _, wanted in some) >= AT_ONCE:
                self._with_messages(some, changed)
                some = []
        self._with_messages(some, changed)

    def _wanted(self, version: Version, changed: Collection[str]) -> list[str]:
        """The messages that are read with a session."""
        ids = [] if version.body is None else arrangement_of(version.body).ids()
        here = self._look(partial(View.session, session_id=version.key.id))
        absent = [each for each in ids if here is None or here.message(each) is None]
        gone = {name for name, known in self._shadow.known("message", absent).items() if known.gone}
        others = [] if here is None else here.ids()
        wanted = [each for each in absent if each in changed or each not in gone]
        return [*wanted, *(each for each in others if each in changed)]

    def _with_messages(self, some: Sequence[tuple[Version, Sequence[str]]], changed: dict[str, None]) -> None:
        messages: dict[str, Version] = {}
        for found in self._read("message", dict.fromkeys(each for _, wanted in some for each in wanted)):
            messages |= found
        for version, wanted in some:
            owners = (None, version.key.id)
            there = (messages[each] for each in wanted if each in messages)
            mine = {each.key.id: each for each in there if each.session_id in owners}
            operation = receiving.session(self._place_id, version, mine, self._told)
            self._take({**mine, version.key.id: version}, operation)
            for name in mine:
                changed.pop(name, None)

    def _loose(self, versions: Mapping[str, Version]) -> None:
        """Messages of sessions that have not changed otherwise."""
        owners = self._look(lambda view: view.owners(list(versions)))
        groups: dict[str, dict[str, Version]] = {}
        for name, each in versions.items():
            owner = owners.get(name) if each.body is None else each.session_id
            if owner is not None:
                groups.setdefault(owner, {})[name] = each
            else:  # Gone, and never here.
                self._shadow.note({each.key: known_of(each, 0)})
        for session_id, mine in groups.items():
            state = self._look(partial(View.session, session_id=session_id))
            if session_id == WORKSPACE:
                self._take(mine, receiving.loose_messages(self._place_id, session_id, mine, self._told))
            elif state is not None:
                left = dict.fromkeys(mine)
                if any(each.body is not None and state.message(name) is None for name, each in mine.items()):
                    session = self._place.read(self._workspace_id, "session", [session_id])
                    self._sessions(session.values(), left)  # Deleted, and there again; else they come with the session.
                here = {name: mine[name] for name in left if mine[name].body is None or state.message(name) is not None}
                self._take(here, receiving.loose_messages(self._place_id, session_id, here, self._told))
            else:
                self._shadow.note({each.key: known_of(each, 0) for each in mine.values() if each.body is None})

    def _look(self, look: Callable[[View], T]) -> T:
        return looked(self._host, self._workspace_id, look)

    def _use(self, use: Callable[[Workspace], T]) -> T:
        return self._host._use(self._workspace_id, use)


def _in_order(versions: Mapping[str, Version]) -> list[Version]:
    """Events in the order in which they were recorded, as far as clocks tell."""
    return sorted(versions.values(), key=lambda each: (each.stamps.alive.time, each.key.id))
