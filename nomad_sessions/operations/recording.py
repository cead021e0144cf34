"""Operations on what happened outside of the store: recording events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nomad_sessions.errors import InvalidInputError, ProtectedFieldError
from nomad_sessions.models import normalise_fields
from nomad_sessions.operations.plain import plain
from nomad_sessions.operations.reading import Stamping
from nomad_sessions.workspace.state import RECORDED, WORKSPACE, Body
from nomad_sessions.workspace.store import Operation
from nomad_sessions.workspace.view import View

__all__ = ["EVENT_TYPE", "record"]

EVENT_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_:.-]{0,127}")
_OURS = frozenset({"seq", "workspaceId", "recorded"})
_TEXTS = ("id", "sessionId", "messageId")


def record(items: Iterable[Mapping[str, Any]]) -> Operation[list[int]]:
    """Records events, in order; the seqs that they got. Whether there is such a session is not asked: it may be another
    tool's. A field that an event has not is none of its."""
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise InvalidInputError(field="items", value=items, reason="must be several events")
    changes = [{"type": RECORDED, "sessionId": WORKSPACE, "event": _event(each)} for each in items]

    def operation(view: View, stamp: Stamping) -> tuple[list[Body], Callable[..., list[int]]]:
        # Known now: asked afterwards, a view might be of a later moment.
        seqs = list(range(view.seq + 1, view.seq + 1 + len(changes)))
        return changes, lambda after: seqs

    return operation


def _event(item: Mapping[str, Any]) -> Body:
    if not isinstance(item, Mapping):
        raise InvalidInputError(field="items", value=item, reason="must be events, each a mapping")
    event = {key: value for key, value in normalise_fields("event", item, {}).items() if value is not None}
    for field in event.keys() & _OURS:
        raise ProtectedFieldError(field=field)
    kind, properties, time = event.get("type"), event.setdefault("properties", {}), event.get("timestamp", 0)
    if type(kind) is not str or not EVENT_TYPE.fullmatch(kind):
        reason = "must be up to 128 letters, digits, '.', '_', ':' or '-', and begin with a letter or digit"
        raise InvalidInputError(field="type", value=kind, reason=reason)
    if not isinstance(properties, Mapping):
        raise InvalidInputError(field="properties", value=properties, reason="must be a mapping")
    if type(time) is not int or not 0 <= time < 1 << 63:
        raise InvalidInputError(field="timestamp", value=time, reason="must be a time in ms")
    for field in _TEXTS:
        if type(event.get(field, "x")) is not str or not event.get(field, "x"):
            raise InvalidInputError(field=field, value=event[field], reason="must be text")
    return plain({**event, "properties": dict(properties)})
