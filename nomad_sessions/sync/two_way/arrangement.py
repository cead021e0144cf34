"""The order of a session's messages, and what a revert hid, on two machines: brought into one. Pure.

Invariant: a message that either side has is in the result, but for those that are known to be gone; what one of them
appended while the other did stands after it, each side's in its own order. Verified by `tests/unit/test_arrangement.py`
and `tests/properties/test_two_way.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from nomad_sessions.sync.two_way.versions import LISTS
from nomad_sessions.workspace.ordering import interleaved
from nomad_sessions.workspace.state import Body

__all__ = ["Arrangement", "arrangement_of", "combined"]


class Arrangement(NamedTuple):
    """The ids of a session's messages: those that are shown, those that a revert hides, and others."""

    order: list[str]
    hidden: list[str]
    detached: list[str]

    def ids(self) -> list[str]:
        """All of them."""
        return [*self.order, *self.hidden, *self.detached]

    def only(self, ids: Collection[str]) -> Arrangement:
        """Of these alone."""
        return Arrangement(*([each for each in part if each in ids] for part in self))

    def put_into(self, body: Body) -> None:
        """Makes this the arrangement of a session's body. Lists that are empty are left out, but the first."""
        for name, ids in zip(LISTS, self, strict=True):
            body.pop(name, None)
            if ids or name == LISTS[0]:
                body[name] = ids


def arrangement_of(body: Mapping[str, Any]) -> Arrangement:
    """That of a session's body."""
    return Arrangement(*([str(each) for each in body.get(name) or ()] for name in LISTS))


def combined(leading: Arrangement, other: Arrangement) -> Arrangement:
    """The messages of both, as `leading` has them; those that only the other has as that does, where that can be: what
    is hidden there, while nothing is here, is shown."""
    known = set(leading.ids())
    shown = [*other.order, *(() if leading.hidden else other.hidden)]
    fresh = [each for each in shown if each not in known]
    hidden = [each for each in other.hidden if each not in known] if leading.hidden else []
    detached = [each for each in other.detached if each not in known]
    return Arrangement(
        interleaved(leading.order, fresh, shown), [*leading.hidden, *hidden], [*leading.detached, *detached]
    )
