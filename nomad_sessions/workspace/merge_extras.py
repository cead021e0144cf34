"""Merging what another program wrote beside the sessions: rows one by one, other top-level keys whole. Pure.

Nothing is ever deleted: a writer that knows nothing of a key gives back what it once read. What both sides changed
stays ours, and theirs goes to quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nomad_sessions.workspace.comparing import ABSENT, same
from nomad_sessions.workspace.rows import TABLES, rows_in
from nomad_sessions.workspace.state import WORKSPACE, Body

__all__ = ["displacement", "merge_extras"]

_KINDS = {table: kind for kind, table in TABLES.items()}


def displacement(reason: str, kind: str, identifier: str, record: Any) -> Body:
    """What a merge took out, as it goes to quarantine."""
    return {"reason": reason, "kind": kind, "id": identifier, "record": record}


def merge_extras(
    ours: Body, theirs: Body, known: Sequence[Body], *, stranger: bool = False
) -> tuple[list[Body], list[Body]]:
    """The changes that give us what they changed, and what is displaced. `known` is what they had seen of us or written
    themselves before, the newest first. A `stranger`'s rows that we have not are displaced: they may be ours from
    before, and dealt with since, and mail that was acknowledged must not come again."""
    changes: list[Body] = []
    displaced: list[Body] = []
    whole: Body = {}
    for key, value in theirs.items():
        kind, own = _KINDS.get(key), rows_in(ours, key)
        if kind is None or own is None or not (own or stranger):
            whole[key] = value
            continue
        # A table that we keep rows in stays one, whatever they have made of it: what is no row is kept aside.
        rows = dict(rows_in(theirs, key) or {})
        left_out = {name: row for name, row in value.items() if name not in rows} if isinstance(value, dict) else value
        if left_out != {} and not any(same(value, each.get(key, ABSENT)) for each in known):
            displaced.append(displacement("no row of a table", kind, key, left_out))
        if stranger:
            for name in [each for each in rows if each not in own]:
                displaced.append(displacement("of another store, or gone from this one", kind, name, rows.pop(name)))
        before = [rows_in(each, key) or {} for each in known]
        for row_id, row in _changed(kind, own, rows, before, displaced):
            changes.append({"type": f"{kind}.merged", "sessionId": WORKSPACE, "rowId": row_id, "row": row})
    if new := dict(_changed("key", ours, whole, known, displaced)):
        changes.append({"type": "workspace.updated", "sessionId": WORKSPACE, "set": new})
    return changes, displaced


def _changed(
    kind: str,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    known: Sequence[Mapping[str, Any]],
    displaced: list[Body],
) -> Iterator[tuple[str, Any]]:
    """What they changed and we did not."""
    for name, value in theirs.items():
        own = ours.get(name, ABSENT)
        was = next((each[name] for each in known if name in each), ABSENT)
        if same(value, own) or same(value, was):
            continue
        if own is not ABSENT and not same(own, was):
            displaced.append(displacement("changed by us and by another program", kind, name, value))
            continue
        yield name, value
