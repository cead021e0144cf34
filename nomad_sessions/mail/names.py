"""What may be a name of somebody, or of something, in the mailbox."""

from __future__ import annotations

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.operations.plain import text_of

__all__ = ["name_of"]

_LONGEST_NAME = 512


def name_of(field: str, value: object) -> str:
    """A name as rows have it: a recipient, a sender, a type, a key, an id. Raises `InvalidInputError`."""
    name = text_of(value) if isinstance(value, str) else ""
    if not 0 < len(name) <= _LONGEST_NAME:
        reason = f"must be text of 1 to {_LONGEST_NAME} characters"
        raise InvalidInputError(field=field, value=value, reason=reason)
    return name
