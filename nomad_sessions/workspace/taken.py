"""Whether a merge took in all of another program's file: then the file itself need not be kept for ever.

Invariant: `took_all` says yes only where each value of each record, and each order of messages, is in the store after
the merge or was in it before (or in what this writer wrote the time before, of which the same is true, or which is
kept). In doubt it says no. Verified by `tests/properties/test_taken.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nomad_sessions.storage.codec import repeats_keys
from nomad_sessions.workspace.comparing import ABSENT, same
from nomad_sessions.workspace.foreign import Content, ForeignFile, millis
from nomad_sessions.workspace.merge import TIME, Merged
from nomad_sessions.workspace.rows import TABLES, rows_in
from nomad_sessions.workspace.state import Body

__all__ = ["took_all"]


def took_all(foreign: ForeignFile, theirs: Content, merged: Merged, known: Sequence[Content]) -> bool:
    """Whether everything in `foreign` is in the store after its merge, or was in it before.

    `theirs` is what the file says, `merged` what came of it, `known` the states that the store had or knew of before,
    ours first: also the one that the writer had seen, and what it wrote last. Cost: linear in them.
    """
    if merged.displaced or not _is_regular(foreign.data):
        return False
    sessions, messages, extras, orders = _said(merged)
    for each in known:
        for name, order in each.order.items():
            orders.setdefault(name, []).append(order)
    alive = {*known[0].messages, *messages}
    return (
        _has(theirs.sessions, sessions, [each.sessions for each in known])
        and _has(theirs.messages, messages, [each.messages for each in known])
        and _is_told(theirs.extras, [*extras, *(each.extras for each in known), _with_rows(merged, known[0])])
        # What we deleted stands nowhere any more: its place is nobody's loss.
        and all(
            _follows([one for one in order if one in alive], orders.get(name, ()))
            for name, order in theirs.order.items()
        )
        and not repeats_keys(foreign.raw)
    )


def _is_regular(data: Body) -> bool:
    """Whether everything is an object, or a list, where one must be: what is not was left out."""
    for key in ("sessions", "messages"):
        table = data.get(key, {})
        if not isinstance(table, dict) or not all(isinstance(each, dict) for each in table.values()):
            return False
    lists = [record.get("messageIds", []) for record in data.get("sessions", {}).values()]
    return all(isinstance(each, list) and all(isinstance(one, str) for one in each) for each in lists)


def _said(
    merged: Merged,
) -> tuple[dict[str, list[Body]], dict[str, list[Body]], list[Body], dict[str, list[list[str]]]]:
    """What the changes of a merge say of sessions, messages and further keys, and the orders that they give."""
    sessions: dict[str, list[Body]] = {}
    messages: dict[str, list[Body]] = {}
    extras: list[Body] = []
    orders: dict[str, list[list[str]]] = {}
    for change in merged.changes:
        kind, session_id = change["type"], change["sessionId"]
        if kind == "message.merged":
            messages.setdefault(change["messageId"], []).append(change["message"])
        elif kind == "workspace.updated":
            extras.append(change["set"])
        elif kind in ("session.created", "session.updated"):
            sessions.setdefault(session_id, []).append(change["session" if kind == "session.created" else "set"])
            orders.setdefault(session_id, []).append(change.get("messageIds", []))
    return sessions, messages, extras, orders


def _with_rows(merged: Merged, ours: Content) -> Body:
    """The tables of rows that the merge changed, as they are after it: what is told of a row is told of its table."""
    tables: Body = {}
    for change in merged.changes:
        kind, _, what = change["type"].partition(".")
        if what == "merged" and kind in TABLES:
            key = TABLES[kind]
            rows = tables.setdefault(key, dict(rows_in(ours.extras, key) or {}))
            rows[change["rowId"]] = change["row"]
    return tables


def _has(records: Mapping[str, Body], said: Mapping[str, list[Body]], known: Sequence[Mapping[str, Body]]) -> bool:
    for name, record in records.items():
        before = [table[name] for table in known if name in table]
        # A `rev` of what we know is ours, come back.
        fields = {key: value for key, value in record.items() if key != "rev" or not before}
        if not _is_told(fields, [*said.get(name, ()), *before]):
            return False
    return True


def _is_told(record: Body, versions: Sequence[Body]) -> bool:
    """Whether each value of a record is one that some version of it has."""
    for key, value in record.items():
        if key == TIME and any(millis(each.get(TIME)) >= millis(value) for each in versions):
            continue
        if not any(same(value, each.get(key, ABSENT)) for each in versions):
            return False
    return True


def _follows(order: list[str], versions: Iterable[list[str]]) -> bool:
    """Whether one of these orders has these ids in this order."""
    wanted = set(order)
    return not order or any([each for each in version if each in wanted] == order for version in versions)
