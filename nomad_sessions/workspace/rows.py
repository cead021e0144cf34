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
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["TABLES", "apply_to", "rows_in", "sessions_in"]

Row = dict[str, Any]
TABLES = {"task": "tasks", "mail": "mailbox"}
"""The top-level key of `sessions.json`, by the first half of a record's type."""


def rows_in(fields: Mapping[str, Any], key: str) -> Mapping[str, Row] | None:
    """The rows under a key, none where there is no such key; None where there is something else."""
    rows = fields.get(key, {})
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        return None
    return rows


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
