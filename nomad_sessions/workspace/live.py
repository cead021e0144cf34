"""What the records of the live segment say, before a seal does: whose they are, whose message is whose, what is gone.

Invariant: together with the seals' tables and the snapshot's, this names every record, message and deletion once its
record has been absorbed; a seal made from it can stand for the whole segment, also for one who starts from an older
snapshot. Verified by `tests/unit/test_view.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from nomad_sessions.storage.segment import Entry
from nomad_sessions.workspace.places import Place, place_of
from nomad_sessions.workspace.state import WORKSPACE, Body

__all__ = ["Live", "index_record"]


class Live:
    """The index of the live segment. `places` are by session; `owners` give a message's session; `tombstones` the seq
    of a deletion; `folded` are the entries that the snapshot has already; `time` is what the segment's last record that
    says one says."""

    __slots__ = ("_heads", "_targets", "folded", "owners", "places", "time", "tombstones")

    def __init__(self) -> None:
        self.places: dict[str, list[Place]] = {}
        self.owners: dict[str, str] = {}
        self.tombstones: dict[str, int] = {}
        self.folded: list[tuple[Entry, int]] = []
        self._targets: dict[int, str] = {}
        self._heads: dict[str, int] = {}
        self.time = 0

    def add(self, entry: Entry, segment: int) -> None:
        """Notes where a record above the snapshot lies."""
        self.places.setdefault(entry.record["sessionId"], []).append(place_of(entry, segment))

    def note(self, session_id: str, places: list[Place]) -> None:
        """As `add` and `index`, for messages that were added to a session, one after the other."""
        self.places.setdefault(session_id, []).extend(places)
        self.owners.update(dict.fromkeys([place[5] for place in places], session_id))

    def index(self, record: Body) -> None:
        """Notes whose message is whose, and what is deleted."""
        index_record(record, self.owners, self.tombstones)

    def whole(self) -> tuple[dict[str, list[Place]], dict[str, str], dict[str, int]]:
        """Places, owners and tombstones of every record of the segment, folded ones included."""
        places: dict[str, list[Place]] = {}
        owners: dict[str, str] = {}
        tombstones: dict[str, int] = {}
        for entry, segment in self.folded:
            places.setdefault(entry.record["sessionId"], []).append(place_of(entry, segment))
            index_record(entry.record, owners, tombstones)
        for session_id, rows in self.places.items():
            places.setdefault(session_id, []).extend(rows)
        return places, {**owners, **self.owners}, {**tombstones, **self.tombstones}

    def head(self, message_id: str) -> int | None:
        """The seq of the segment's first delta of a message: what later ones call it by."""
        return self._heads.get(message_id)

    def knows(self, record: Body) -> bool:
        """Whether a record says, with what went before it in the segment, what it is about."""
        return "type" in record or "delta" in record or record.get("to") in self._targets

    def expand(self, record: Body, owner: Callable[[str], str | None]) -> None:
        """Completes a delta in place: it names its message the first time in a segment, then by that record's seq."""
        message_id = record.get("delta")
        if message_id is None:
            message_id = self._targets[record["to"]]
        else:
            self._targets[record["seq"]] = message_id
            self._heads[message_id] = record["seq"]
        session_id = record.get("sessionId") or self.owners.get(message_id) or owner(message_id) or WORKSPACE
        self.owners[message_id] = session_id  # The next token asks again.
        record |= {"type": "message.delta", "messageId": message_id, "sessionId": session_id}

    def next_segment(self) -> None:
        """What deltas call their messages by ends with a segment."""
        self._targets.clear()
        self._heads.clear()
        self.time = 0

    def clear(self) -> None:
        """The segment has been sealed: its tables tell all this now."""
        self.places.clear()
        self.owners.clear()
        self.tombstones.clear()
        self.folded.clear()
        self.next_segment()


def index_record(record: Body, owners: dict[str, str], tombstones: dict[str, int]) -> None:
    """Notes in the two dicts whose message is whose, and what is deleted."""
    kind, session_id = record["type"], record["sessionId"]
    if kind in ("message.added", "message.merged"):
        owners[record["messageId"]] = session_id
        for gone in record.get("dropped", ()):
            tombstones[gone] = record["seq"]
    elif kind == "session.forked":
        for _, new in record["messageIds"]:
            owners[new] = session_id
    elif kind == "message.deleted":
        tombstones[record["messageId"]] = record["seq"]
    elif kind == "session.deleted":
        tombstones[session_id] = record["seq"]
