"""What several machines agree on: a record as it is in their common place, and who wrote which field of it when. Pure.

Every field of a record has a stamp, `(time, machine, seq)`, and the highest wins: a last-writer-wins map for each
record, as in Shapiro et al., "A comprehensive study of convergent and commutative replicated data types" (2011). The
time is that of the change on its machine, in ms, raised above every stamp that the machine had seen by then (a hybrid
logical clock, Kulkarni et al. 2014): who edits what he has just read wins, whatever the clocks say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nomad_sessions.sync.target import Key
from nomad_sessions.workspace.state import Body

__all__ = ["ARRANGEMENT", "LISTS", "Stamp", "Stamps", "Version", "Write", "moment_of"]

LISTS = ("messageIds", "hiddenIds", "detachedIds")
"""What of a session's body names its messages."""
ARRANGEMENT = LISTS[0]
"""The name under which a session's stamps have that of its order and its revert. Who appends does not write it."""


_TIMES = ("updatedAt", "lastActivity", "createdAt", "timestamp")


def moment_of(body: Mapping[str, Any]) -> int:
    """When a record was last changed, as far as it says so itself, in ms; else 0."""
    return next((each for name in _TIMES if type(each := body.get(name)) is int), 0)


class Stamp(NamedTuple):
    """When, on which machine, and as which of its changes. Stamps are ordered, and no two changes have the same."""

    time: int
    machine: str
    seq: int


class Stamps(NamedTuple):
    """Of a record: `base` for each field that `fields` does not name, and `alive`, the highest of what anybody did to
    it, or, for a session, to its messages. Of one that is gone: all of them its deletion."""

    base: Stamp
    fields: Mapping[str, Stamp]
    alive: Stamp

    def of(self, field: str) -> Stamp:
        """That of a field, there or not."""
        return self.fields.get(field, self.base)


class Version(NamedTuple):
    """A record in the common place. `number` counts its changes there, from 1; `body` is None where it is gone, and has
    no `rev`, which is of one store alone."""

    key: Key
    number: int
    body: Body | None
    session_id: str | None
    stamps: Stamps


class Write(NamedTuple):
    """What one machine did to a record since it last said so.

    `whole` is the stamp of every field that `fields` does not name, None where those were not written. With `certain`
    False it is only known that the record is so: where the values are the same, nothing was written. `gone` is the
    stamp of its deletion, where that came last; `alive` as in `Stamps`.
    """

    key: Key
    body: Mapping[str, Any] | None
    session_id: str | None
    alive: Stamp
    fields: Mapping[str, Stamp]
    whole: Stamp | None = None
    gone: Stamp | None = None
    certain: bool = True
