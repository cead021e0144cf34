"""What other machines did, from the common place into the store: whole sessions at once, and nothing that is new here
is written over.

Invariant: a record that was changed here since the last push is left alone; it is fetched after the next. What is
brought is marked in the log, so that it is not sent back. Verified by `tests/properties/test_two_way.py` and
`tests/unit/test_two_way.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from nomad_sessions.operations.plain import plain, without
from nomad_sessions.operations.whole import records_of
from nomad_sessions.storage.codec import decode
from nomad_sessions.sync.changes import FETCHED
from nomad_sessions.sync.target import Key
from nomad_sessions.sync.two_way.arrangement import Arrangement, arrangement_of
from nomad_sessions.sync.two_way.versions import LISTS, Version
from nomad_sessions.sync.two_way.writes import fetched_mark
from nomad_sessions.workspace.comparing import ABSENT, same
from nomad_sessions.workspace.rows import TABLES, rows_in
from nomad_sessions.workspace.state import RECORDED, WORKSPACE, Body, MessageState, SessionState
from nomad_sessions.workspace.store import Operation
from nomad_sessions.workspace.view import View

__all__ = ["Revs", "Told", "events", "loose_messages", "rows", "session", "top_level"]


class Revs(NamedTuple):
    """The revs here of what is now as it is in the place; what is not among them has to wait. And of the sessions that
    were touched for it, and are otherwise as they were: their revs before, and now."""

    now: dict[Key, int]
    beside: dict[Key, tuple[int, int]]


_WAITS = Revs({}, {})


class Told(NamedTuple):
    """What of ours the place has been told: up to a seq; beyond that it has what this fetch itself made, the revs."""

    seq: int
    fetched: set[int]

    def knows(self, rev: int) -> bool:
        """Whether a record with this rev is no news."""
        return rev <= self.seq or rev in self.fetched


def _marked(place: str, changes: Iterable[Body], versions: Iterable[Version]) -> list[Body]:
    """The changes, marked with the place that they are from."""
    time = max((each.stamps.alive.time for each in versions), default=0)
    return [{**plain(each), FETCHED: fetched_mark(place, time)} for each in changes]


def session(place: str, version: Version, messages: Mapping[str, Version], told: Told) -> Operation[Revs]:
    """Makes a session what it is in the place, with these of its messages; what the place was not told of waits."""

    def operation(view: View, stamp: Any) -> tuple[list[Body], Callable[[View], Revs]]:
        state = view.session(version.key.id)
        if _is_newer(view, version.key.id, None if state is None else state.rev, told):
            return [], lambda _: _WAITS
        beside: dict[str, int] = {}
        changes = _moved(view, version.key.id, messages, told, beside)
        if changes is None:
            return [], lambda _: _WAITS
        if version.body is None:
            changes += [] if state is None else [{"type": "session.deleted", "sessionId": version.key.id}]
        else:
            changes += _made(version, messages) if state is None else _changed(view, state, version, messages)
        marked = _marked(place, changes, [version, *messages.values()])
        return marked, lambda after: _revs(after, [version.key, *(each.key for each in messages.values())], beside)

    return operation


def _is_newer(view: View, identifier: str, rev: int | None, told: Told) -> bool:
    """Whether a record was changed, or deleted, here since the place was told."""
    last = view.tombstones().get(identifier, 0) if rev is None else rev
    return not told.knows(last)


def _moved(
    view: View, session_id: str, messages: Mapping[str, Version], told: Told, beside: dict[str, int]
) -> list[Body] | None:
    """Takes those that another session has here out of it, which `beside` is told of with its rev; None where one of
    them was changed since the place was told. A message belongs to one session, and the place says to which; one that
    is gone there is gone from whichever session had it."""
    changes: list[Body] = []
    owners: dict[str, SessionState] = {}
    for name in view.owners(messages):
        found = view.message(name)
        if found is not None and found[0].id != session_id:
            if not told.knows(_rev(view, found[1])):
                return None
            owners[found[0].id] = found[0]
            changes.append({"type": "message.deleted", "sessionId": found[0].id, "messageId": name})
    beside.update((name, each.rev) for name, each in owners.items() if name != WORKSPACE)
    return [*changes, *(_as_it_was(each) for name, each in owners.items() if name != WORKSPACE)]


def _made(version: Version, messages: Mapping[str, Version]) -> list[Body]:
    """A session that is not here."""
    assert version.body is not None
    order = arrangement_of(version.body).only({name for name, each in messages.items() if each.body is not None})
    kept, hidden, detached = ([_body(messages[each]) for each in part] for part in order)
    fields = without(version.body, *LISTS)
    return records_of(fields, [*kept, *hidden], len(kept), detached)


def _changed(view: View, state: SessionState, version: Version, messages: Mapping[str, Version]) -> list[Body]:
    """What makes a session that is here the one that is there."""
    assert version.body is not None
    changes: list[Body] = []
    gone = set()
    fresh: dict[str, Body] = {}
    for name, each in messages.items():
        ours = state.message(name)
        if each.body is None:
            if ours is not None:
                gone.add(name)
                changes.append({"type": "message.deleted", "sessionId": state.id, "messageId": name})
        elif ours is None:
            fresh[name] = _body(each)
        elif not same(_plain_message(view, ours), _body(each)):
            change = {"type": "message.merged", "sessionId": state.id, "messageId": name, "message": _body(each)}
            changes.append(change)
    there = {each for each in state.ids() if each not in gone}
    wanted = arrangement_of(version.body).only(there | fresh.keys())
    before = Arrangement(list(state.order), list(state.hidden), list(state.detached)).only(there)
    changes += _arranged(state, before, wanted, fresh)
    return [*changes, *_fields(state, version.body, touched=bool(changes))]


def _arranged(state: SessionState, before: Arrangement, wanted: Arrangement, fresh: Mapping[str, Body]) -> list[Body]:
    """Adds messages, and brings all into the order that is wanted; what that does not name goes out of sight."""
    if not (before.hidden or wanted.hidden or wanted.detached != before.detached):
        known = len(before.order)
        if wanted.order[:known] == before.order and all(each in fresh for each in wanted.order[known:]):
            return [_message("message.added", state.id, fresh[each]) for each in wanted.order[known:]]
    changes = [_message("message.merged", state.id, fresh[each]) for each in wanted.ids() if each in fresh]
    if (before.order, before.hidden) == (wanted.order, wanted.hidden) and not changes:
        return []
    if before.hidden:
        changes.append({"type": "session.unreverted", "sessionId": state.id})
    shown = [*wanted.order, *wanted.hidden]
    changes.append({"type": "session.updated", "sessionId": state.id, "set": {}, "messageIds": shown})
    if wanted.hidden:
        kept = len(wanted.order)
        changes.append({"type": "session.reverted", "sessionId": state.id, "kept": kept, "revert": {}})
    return changes


def _message(kind: str, session_id: str, body: Body) -> Body:
    return {"type": kind, "sessionId": session_id, "messageId": body["id"], "message": body}


def _fields(state: SessionState, body: Mapping[str, Any], *, touched: bool) -> list[Body]:
    """The fields of a session, its time among them; those that the other changes touch are set in any case."""
    wanted = without(body, *LISTS)
    always = ("updatedAt", "revert") if touched else ()
    put = {
        key: value for key, value in wanted.items() if key in always or not same(state.fields.get(key, ABSENT), value)
    }
    unset = [key for key in (*state.fields, *(["revert"] if touched else [])) if key not in wanted]
    if not put and not unset:
        return []
    change = _fields_set(state, {"updatedAt": wanted.get("updatedAt", state.fields.get("updatedAt", 0)), **put})
    if unset:
        change["unset"] = list(dict.fromkeys(unset))
    return [change]


def _fields_set(state: SessionState, fields: Body) -> Body:
    return {"type": "session.updated", "sessionId": state.id, "set": fields}


def _as_it_was(state: SessionState) -> Body:
    return _fields_set(state, {"updatedAt": state.fields.get("updatedAt", 0)})


def loose_messages(place: str, session_id: str, messages: Mapping[str, Version], told: Told) -> Operation[Revs]:
    """Makes messages what they are in the place, those of a session that is here (`WORKSPACE` for those of none); what
    that has not yet comes with the session."""

    def operation(view: View, stamp: Any) -> tuple[list[Body], Callable[[View], Revs]]:
        state = view.workspace() if session_id == WORKSPACE else view.session(session_id)
        if state is None:
            return [], lambda _: _WAITS
        changes: list[Body] = []
        done: list[Version] = []
        beside: dict[str, int] = {}
        for name, each in messages.items():
            ours = state.message(name)
            if _is_newer(view, name, None if ours is None else _rev(view, ours), told):
                continue
            if ours is None and each.body is not None and (session_id != WORKSPACE or view.message(name) is not None):
                continue
            moved = [] if each.body is not None else _moved(view, session_id, {name: each}, told, beside)
            if moved is None:
                continue
            changes += moved
            done.append(each)
            if each.body is None:
                gone = {"type": "message.deleted", "sessionId": session_id, "messageId": name}
                changes += [gone] if ours is not None else []
            elif ours is None or not same(_plain_message(view, ours), _body(each)):
                changes.append(_message("message.merged", session_id, _body(each)))
        own = [each for each in changes if each["sessionId"] == session_id and session_id != WORKSPACE]
        if any(each["type"] == "message.deleted" for each in own):
            changes.append(_as_it_was(state))
        if own:
            beside[session_id] = state.rev
        return _marked(place, changes, done), lambda after: _revs(after, [each.key for each in done], beside)

    return operation


def rows(place: str, versions: Sequence[Version], told: Told) -> Operation[Revs]:
    """Makes tasks, or mail, what they are in the place."""

    def operation(view: View, stamp: Any) -> tuple[list[Body], Callable[[View], Revs]]:
        changes: list[Body] = []
        done: list[Version] = []
        for each in versions:
            kind, name = each.key
            ours = (rows_in(view.workspace().fields, TABLES[kind]) or {}).get(name)
            rev = None if ours is None else ours.get("rev")
            if _is_newer(view, name, rev if isinstance(rev, int) else None, told):
                continue
            done.append(each)
            about = (each.body or ours or {}).get("sessionId")
            change: Body = {"sessionId": WORKSPACE, "rowId": name, "about": about}
            if each.body is None:
                changes += [{"type": f"{kind}.deleted", **change}] if ours is not None else []
            elif ours is None or not same({**ours, "rev": 0}, {**each.body, "rev": 0}):
                changes.append({"type": f"{kind}.merged", **change, "row": _body(each)})
        return _marked(place, changes, done), lambda after: _revs(after, [each.key for each in done])

    return operation


def top_level(place: str, version: Version, told: Told) -> Operation[Revs]:
    """Makes the further top-level keys of a workspace what they are in the place."""

    def operation(view: View, stamp: Any) -> tuple[list[Body], Callable[[View], Revs]]:
        state = view.workspace()
        if not told.knows(state.rev):
            return [], lambda _: _WAITS
        fields = without(state.fields, *TABLES.values())
        wanted = version.body or {}
        put = {key: value for key, value in wanted.items() if not same(fields.get(key, ABSENT), value)}
        unset = [key for key in fields if key not in wanted]
        change: Body = {"type": "workspace.updated", "sessionId": WORKSPACE, "set": put, "unset": unset}
        marked = _marked(place, [change] if put or unset else [], [version])
        return marked, lambda after: _revs(after, [version.key])

    return operation


def events(place: str, versions: Sequence[Version]) -> Operation[Revs]:
    """Records what others recorded, under the ids and with the times that they gave."""

    def operation(view: View, stamp: Any) -> tuple[list[Body], Callable[[View], Revs]]:
        changes = [
            {
                "type": RECORDED,
                "sessionId": WORKSPACE,
                "event": plain(each.body or {}),
                FETCHED: fetched_mark(place, each.stamps.alive.time, each.key.id),
            }
            for each in versions
        ]
        return changes, lambda _: Revs({each.key: 1 for each in versions}, {})

    return operation


def _body(version: Version) -> Body:
    assert version.body is not None
    return version.body


def _plain_message(view: View, state: MessageState) -> Body:
    return without(decode(view.message_json(state)), "rev")


def _rev(view: View, state: MessageState) -> int:
    if state.rev is not None:
        return state.rev
    rev: int = decode(view.message_json(state)).get("rev", 0)
    return rev


def _revs(view: View, keys: Collection[Key], beside: Mapping[str, int] = MappingProxyType({})) -> Revs:
    """The revs that these have now; 0 for what is gone. `beside` are sessions, with the revs that they had."""
    touched = {Key("session", name): rev for name, rev in beside.items()}
    return Revs(
        {key: _rev_of(view, key) for key in keys}, {key: (rev, _rev_of(view, key)) for key, rev in touched.items()}
    )


def _rev_of(view: View, key: Key) -> int:
    if key.kind == "session":
        state = view.session(key.id)
        return 0 if state is None else state.rev
    if key.kind == "message":
        found = view.message(key.id)
        return 0 if found is None else _rev(view, found[1])
    if key.kind == "workspace":
        return view.workspace().rev
    rev = ((rows_in(view.workspace().fields, TABLES[key.kind]) or {}).get(key.id) or {}).get("rev")
    return rev if isinstance(rev, int) else 0
