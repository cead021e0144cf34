"""Operations on sessions: create, update, delete, fork, revert and the marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomad_sessions.errors import InvalidInputError, MessageNotFoundError
from nomad_sessions.models import (
    PROTECTED_SESSION,
    Session,
    dump,
    normalise_fields,
    refuse_protected,
    validate,
)
from nomad_sessions.operations.plain import plain, same
from nomad_sessions.operations.reading import (
    Looking,
    Stamping,
    check_new_id,
    check_rev,
    check_rev_type,
    check_text,
    require_session,
    session_model,
)
from nomad_sessions.workspace.state import Body, SessionState
from nomad_sessions.workspace.store import Operation

__all__ = ["create", "delete", "fork", "hide_all", "mark", "record_of", "revert", "unrevert", "update"]


def create(workspace_id: str, data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Operation[Session]:
    """A new session. A given `id` that exists already gives the session that is there, unchanged."""
    body = _prepared(workspace_id, normalise_fields("session", data, fields))

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session_id = body.get("id") or stamp.id()
        if view.session(session_id) is not None:
            return [], _result(session_id)
        record = _complete(workspace_id, body, session_id, stamp.now)
        return [{"type": "session.created", "sessionId": session_id, "session": record}], _result(session_id)

    return operation


def record_of(workspace_id: str, session: Mapping[str, Any]) -> Body:
    """The record of a new session that has its id and its times, in camelCase. Raises `InvalidInputError`."""
    body = _prepared(workspace_id, dict(session))
    return _complete(workspace_id, body, body["id"], body["createdAt"])


def _prepared(workspace_id: str, given: Body) -> Body:
    """The fields of a new session as they are stored, from what was given."""
    refuse_protected(given, PROTECTED_SESSION - {"id", "createdAt", "workspaceId"})
    if given.get("workspaceId", workspace_id) != workspace_id:
        raise InvalidInputError(field="workspaceId", value=given["workspaceId"], reason=f"is not {workspace_id!r}")
    for field in _FILLED_IN:
        if field in given and given[field] is None:
            del given[field]
    body = plain(_stored(dump(validate(Session, given))))
    if "id" in body:
        check_new_id(body["id"])
    return body


def _complete(workspace_id: str, body: Body, session_id: str, now: int) -> Body:
    record: Body = {"id": session_id, "workspaceId": workspace_id, "title": "New Session", "parentId": None}
    record |= {"createdAt": now, "updatedAt": body.get("createdAt", now)}
    return record | {key: value for key, value in body.items() if key != "id"}


_FILLED_IN = ("id", "title", "createdAt", "updatedAt")


def update(
    session_id: str, changes: Mapping[str, Any] | None, fields: Mapping[str, Any], if_rev: int | None
) -> Operation[Session]:
    """Changes fields of a session; None as a value removes the field (or sets null where the file has one)."""
    session_id = check_text("session_id", session_id)
    given = normalise_fields("session", changes, fields)
    refuse_protected(given, PROTECTED_SESSION)
    check_rev_type(if_rev)
    body = plain(dump(validate(Session, {key: value for key, value in given.items() if value is not None})))
    body |= {key: None for key, value in given.items() if value is None}

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        check_rev(session.rev, if_rev, lambda: session_model(session))
        difference = _difference(session, body)
        if difference and body.get("updatedAt") is not None:  # Left out where it is the same, it would become now.
            difference["set"] = {**difference.get("set", {}), "updatedAt": body["updatedAt"]}
        change = {"type": "session.updated", "sessionId": session_id, **difference}
        return ([change] if difference else []), _result(session_id)

    return operation


def mark(session_id: str, field: str, present: bool) -> Operation[Session]:
    """Sets a time mark (`closedAt`, `archivedAt`) to now, or takes it away; nothing when it is so already."""
    session_id = check_text("session_id", session_id)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        change: Body = {"type": "session.updated", "sessionId": session_id}
        change |= {"set": {field: stamp.now}} if present else {"unset": [field]}
        same = (session.fields.get(field) is not None) == present
        return ([] if same else [change]), _result(session_id)

    return operation


def delete(session_id: str, *, children: bool, forks: bool) -> Operation[list[str]]:
    """Deletes a session and its messages; with `children` the sessions below it, with `forks` its forks too."""
    session_id = check_text("session_id", session_id)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        require_session(view, session_id)
        gone = _descendants(view, session_id, children=children, forks=forks)
        return [{"type": "session.deleted", "sessionId": each} for each in gone], lambda _: gone

    return operation


def fork(session_id: str, message_id: str | None, title: str | None, workspace_id: str) -> Operation[Session]:
    """A new session with copies of the visible messages, up to and including `message_id`."""
    session_id = check_text("session_id", session_id)
    title = None if title is None else check_text("title", title)
    message_id = None if message_id is None else check_text("message_id", message_id)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        original = require_session(view, session_id)
        copied = original.order
        if message_id is not None:
            if message_id not in copied:
                raise MessageNotFoundError(message_id=message_id)
            copied = copied[: copied.index(message_id) + 1]
        forked = stamp.id()
        lineage: Body = {"sessionId": session_id}
        if copied:
            lineage["messageId"] = copied[-1]
        fields = {key: value for key, value in original.fields.items() if key not in _NOT_COPIED}
        record = {
            "id": forked,
            "workspaceId": workspace_id,
            "title": title if title is not None else f"{original.fields.get('title') or 'New Session'} (fork)",
            "parentId": original.fields.get("parentId") or original.id,
            "createdAt": stamp.now,
            "updatedAt": stamp.now,
            **fields,
            "forkedFrom": lineage,
        }
        change = {
            "type": "session.forked",
            "sessionId": forked,
            "sourceId": session_id,
            "messageIds": [[each, stamp.id()] for each in copied],
            "session": record,
        }
        return [change], _result(forked)

    return operation


_NOT_COPIED = frozenset(
    {
        "id",
        "workspaceId",
        "title",
        "parentId",
        "createdAt",
        "updatedAt",
        "revert",
        "forkedFrom",
        "closedAt",
        "archivedAt",
        "imported",
        "movedFrom",
    }
)


def revert(session_id: str, message_id: str | None, reason: str | None) -> Operation[Session]:
    """Hides what follows `message_id`, or the last message; nothing is lost until the next message is added."""
    session_id = check_text("session_id", session_id)
    message_id = None if message_id is None else check_text("message_id", message_id)
    reason = None if reason is None else check_text("reason", reason)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        if message_id is not None and message_id not in session.order:
            raise MessageNotFoundError(message_id=message_id)
        kept = max(0, len(session.order) - 1) if message_id is None else session.order.index(message_id) + 1
        return _reverted(session, kept, reason), _result(session_id)

    return operation


def hide_all(session_id: str, reason: str) -> Operation[Session]:
    """Hides every message, as a revert hides them: what as many calls of `revert` come to, in one record."""
    session_id, reason = check_text("session_id", session_id), check_text("reason", reason)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        return _reverted(require_session(view, session_id), 0, reason), _result(session_id)

    return operation


def _reverted(session: SessionState, kept: int, reason: str | None) -> list[Body]:
    """The record that hides all but the first `kept` messages; none where there are no more."""
    if kept == len(session.order):
        return []
    point: Body = {"messageID": session.order[kept - 1] if kept else ""}
    if reason is not None:
        point["reason"] = reason
    return [{"type": "session.reverted", "sessionId": session.id, "kept": kept, "revert": point}]


def unrevert(session_id: str) -> Operation[Session]:
    """Shows again what reverts hid; nothing when nothing is hidden."""
    session_id = check_text("session_id", session_id)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        change = {"type": "session.unreverted", "sessionId": session_id}
        # What was hidden may have been deleted since: the mark goes all the same.
        return ([change] if session.hidden or "revert" in session.fields else []), _result(session_id)

    return operation


def _result(session_id: str) -> Any:
    return lambda view: session_model(require_session(view, session_id))


def _stored(body: Body) -> Body:
    """Without what the store writes itself."""
    return {key: value for key, value in body.items() if key not in ("workspaceId", "messageIds", "rev")}


def _difference(session: SessionState, body: Body) -> Body:
    """What of `body` is not so already, as `set` and `unset`; None takes a field away that the shape does not have."""
    difference: Body = {}
    new = {key: value for key, value in body.items() if value is not None or key == "parentId"}
    different = {
        key: value for key, value in new.items() if key not in session.fields or not same(session.fields[key], value)
    }
    gone = [key for key, value in body.items() if value is None and key not in new and key in session.fields]
    if different:
        difference["set"] = different
    if gone:
        difference["unset"] = gone
    return difference


def _descendants(view: Looking, session_id: str, *, children: bool, forks: bool) -> list[str]:
    """The session and what hangs below it, parents first.

    A fork has its original as its parent, as NomadArch writes it, and is no child of it for that: what was forked from
    a session, or from a fork of it, goes only with `forks`; a fork whose lineage cannot be followed any more stays.
    """
    gone = [session_id]
    if not (children or forks):
        return gone
    ids = list(view.summaries())
    view.prepare(ids)
    states = {state.id: state for state in map(view.session, ids) if state is not None}
    below: dict[str, list[SessionState]] = {}
    for state in states.values():
        for above in {_origin(state), state.fields.get("parentId")}:
            below.setdefault(above or "", []).append(state)
    known = set(gone)
    for parent in gone:
        apart: dict[str, bool] = {}
        for state in below.get(parent, ()):
            is_child = children and state.fields.get("parentId") == parent
            is_below = (forks and _origin(state) == parent) or (is_child and _is_apart(states, state, parent, apart))
            if is_below and state.id not in known:
                known.add(state.id)
                gone.append(state.id)
    return gone


def _origin(state: SessionState) -> str:
    origin = (state.fields.get("forkedFrom") or {}).get("sessionId")
    return str(origin or "")


def _is_apart(states: Mapping[str, SessionState], state: SessionState, parent: str, known: dict[str, bool]) -> bool:
    """Whether a session was forked neither from `parent`, through others or not, nor from what is gone. What is found
    goes into `known`, so that of many forks of one another each is looked at once."""
    current, way, apart = state, list[str](), True
    while current.id not in known:
        known[current.id] = True  # So a circle ends.
        way.append(current.id)
        origin = _origin(current)
        if not origin:
            break
        if origin == parent or origin not in states:
            apart = False
            break
        current = states[origin]
    else:
        apart = known[current.id]
    known.update(dict.fromkeys(way, apart))
    return apart
