"""What a seal's tables say of the segments that it stands for.

A seal takes over its predecessors when `CARRY` of them have its size, as a counter carries: of n segments some
3 log4(n) seals have to be read, and each record stands in log4(n) tables (the levels of an LSM tree, without moving the
records).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nomad_sessions.storage.journal import Sealed
from nomad_sessions.workspace.places import Summary, trimmed
from nomad_sessions.workspace.view import View

__all__ = ["CARRY", "Sealing", "seal_of"]

CARRY = 3


class Sealing(NamedTuple):
    """What a seal says: the older seals that it does not stand for, the rows of its tables, the first seqs of the
    segments that they cover, and a note: the last id, and the bytes of the records."""

    kept: list[Sealed]
    tables: dict[str, list[list[Any]]]
    covers: list[int]
    note: dict[str, Any]


def seal_of(view: View) -> Sealing:
    """What the seal of a view's live segment says."""
    kept, covers = list(view.sealed), [*(first for first, _ in view.journal.scanned), view.journal.live_first]
    merged: list[Sealed] = []
    while len(kept) >= CARRY and all(len(part.seal.covers) == len(covers) for part in kept[-CARRY:]):
        merged = kept[-CARRY:] + merged
        del kept[-CARRY:]
        covers = [first for part in merged for first in part.seal.covers] + [view.journal.live_first]
    tables = _Tables()
    for part in merged:
        tables.take_over(part)
    size = tables.add_live(view)
    note = {"lastId": view.last_id, "bytes": size + sum(part.seal.note["bytes"] for part in merged)}
    return Sealing(kept, tables.rows(), covers, note)


class _Tables:
    """The tables of a seal while they are put together: the oldest part first, the live segment last."""

    def __init__(self) -> None:
        self.sessions: dict[str, list[Any]] = {}
        self.places: dict[str, list[Any]] = {}
        self.messages: dict[str, str] = {}
        self.tombstones: dict[str, int] = {}

    def take_over(self, part: Sealed) -> None:
        for session_id, *summary in part.rows("sessions"):
            self.sessions[session_id] = summary
        for session_id, places in part.rows("places"):
            self.places.setdefault(session_id, []).extend(places)
        self.messages.update((row[0], row[1]) for row in part.rows("messages"))
        self.tombstones.update((row[0], row[1]) for row in part.rows("tombstones"))

    def add_live(self, view: View) -> int:
        """Adds the live segment; the bytes of its records."""
        places, owners, tombstones = view.live.whole()
        for session_id, rows in places.items():
            state = view.session(session_id)
            self.sessions[session_id] = list(Summary.of(state)[1:]) if state is not None else []
            self.places.setdefault(session_id, []).extend(map(trimmed, rows))
        self.messages.update(owners)
        self.tombstones.update(tombstones)
        return sum(place.length for rows in places.values() for place in rows)

    def rows(self) -> dict[str, list[list[Any]]]:
        return {
            "sessions": [[key, *value] for key, value in sorted(self.sessions.items())],
            "places": [[key, value] for key, value in sorted(self.places.items())],
            "messages": [[key, value] for key, value in sorted(self.messages.items())],
            "tombstones": [[key, value] for key, value in sorted(self.tombstones.items())],
        }
