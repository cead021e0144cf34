"""A workspace made again from a target, on a machine that has it no more, or never had.

Invariant: a session arrives with all its messages, or not yet; what is here already is not touched, so that a restore
that was cut short goes on when it is repeated. Verified by `tests/unit/test_restoring.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nomad_sessions.errors import AlreadyExistsError
from nomad_sessions.operations.plain import plain, without
from nomad_sessions.operations.recording import record
from nomad_sessions.operations.whole import place
from nomad_sessions.sync.host import Host, all_recorded, looked
from nomad_sessions.sync.target import Change, Kind, Stored, SyncTarget
from nomad_sessions.workspace.rows import TABLES, rows_in
from nomad_sessions.workspace.state import WORKSPACE, Body
from nomad_sessions.workspace.view import View

__all__ = ["Restored", "restore"]

_AT_ONCE = 500
_ROWS: tuple[Kind, ...] = ("task", "mail")
_LISTS = ("messageIds", "hiddenIds", "detachedIds")


class Restored(NamedTuple):
    """What a restore brought: how many of each, and how many sessions were here already. `incomplete` names messages
    that a session has, and the target has not."""

    sessions: int
    messages: int
    tasks: int
    mail: int
    events: int
    already: int
    incomplete: list[str]


def restore(
    host: Host, workspace_id: str, target: SyncTarget, progress: Callable[[int, int], None] | None = None
) -> Restored:
    """Brings everything that a target has of a workspace into the one of this name here, ids and times kept.

    Raises `AlreadyExistsError` where this one has a session that the target has not: it is another; and
    `TargetUnavailableError`. Each session is durable when the next begins; `progress` is told how many, of how many.
    """
    listed = [each.id for each in _all(target, workspace_id, "session")]
    here = looked(host, workspace_id, lambda view: set(view.summaries()))
    for other in sorted(here.difference(listed))[:1]:
        raise AlreadyExistsError(kind="session", id=other)
    sessions = messages = already = 0
    missing: list[str] = []
    for number, session_id in enumerate(listed, 1):
        if session_id in here:
            already += 1
        else:
            brought, lacking = _session(host, workspace_id, target, session_id)
            sessions, messages = sessions + (brought is not None), messages + (brought or 0)
            missing += lacking
        if progress is not None:
            progress(number, len(listed))
    rows = {kind: _rows(host, workspace_id, target, kind) for kind in _ROWS}
    _workspace(host, workspace_id, target)
    events = _events(host, workspace_id, target)
    return Restored(sessions, messages, rows["task"], rows["mail"], events, already, missing)


def _session(host: Host, workspace_id: str, target: SyncTarget, session_id: str) -> tuple[int | None, list[str]]:
    """How many messages came with it, None where it was deleted meanwhile; and which it should have had."""
    found = target.fetch(workspace_id, "session", [session_id]).get(session_id)
    if found is None or found.body is None:
        return None, []
    lists = [[str(each) for each in found.body.get(name) or ()] for name in _LISTS]
    fields = without(found.body, *_LISTS, "rev")
    bodies = _fetched(target, workspace_id, "message", [each for ids in lists for each in ids])
    kept, hidden, detached = ([without(bodies[each], "rev") for each in ids if each in bodies] for ids in lists)
    missing = [each for ids in lists for each in ids if each not in bodies]
    done = host._use(workspace_id, lambda each: each.commit(place(fields, [*kept, *hidden], len(kept), detached)))
    return (len(bodies) if done else None), missing


def _rows(host: Host, workspace_id: str, target: SyncTarget, kind: Kind) -> int:
    """Brings the tasks, or the mail, that are not here."""
    if kind not in target.kinds:
        return 0
    names = [each.id for each in _all(target, workspace_id, kind)]
    rows = _fetched(target, workspace_id, kind, names)

    def operation(view: View, stamp: Any) -> tuple[list[Body], Any]:
        known = rows_in(view.workspace().fields, TABLES[kind]) or {}
        new = {name: row for name, row in rows.items() if name not in known}
        changes = [
            {
                "type": f"{kind}.merged",
                "sessionId": WORKSPACE,
                "rowId": name,
                "about": row.get("sessionId"),
                "row": without(row, "rev"),
            }
            for name, row in new.items()
        ]
        return changes, lambda _: len(new)

    count: int = host._use(workspace_id, lambda each: each.commit(operation)) if rows else 0
    return count


def _workspace(host: Host, workspace_id: str, target: SyncTarget) -> None:
    """Brings further top-level keys, settings, and messages of no session, as far as there are none here."""
    found = _fetched(target, workspace_id, "workspace", [workspace_id]).get(workspace_id)
    if found is None:
        return

    def operation(view: View, stamp: Any) -> tuple[list[Body], Any]:
        state = view.workspace()
        fields = {key: value for key, value in found["fields"].items() if key not in state.fields}
        settings = {key: value for key, value in found["settings"].items() if key not in state.settings}
        settings.pop("merged", None)  # Of the files that were merged there.
        changes: list[Body] = []
        if fields:
            changes.append({"type": "workspace.updated", "sessionId": WORKSPACE, "set": plain(fields)})
        if settings:
            changes.append({"type": "workspace.configured", "sessionId": WORKSPACE, "settings": plain(settings)})
        return changes, lambda _: None

    host._use(workspace_id, lambda each: each.commit(operation))


def _events(host: Host, workspace_id: str, target: SyncTarget) -> int:
    """Brings what somebody recorded and is not here, in the order in which it was."""
    if "event" not in target.kinds:
        return 0
    rows = sorted(_all(target, workspace_id, "event"), key=lambda each: each.rev)
    bodies = _fetched(target, workspace_id, "event", [each.id for each in rows])
    known = {each.body["id"] for each in all_recorded(host, workspace_id) if each.body is not None}
    found = (bodies[each.id] for each in rows if each.id in bodies)
    items = [without(body, "seq") for body in found if body["id"] not in known]
    return len(host._use(workspace_id, lambda each: each.commit(record(items)))) if items else 0


def _all(target: SyncTarget, workspace_id: str, kind: Kind) -> Iterator[Stored]:
    after = ""
    while page := target.scan(workspace_id, kind, after=after):
        yield from page
        after = page[-1].id


def _fetched(target: SyncTarget, workspace_id: str, kind: Kind, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Change] = {}
    for begin in range(0, len(ids), _AT_ONCE):
        found |= target.fetch(workspace_id, kind, ids[begin : begin + _AT_ONCE])
    return {name: change.body for name, change in found.items() if change.body is not None}
