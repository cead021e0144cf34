"""Operations on sessions: create, update, delete, fork, revert and the marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomad_sessions.errors import ConflictError, InvalidInputError, MessageNotFoundError
from nomad_sessions.models import (
    PROTECTED_SESSION,
    Session,
    dump,
    normalise_fields,
    refuse_protected,
    validate,
)
from nomad_sessions.operations.reading import Looking, Stamping, require_session, session_model
from nomad_sessions.workspace.state import Body, SessionState
from nomad_sessions.workspace.store import Operation

__all__ = ["create", "delete", "fork", "hide_after", "mark", "revert", "unrevert", "update"]


def create(workspace_id: str, data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Operation[Session]:
    """A new session. A given `id` that exists already gives the session that is there, unchanged."""
    given = normalise_fields("session", data, fields)
    refuse_protected(given, PROTECTED_SESSION - {"id", "createdAt", "workspaceId"})
    if given.get("workspaceId", workspace_id) != workspace_id:
        raise InvalidInputError(field="workspaceId", value=given["workspaceId"], reason=f"is not {workspace_id!r}")
    body = _stored(dump(validate(Session, given)))
    if "id" in given:
        _check_id(given["id"])

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session_id = body.get("id") or stamp.id()
        if view.session(session_id) is not None:
            return [], _result(session_id)
        record: Body = {"id": session_id, "workspaceId": workspace_id, "title": "New Session", "parentId": None}
        record |= {"createdAt": stamp.now, "updatedAt": body.get("createdAt", stamp.now)}
        record |= {key: value for key, value in body.items() if key != "id"}
        return [{"type": "session.created", "sessionId": session_id, "session": record}], _result(session_id)

    return operation


def update(
    session_id: str, changes: Mapping[str, Any] | None, fields: Mapping[str, Any], if_rev: int | None
) -> Operation[Session]:
    """Changes fields of a session; None as a value removes the field (or sets null where the file has one)."""
    given = normalise_fields("session", changes, fields)
    refuse_protected(given, PROTECTED_SESSION)
    body = _stored(dump(validate(Session, given)))

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        check_rev(session.rev, if_rev, lambda: session_model(session))
        changed = _difference(session, body)
        return ([{"type": "session.updated", "sessionId": session_id, **changed}] if changed else []), _result(
            session_id
        )

    return operation


def mark(session_id: str, field: str, present: bool) -> Operation[Session]:
    """Sets a time mark (`closedAt`, `archivedAt`) to now, or takes it away; nothing when it is so already."""

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        change: Body = {"type": "session.updated", "sessionId": session_id}
        change |= {"set": {field: stamp.now}} if present else {"unset": [field]}
        same = (session.fields.get(field) is not None) == present
        return ([] if same else [change]), _result(session_id)

    return operation


def delete(session_id: str, *, children: bool, forks: bool) -> Operation[list[str]]:
    """Deletes a session and its messages; with `children` the sessions below it, with `forks` what was forked from it."""

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        require_session(view, session_id)
        gone = _descendants(view, session_id, children=children, forks=forks)
        return [{"type": "session.deleted", "sessionId": each} for each in gone], lambda _: gone

    return operation


def fork(session_id: str, message_id: str | None, title: str | None, workspace_id: str) -> Operation[Session]:
    """A new session with copies of the visible messages, up to and including `message_id`."""

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
    }
)


def revert(session_id: str, message_id: str | None, reason: str | None) -> Operation[Session]:
    """Hides what follows `message_id`, or the last message; nothing is lost until the next message is added."""

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        if message_id is not None and message_id not in session.order:
            raise MessageNotFoundError(message_id=message_id)
        kept = max(0, len(session.order) - 1) if message_id is None else session.order.index(message_id) + 1
        if kept == len(session.order):
            return [], _result(session_id)
        point: Body = {"messageID": session.order[kept - 1] if kept else ""}
        if reason is not None:
            point["reason"] = reason
        change = {"type": "session.reverted", "sessionId": session_id, "kept": kept, "revert": point}
        return [change], _result(session_id)

    return operation


def hide_after(session_id: str, kept: int, point: Body) -> Operation[Session]:
    """Hides all but the first `kept` messages: a revert as it was elsewhere."""

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        change = {"type": "session.reverted", "sessionId": session_id, "kept": kept, "revert": point}
        return ([change] if kept < len(session.order) else []), _result(session_id)

    return operation


def unrevert(session_id: str) -> Operation[Session]:
    """Shows again what reverts hid; nothing when nothing is hidden."""

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        change = {"type": "session.unreverted", "sessionId": session_id}
        return ([change] if session.hidden else []), _result(session_id)

    return operation


def check_rev(rev: int, expected: int | None, current: Any) -> None:
    """Raises `ConflictError` with the current record when a caller expected another version."""
    if expected is not None and rev != expected:
        raise ConflictError(current=current(), expected_rev=expected)


def _result(session_id: str) -> Any:
    return lambda view: session_model(require_session(view, session_id))


def _stored(body: Body) -> Body:
    """Without what the store writes itself."""
    return {key: value for key, value in body.items() if key not in ("workspaceId", "messageIds", "rev")}


def _check_id(identifier: str) -> None:
    if not identifier or len(identifier) > 512:
        raise InvalidInputError(field="id", value=identifier, reason="must be 1 to 512 characters long")


def _difference(session: SessionState, body: Body) -> Body:
    """What of `body` is not so already, as `set` and `unset`; None takes a field away that the shape does not have."""
    changed: Body = {}
    new = {key: value for key, value in body.items() if value is not None or key == "parentId"}
    different = {key: value for key, value in new.items() if session.fields.get(key, _MISSING) != value}
    gone = [key for key, value in body.items() if value is None and key not in new and key in session.fields]
    if different:
        changed["set"] = different
    if gone:
        changed["unset"] = gone
    return changed


_MISSING = object()


def _descendants(view: Looking, session_id: str, *, children: bool, forks: bool) -> list[str]:
    """The session and what hangs below it, parents first. A fork of ours names its origin, not as a child of it."""
    gone = [session_id]
    if not (children or forks):
        return gone
    states = [state for state in map(view.session, view.summaries()) if state is not None]
    for parent in gone:
        for state in states:
            origin = (state.fields.get("forkedFrom") or {}).get("sessionId")
            is_child = origin is None and state.fields.get("parentId") == parent
            if state.id not in gone and ((children and is_child) or (forks and origin == parent)):
                gone.append(state.id)
    return gone


