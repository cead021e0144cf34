"""Operations on messages: add, update, append, delete."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nomad_sessions.errors import AlreadyExistsError, InvalidInputError, MessageNotFoundError
from nomad_sessions.models import Message, canonical, dump, normalise_fields, refuse_protected, validate_new_message
from nomad_sessions.operations.changes import changed
from nomad_sessions.operations.files import Keep, detach_files
from nomad_sessions.operations.plain import plain, same
from nomad_sessions.operations.reading import (
    Looking,
    Stamping,
    check_new_id,
    check_rev,
    check_rev_type,
    check_text,
    message_model,
    require_session,
)
from nomad_sessions.workspace.state import Body, MessageState, SessionState
from nomad_sessions.workspace.store import Operation

__all__ = ["add", "append", "compact", "complete", "delete", "prepare", "put_in_place", "require_message", "update"]


def prepare(data: Mapping[str, Any] | None, fields: Mapping[str, Any], keep: Keep) -> Body:
    """A message to be stored, as JSON, from what a caller gave; None for a field that the store fills in is as if it
    were left out. Shares nothing with what was given; `keep` stores attachments. Raises `InvalidInputError`."""
    given = normalise_fields("message", data, fields)
    refuse_protected(given, frozenset({"rev"}))
    for field in _FILLED_IN:
        if field in given and given[field] is None:
            del given[field]
    body = dump(canonical(validate_new_message(given)))
    if "parts" in body:
        detach_files(body, keep)
    body = plain(body)
    if "id" in body:
        check_new_id(body["id"])
    return body


_FILLED_IN = ("id", "sessionId", "createdAt", "updatedAt", "status")


def add(session_id: str, bodies: Iterable[Body]) -> Operation[list[Message]]:
    """Adds messages at the end of a session. One whose given `id` is there already is not added again."""
    session_id = check_text("session_id", session_id)
    bodies = list(bodies)
    for body in bodies:
        if body.get("sessionId", session_id) != session_id:
            raise InvalidInputError(field="sessionId", value=body["sessionId"], reason=f"is not {session_id!r}")

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        given = [body["id"] for body in bodies if "id" in body]
        there = _already_there(view, session, given) if given else set()
        changes: list[Body] = []
        ids: list[str] = []
        fresh: dict[str, Body] = {}
        for body in bodies:
            message_id = body.get("id") or stamp.id()
            ids.append(message_id)
            if message_id in fresh or message_id in there:
                continue
            fresh[message_id] = _complete(body, message_id, session_id, stamp.now)
            change: Body = {"type": "message.added", "sessionId": session_id, "messageId": message_id}
            if session.hidden and not changes:
                # Those that come back in this very group are not gone.
                back = {each.get("id") for each in bodies}
                change["dropped"] = [each for each in session.hidden if each not in back]
            changes.append({**change, "message": fresh[message_id]})

        return changes, lambda after: _models(after, session_id, ids, fresh)

    return operation


def complete(body: Body, session_id: str) -> Body:
    """A message that has its id and its time, with what the store fills in."""
    return _complete(body, body["id"], session_id, body["createdAt"])


def _complete(body: Body, message_id: str, session_id: str, now: int) -> Body:
    """A message to be stored, with what the store fills in."""
    created = body.get("createdAt", now)
    message = {"id": message_id, "sessionId": session_id, **body}
    message |= {"createdAt": created, "updatedAt": body.get("updatedAt", created)}
    message.setdefault("status", "completed")
    return message


def _already_there(view: Looking, session: SessionState, ids: list[str]) -> set[str]:
    """Those of `ids` that the session has already. What a revert hid is not: it is gone with the message that is added.

    Raises `AlreadyExistsError` for the first that another session has.
    """
    hidden = set(session.hidden)
    there = {each for each in ids if each not in hidden and session.message(each) is not None}
    owners = view.owners([each for each in ids if each not in there and each not in hidden])
    for message_id in filter(owners.__contains__, ids):
        other = view.session(owners[message_id])
        state = other.message(message_id) if other is not None and other is not session else None
        if state is not None:
            raise AlreadyExistsError(kind="message", id=message_id, current=message_model(state.body()))
    return there


def _models(view: Looking, session_id: str, ids: list[str], fresh: dict[str, Body]) -> list[Message]:
    session = require_session(view, session_id)
    return [_model(session, each, fresh.get(each)) for each in ids]


def _model(session: SessionState, message_id: str, fresh: Body | None) -> Message:
    state = session.message(message_id)
    if state is None:
        raise MessageNotFoundError(message_id=message_id)
    if fresh is None:
        return message_model(state.body())
    # What was just written needs no reading back; but a transaction writes it again at its end, and hands out a copy.
    nested = any(type(value) is dict or type(value) is list for value in fresh.values())
    return message_model({**(plain(fresh) if nested else fresh), "rev": state.rev})


def require_message(view: Looking, message_id: str) -> tuple[SessionState, MessageState]:
    """The message with its session, or `MessageNotFoundError`."""
    found = view.message(check_text("message_id", message_id))
    if found is None:
        raise MessageNotFoundError(message_id=message_id)
    return found


def update(given: Body, message_id: str, if_rev: int | None) -> Operation[Message]:
    """Changes fields of a message; None as a value removes the field. `given` comes from `prepare_changes`."""
    message_id = check_text("message_id", message_id)
    check_rev_type(if_rev)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session, state = require_message(view, message_id)
        before = state.body()
        check_rev(before.get("rev", 0), if_rev, lambda: message_model(before))
        after = changed(before, given)
        change: Body = {"type": "message.updated", "sessionId": session.id, "messageId": message_id}
        new = {key: value for key, value in after.items() if key not in before or not same(before[key], value)}
        gone = [key for key in before if key not in after]
        if not new and not gone:
            return [], lambda _: message_model(before)
        change["set"] = {"updatedAt": max(stamp.now, before.get("updatedAt") or 0), **new}
        if gone:
            change["unset"] = gone
        return [change], lambda after: message_model(require_message(after, message_id)[1].body())

    return operation


def append(message_id: str, text: str, part: int | None, new: Body | None = None) -> Operation[int | None]:
    """Adds text to a message: to part number `part` (by default its last text part, or its content where it has none);
    to the arguments, where that part is a call. `new` begins a part at the end. Gives the part's number.
    """
    message_id = check_text("message_id", message_id)
    text = check_text("text", text)
    if part is not None and type(part) is not int:
        raise InvalidInputError(field="part", value=part, reason="must be the number of a part, from 0")

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session, state = require_message(view, message_id)
        index, begin = _place(state.parts(), part, new)
        change: Body = {"type": "message.delta", "sessionId": session.id, "messageId": message_id, "text": text}
        if index is not None:
            change["part"] = index
        if begin is not None:
            change["new"] = begin
        return ([change] if text or begin is not None else []), lambda _: index

    return operation


def _place(shape: list[str], part: int | None, new: Body | None) -> tuple[int | None, Body | None]:
    """The number of the part that takes the text (None: the content), and the part to be begun for it."""
    if new is not None:
        return len(shape), new
    if part is None:
        # Parts without text say nothing about the content, which a message may have beside them: it goes on there.
        return next((number for number in reversed(range(len(shape))) if shape[number] == "text"), None), None
    if not 0 <= part < len(shape):
        raise InvalidInputError(field="part", value=part, reason=f"this message has {len(shape)} parts")
    if not shape[part]:
        raise InvalidInputError(field="part", value=part, reason="is a part that holds no text of its own")
    return part, None


def delete(message_id: str) -> Operation[None]:
    """Deletes one message."""
    message_id = check_text("message_id", message_id)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session, _ = require_message(view, message_id)
        return [{"type": "message.deleted", "sessionId": session.id, "messageId": message_id}], lambda _: None

    return operation


def _no_files(data: bytes) -> str:
    raise InvalidInputError(field="file", value=data, reason="a summary has no files")


def put_in_place(session_id: str, new: Collection[str], wanted: Iterable[str]) -> Operation[None]:
    """Puts those of the messages `new`, which stand at the end of a session, that come before others in the order
    `wanted`, each behind the one that it follows there; all others stay where they are."""
    following: dict[str, list[str]] = {}
    last, waiting = "", list[str]()
    for each in dict.fromkeys(wanted):
        if each in new:
            waiting.append(each)
        else:
            following[last], last, waiting = waiting, each, []

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        order = require_session(view, session_id).order
        old = [each for each in order if each not in new]
        put = [*following.get("", ())]
        for each in old:
            put += (each, *following.get(each, ()))
        placed = set(put)
        put += [each for each in order if each not in placed]
        if put == order:
            return [], lambda _: None
        return [{"type": "session.updated", "sessionId": session_id, "set": {}, "messageIds": put}], lambda _: None

    return operation


def compact(session_id: str, summary: str, before: str | None, fields: Mapping[str, Any]) -> Operation[Message]:
    """Adds a summary that stands for what came before; see `SessionCalls.compact_session`."""
    session_id = check_text("session_id", session_id)
    before = None if before is None else check_text("before", before)
    if not check_text("summary", summary):
        raise InvalidInputError(field="summary", value=summary, reason="must be a text that is not empty")
    given = prepare({"role": "assistant"}, {**fields, "content": summary}, _no_files)
    if given.get("parts") or "id" in given:
        raise InvalidInputError(field="fields", value=sorted(given), reason="a summary is text, with an id of its own")

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        session = require_session(view, session_id)
        if before is not None and before not in session.order:
            raise MessageNotFoundError(message_id=before)
        summarised = session.order if before is None else session.order[: session.order.index(before)]
        mark = {"tailStart": before, "messages": len(summarised)}
        body = {**given, "metadata": {**given.get("metadata", {}), "compaction": mark}}
        changes, result = add(session_id, [body])(view, stamp)
        return changes, lambda after: result(after)[0]

    return operation
