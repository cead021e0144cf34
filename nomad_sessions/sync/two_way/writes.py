"""From the log to what this machine did: which fields of which records its entries wrote, each with its stamp. Pure.

What was fetched from the common place is in the log too, marked; it is no doing of ours. Verified by
`tests/unit/test_two_way_writes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from nomad_sessions.sync.changes import FETCHED
from nomad_sessions.sync.target import Key
from nomad_sessions.sync.two_way.versions import ARRANGEMENT, Stamp
from nomad_sessions.workspace.rows import TABLES
from nomad_sessions.workspace.state import RECORDED, WORKSPACE, Body

__all__ = ["Deed", "Deeds", "fetched_mark"]

_CONTENT = ("content",)
_REVERT = (ARRANGEMENT,)


class Deed(NamedTuple):
    """What was done to a record; see `Write`. `ended` is when one of its name was deleted, if one was."""

    alive: Stamp
    fields: dict[str, Stamp]
    whole: Stamp | None = None
    ended: Stamp | None = None


class _Whole(Enum):
    """In place of the names of fields: every one; or the record is gone."""

    ALL = "all"
    GONE = "gone"


_Named = Sequence[str] | _Whole


def fetched_mark(place: str, time: int, identifier: str | None = None) -> list[Any]:
    """What an entry has under `FETCHED`."""
    return [place, time] if identifier is None else [place, time, identifier]


class Deeds:
    """Takes the entries of a log in their order, and gathers what they did."""

    def __init__(self, workspace_id: str, place: str, machine: str, floor: int) -> None:
        """`floor` is the time below which no stamp may lie: above all that this machine had seen before."""
        self.found: dict[Key, Deed] = {}
        self.floor = floor
        self._workspace_id = workspace_id
        self._place = place
        self._machine = machine

    def take(self, record: Body) -> None:
        """The next entry."""
        mark = record.get(FETCHED)
        if mark is not None and mark[0] == self._place:
            self.floor = max(self.floor, mark[1] + 1)
            return
        self.floor = max(self.floor, record.get("ts", 0))
        stamp = Stamp(self.floor, self._machine, record["seq"])
        for key, names in _done(self._workspace_id, record):
            self._note(key, names, stamp)

    def _note(self, key: Key, names: _Named, stamp: Stamp) -> None:
        before = self.found.get(key)
        if names is _Whole.GONE:
            self.found[key] = Deed(stamp, {}, ended=stamp)
        elif names is _Whole.ALL:
            self.found[key] = Deed(stamp, {}, stamp, None if before is None else before.ended)
        elif before is None:
            self.found[key] = Deed(stamp, dict.fromkeys(names, stamp))
        else:
            self.found[key] = before._replace(alive=stamp, fields=before.fields | dict.fromkeys(names, stamp))


def _done(workspace_id: str, record: Body) -> Iterator[tuple[Key, _Named]]:
    """The records that an entry changed, and which of their fields."""
    kind, session_id = record["type"], record["sessionId"]
    table, _, what = kind.partition(".")
    if kind == RECORDED:
        return
    if table in TABLES and "rowId" in record:
        yield Key("task" if table == "task" else "mail", record["rowId"]), _row(what, record)
    elif kind == "workspace.updated":
        yield Key("workspace", workspace_id), _named(record)
    elif table == "message":
        yield from _message(what, record)
        if session_id != WORKSPACE:
            yield Key("session", session_id), (_REVERT if "dropped" in record else ())
    elif table == "session":
        yield Key("session", session_id), _session(what, record)
        if what == "forked":
            yield from ((Key("message", new), _Whole.ALL) for _, new in record["messageIds"])


def _row(what: str, record: Body) -> _Named:
    if what == "deleted":
        return _Whole.GONE
    return _named(record) if what == "updated" else _Whole.ALL


def _session(what: str, record: Body) -> _Named:
    if what in ("reverted", "unreverted"):
        return _REVERT
    if what == "updated":
        return [*_named(record), *(_REVERT if "messageIds" in record else ())]
    return _Whole.GONE if what == "deleted" else _Whole.ALL


def _message(what: str, record: Body) -> Iterator[tuple[Key, _Named]]:
    key = Key("message", record["messageId"])
    if what in ("added", "merged"):
        yield from ((Key("message", each), _Whole.GONE) for each in record.get("dropped", ()))
        yield key, _Whole.ALL
    elif what == "updated":
        yield key, _named(record)
    else:
        yield key, (_Whole.GONE if what == "deleted" else _CONTENT)


def _named(record: Mapping[str, Any]) -> list[str]:
    return [*record.get("set", ()), *record.get("unset", ())]
