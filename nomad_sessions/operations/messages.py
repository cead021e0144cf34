"""Operations on messages: add, update, append, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nomad_sessions.errors import AlreadyExistsError, InvalidInputError, MessageNotFoundError
from nomad_sessions.models import (
    PROTECTED_MESSAGE,
    Message,
    canonical,
    check_message,
    dump,
    normalise_fields,
    refuse_protected,
    validate,
    validate_new_message,
    with_changes,
)
from nomad_sessions.operations.reading import Looking, Stamping, message_model, require_session
from nomad_sessions.operations.sessions import check_rev
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.store import Operation

__all__ = ["add", "append", "compact", "delete", "prepare", "update"]


def prepare(data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Body:
    """A message to be stored, as JSON, from what a caller gave. Raises `InvalidInputError` naming the field."""
    given = normalise_fields("message", data, fields)
    refuse_protected(given, frozenset({"rev"}))
    body = dump(canonical(validate_new_message(given)))
    if "id" in body and not 0 < len(body["id"]) <= 512:
        raise InvalidInputError(field="id", value=body["id"], reason="must be 1 to 512 characters long")
    return body


def add(session_id: str, bodies: Iterable[Body]) -> Operation[list[Message]]:
    """Adds messages at the end of a session. One whose given `id` is there already is not added again."""
    bodies = list(bodies)
    for body in bodies:
        if body.get("sessionId", session_id) != session_id:
            raise InvalidInputError(field="sessionId", value=body["sessionId"], reason=f"is not {session_id!r}")

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        hidden = list(session.hidden)
        changes: list[Body] = []
        ids: list[str] = []
        fresh: dict[str, Body] = {}
        for body in bodies:
            message_id = body.get("id")
            if message_id is None:
                message_id = stamp.id()
            elif message_id in fresh or _exists(view, message_id, session_id, hidden):
                ids.append(message_id)
                continue
            created = body.get("createdAt", stamp.now)
            message = {"id": message_id, "sessionId": session_id, **body}
            message |= {"createdAt": created, "updatedAt": body.get("updatedAt", created)}
            message.setdefault("status", "completed")
            fresh[message_id] = message
            ids.append(message_id)
            change = {"type": "message.added", "sessionId": session_id, "messageId": message_id, "message": message}
            if hidden:
                change["dropped"] = hidden
                hidden = []
            changes.append(change)

        def result(after: Looking) -> list[Message]:
            return [_model(after, each, fresh.get(each)) for each in ids]

        return changes, result

    return operation


def _exists(view: Looking, message_id: str, session_id: str, hidden: list[str]) -> bool:
    found = view.message(message_id)
    if found is None or message_id in hidden:
        return False
    if found[0].id != session_id:
        raise AlreadyExistsError(kind="message", id=message_id, current=message_model(found[1].body()))
    return True


def _model(view: Looking, message_id: str, fresh: Body | None) -> Message:
    found = view.message(message_id)
    if found is None:
        raise MessageNotFoundError(message_id=message_id)
    # What was just written needs no reading back.
    return message_model({**fresh, "rev": found[1].rev} if fresh is not None else found[1].body())


def update(
    message_id: str, changes: Mapping[str, Any] | None, fields: Mapping[str, Any], if_rev: int | None
) -> Operation[Message]:
    """Changes fields of a message; None as a value removes the field."""
    given = normalise_fields("message", changes, fields)
    refuse_protected(given, PROTECTED_MESSAGE)
    validate(Message, given)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        found = view.message(message_id)
        if found is None:
            raise MessageNotFoundError(message_id=message_id)
        session, state = found
        before = state.body()
        check_rev(before.get("rev", 0), if_rev, lambda: message_model(before))
        after = _changed(before, given)
        change: Body = {"type": "message.updated", "sessionId": session.id, "messageId": message_id}
        new = {key: value for key, value in after.items() if before.get(key, _MISSING) != value}
        gone = [key for key in before if key not in after]
        if not new and not gone:
            return [], lambda _: message_model(before)
        change["set"] = {"updatedAt": max(stamp.now, before.get("updatedAt") or 0), **new}
        if gone:
            change["unset"] = gone
        return [change], lambda view: _model(view, message_id, None)

    return operation


_MISSING = object()


def _changed(before: Body, given: Body) -> Body:
    """The body after the changes, canonical: new parts give new content and calls."""
    if "parts" not in given and given.get("content") is not None and before.get("parts"):
        texts = [part for part in before["parts"] if part.get("type") == "text"]
        if texts:
            raise InvalidInputError(
                field="content", value=given["content"], reason="this message has parts: change those, content is their text"
            )
    model = with_changes(message_model(before), given)
    check_message(model)
    if "parts" in given:
        model = with_changes(model, {"content": given.get("content") or "", "toolCalls": given.get("toolCalls") or []})
    after = dump(canonical(model))
    if "parts" in given and not after.get("toolCalls") and "toolCalls" not in before:
        after.pop("toolCalls", None)
    return {key: value for key, value in after.items() if value is not None or (key in before and key not in given)}


def append(message_id: str, text: str, part: int | None, new: Body | None = None) -> Operation[int | None]:
    """Adds text to a message: to its content, or where it has parts to part number `part` (by default the last text
    part); to the arguments, where that part is a call. `new` begins a part at the end. Gives the part's number.
    """
    if not isinstance(text, str):
        raise InvalidInputError(field="text", value=text, reason="must be a str")

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        found = view.message(message_id)
        if found is None:
            raise MessageNotFoundError(message_id=message_id)
        session, state = found
        begin = new
        shape = state.parts()
        index = part
        if begin is not None:
            index = len(shape)
        elif index is None and shape:
            index = max((number for number, kind in enumerate(shape) if kind == "text"), default=None)
            if index is None:
                index, begin = len(shape), {"type": "text", "content": ""}
        elif index is not None and not 0 <= index < len(shape):
            raise InvalidInputError(field="part", value=index, reason=f"this message has {len(shape)} parts")
        change: Body = {"type": "message.delta", "sessionId": session.id, "messageId": message_id, "text": text}
        if index is not None:
            change["part"] = index
        if begin is not None:
            change["new"] = begin
        return ([change] if text or begin is not None else []), lambda _: index

    return operation


def delete(message_id: str) -> Operation[None]:
    """Deletes one message."""

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        found = view.message(message_id)
        if found is None:
            raise MessageNotFoundError(message_id=message_id)
        return [{"type": "message.deleted", "sessionId": found[0].id, "messageId": message_id}], lambda _: None

    return operation


def compact(session_id: str, summary: str, before: str | None, fields: Mapping[str, Any]) -> Operation[Message]:
    """Adds a summary that stands for what came before; see `SessionCalls.compact_session`."""
    if not isinstance(summary, str) or not summary:
        raise InvalidInputError(field="summary", value=summary, reason="must be a text that is not empty")
    given = normalise_fields("message", {"role": "assistant"}, fields)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        if before is not None and before not in session.order:
            raise MessageNotFoundError(message_id=before)
        summarised = session.order if before is None else session.order[: session.order.index(before)]
        mark = {"tailStart": before, "messages": len(summarised)}
        metadata = {**(given.get("metadata") or {}), "compaction": mark}
        body = prepare({**given, "content": summary, "metadata": metadata}, {})
        changes, result = add(session_id, [body])(view, stamp)
        return changes, lambda after: result(after)[0]

    return operation
