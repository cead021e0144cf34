"""A session with everything in it, as one atomic group of records: what a move brings, and an import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nomad_sessions.operations.reading import Looking, Stamping
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.store import Operation

__all__ = ["place", "records_of"]


def records_of(fields: Body, messages: Sequence[Body], kept: int, detached: Sequence[Body] = ()) -> list[Body]:
    """The records that make it: created, filled, reverted as it was, its time set to what its `fields` say.

    The first `kept` messages are visible; where that is not all of them, `fields["revert"]` is the mark of it.
    """
    session_id = fields["id"]
    begun = {key: value for key, value in fields.items() if key != "revert"}
    changes: list[Body] = [{"type": "session.created", "sessionId": session_id, "session": begun}]
    for kind, bodies in (("message.added", messages), ("message.merged", detached)):
        for body in bodies:
            changes.append({"type": kind, "sessionId": session_id, "messageId": body["id"], "message": body})
    if kept < len(messages):
        point = fields.get("revert") or {}
        changes.append({"type": "session.reverted", "sessionId": session_id, "kept": kept, "revert": point})
    last: Body = {"updatedAt": fields.get("updatedAt") or 0}
    if "revert" in fields:
        last["revert"] = fields["revert"]
    return [*changes, {"type": "session.updated", "sessionId": session_id, "set": last}]


def place(fields: Body, messages: Sequence[Body], kept: int, detached: Sequence[Body] = ()) -> Operation[bool]:
    """A new session with its messages, which have been validated; False, and nothing done, where a session of its id is
    there already, or another has a message of one of these ids."""

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        if view.session(fields["id"]) is not None:
            return [], lambda _: False
        owners = view.owners([body["id"] for body in (*messages, *detached)])
        if any(view.message(message_id) is not None for message_id in owners):
            return [], lambda _: False
        return records_of(fields, messages, kept, detached), lambda _: True

    return operation
