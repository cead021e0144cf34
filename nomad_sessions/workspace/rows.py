"""Rows that a workspace keeps beside its sessions: the tasks of agents, and the messages of its mailbox. Pure.

A row is a JSON object with an id. `tasks` and `mailbox` are top-level keys of `sessions.json`, each `{id: row}` in the
order of creation; a row's `rev` is the seq of its last change. A change is one record of the journal:

| record | what it has beside its type |
|---|---|
| `task.created`, `task.merged` | `rowId`, `row` |
| `task.updated` | `rowId`, `set`, `unset` |
| `task.deleted` | `rowId` |

and the same with `mail`. `about` names the session that it is about, for subscribers.

Invariant: a row is never changed, it is replaced by another, so that who has been given one keeps what it saw. Where
another program keeps something else under one of the keys, it stays as it is. Verified by `tests/unit/test_rows.py`.

Who has to find rows fast lays an index over a table (`indexed`): it lives as long as the table, and is told of each
change of it, so that none of its users has to look at every row again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

__all__ = ["TABLES", "apply_to", "indexed", "rows_in", "sessions_in"]

Row = dict[str, Any]
TABLES = {"task": "tasks", "mail": "mailbox"}
"""The top-level key of `sessions.json`, by the first half of a record's type."""


class Index(Protocol):
    """What is told of each change of a table."""

    def changed(self, row_id: str, row: Row | None) -> None:
        """The row is so from now on; None when it is gone."""
        ...


class _Indexed(dict[str, Row]):
    """A table with the index over it."""

    __slots__ = ("index",)
    index: Any


T = TypeVar("T", bound=Index)


def indexed(fields: dict[str, Any], key: str, make: Callable[[Mapping[str, Row]], T]) -> T | None:
    """The index over the rows under a key, made when it is first asked for; None where there is something else.

    To be asked by one kind of index for each key, under the mutex that guards the fields.
    """
    rows = fields.get(key)
    if type(rows) is not _Indexed:
        found = rows_in(fields, key)
        if found is None:
            return None
        table = _Indexed(rows or {})
        table.index = make(found)
        if key not in fields:  # Looking at what is not there does not make it.
            made: T = table.index
            return made
        fields[key] = rows = table
    index: T = rows.index
    return index


def rows_in(fields: Mapping[str, Any], key: str) -> Mapping[str, Row] | None:
    """The rows under a key, none where there is no such key; None where there is something else. What is no object
    among them is no row, and stays where it is."""
    rows = fields.get(key, {})
    if not isinstance(rows, dict):
        return None
    if all(isinstance(row, dict) for row in rows.values()):
        return rows
    return {name: row for name, row in rows.items() if isinstance(row, dict)}


def sessions_in(rows: Mapping[str, Row] | None) -> frozenset[str]:
    """The ids of the sessions that rows are of."""
    named = (row.get("sessionId") for row in (rows or {}).values())
    return frozenset(each for each in named if isinstance(each, str))


def apply_to(fields: dict[str, Any], record: Mapping[str, Any]) -> None:
    """Changes the rows in a workspace's fields as a record says. One that is about no row there changes nothing."""
    kind, _, what = record["type"].partition(".")
    rows = fields.setdefault(TABLES[kind], {})
    if not isinstance(rows, dict):
        return
    identifier: str = record["rowId"]
    if what in ("created", "merged"):
        rows[identifier] = {**record["row"], "rev": record["seq"]}
    elif what == "deleted":
        rows.pop(identifier, None)
    elif identifier in rows:
        gone = record.get("unset", ())
        kept = {name: value for name, value in rows[identifier].items() if name not in gone}
        rows[identifier] = {**kept, **record.get("set", {}), "rev": record["seq"]}
    if type(rows) is _Indexed:
        rows.index.changed(identifier, rows.get(identifier))
