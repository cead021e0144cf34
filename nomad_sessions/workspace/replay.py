"""Building sessions from their records: those that are asked for, and as much as it takes of what they are forks of.

Invariant: each record is read and applied once, in the order of seq across all the sessions that are built, so that a
fork finds its source as it was at that moment. A chain of forks costs its records and its copies, however long it is
and however many of it are wanted. Verified by `tests/unit/test_fork_chains.py` and `tests/unit/test_view.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol

from nomad_sessions.workspace.places import Place
from nomad_sessions.workspace.state import Ref, SessionState, Source, added, apply, extended

__all__ = ["History", "Records", "replay"]

_ALL = 1 << 63
_new = tuple.__new__  # Half the time of the class's own call.
_alike = itemgetter(1, 4)
"""Of a place, the segment and the kind."""


class History(NamedTuple):
    """The records of one session above the snapshot, by seq: those in sealed segments, those in the live one; and the
    session's time (ms) after the sealed ones, 0 where only reading them tells."""

    sealed: list[Place]
    live: list[Place]
    time: int


class Records(Protocol):
    """Where sessions and their records are found."""

    def stored(self, session_id: str) -> SessionState | None:
        """The session as the snapshot has it, for the caller to change."""
        ...

    def histories(self, ids: Collection[str]) -> dict[str, History]:
        """What lies above the snapshot, of each of these sessions. Cheaper for many at once."""
        ...

    def at_hand(self, session_id: str, seq: int) -> SessionState | None:
        """The session as it was just before `seq`, where that is known already: read it, do not change it."""
        ...

    def source(self, first_seq: int) -> Source:
        """What to read the records of a segment from."""
        ...


def replay(wanted: Iterable[str], records: Records) -> dict[str, SessionState | None]:
    """These sessions with all their records applied, None for one that is not there (any more)."""
    asked = list(wanted)
    histories, bounds = _needed(asked, records)
    states = {each: records.stored(each) for each in bounds}
    _run(states, {each: histories[each].sealed for each in bounds}, bounds, records)
    for each in asked:
        state, time = states[each], histories[each].time
        if state is not None and time:
            state.fields["updatedAt"] = time
    _run(states, {each: histories[each].live for each in bounds}, bounds, records)
    return {each: states[each] for each in asked}


def _needed(asked: list[str], records: Records) -> tuple[dict[str, History], dict[str, int]]:
    """The histories of the sessions to be built, and the seq up to which each of them is needed."""
    histories: dict[str, History] = {}
    bounds: dict[str, int] = {}
    rest = dict.fromkeys(asked, _ALL)
    while rest:
        histories |= records.histories([each for each in rest if each not in histories])
        sources: dict[str, int] = {}
        for session_id, bound in rest.items():
            done = bounds.get(session_id, 0)
            bounds[session_id] = bound
            found = histories[session_id]
            for place in (*_forks(found.sealed), *_forks(found.live)):
                if done <= place.seq < bound and records.at_hand(place.subject, place.seq) is None:
                    sources[place.subject] = max(place.seq, sources.get(place.subject, 0))
        rest = {each: bound for each, bound in sources.items() if bound > bounds.get(each, 0)}
    return histories, bounds


def _forks(places: list[Place]) -> list[Place]:
    return [place for place in places if place[4] == "fork"]  # By its index: there may be a hundred thousand.


def _run(
    states: dict[str, SessionState | None], found: dict[str, list[Place]], bounds: dict[str, int], records: Records
) -> None:
    """Applies the records at these places of each session, in order. Reads only those that have to be."""
    for session_id, places in _in_order(found):
        state, bound = states[session_id], bounds[session_id]
        due = places if not places or places[-1].seq < bound else [place for place in places if place.seq < bound]
        for (segment, kind), alike in groupby(due, _alike):
            source = records.source(segment)
            if kind == "added":
                if state is not None:
                    added(state, list(alike), source)
                continue
            for seq, _, offset, length, _, subject, _ in alike:
                ref = _new(Ref, (source, offset, length))
                if kind != "delta":
                    state = apply(state, ref.load(), ref, partial(_source, states, records, seq))
                elif state is not None:
                    extended(state, subject, ref, seq)
        states[session_id] = state


def _in_order(found: dict[str, list[Place]]) -> Iterable[tuple[str, list[Place]]]:
    """Sessions with their places, one after the other; where one is a fork, which has to find what it copies as it was
    at that moment, place by place."""
    if len(found) < 2 or not any(map(_forks, found.values())):
        return found.items()
    single = [(place.seq, each, [place]) for each, places in found.items() for place in places]
    return [(each, place) for _, each, place in sorted(single)]


def _source(states: dict[str, SessionState | None], records: Records, seq: int, session_id: str) -> SessionState | None:
    """The session that a fork copies, as it was just before `seq`, which is how far those being built have come."""
    return records.at_hand(session_id, seq) or states.get(session_id)
