"""Operations on what happened outside of the store: recording an event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.operations.plain import plain
from nomad_sessions.operations.reading import Looking, Stamping
from nomad_sessions.workspace.state import RECORDED, WORKSPACE, Body
from nomad_sessions.workspace.store import Operation

__all__ = ["record"]

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:.-]{0,127}")


def record(
    kind: str, properties: Mapping[str, Any] | None, session_id: str | None, message_id: str | None
) -> Operation[int]:
    """Records an event; the seq that it got. Whether there is such a session is not asked: it may be another tool's."""
    if type(kind) is not str or not _TYPE.fullmatch(kind):
        reason = "must be up to 128 letters, digits, '.', '_', ':' or '-', and begin with a letter or digit"
        raise InvalidInputError(field="type", value=kind, reason=reason)
    if properties is not None and not isinstance(properties, Mapping):
        raise InvalidInputError(field="properties", value=properties, reason="must be a mapping")
    event: Body = {"type": kind, "properties": plain({"properties": dict(properties or {})})["properties"]}
    for name, value in (("sessionId", session_id), ("messageId", message_id)):
        if value is not None and (type(value) is not str or not value):
            raise InvalidInputError(field=name, value=value, reason="must be text")
        if value is not None:
            event[name] = value
    change = {"type": RECORDED, "sessionId": WORKSPACE, "event": event}

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        return [change], lambda after: after.seq

    return operation
