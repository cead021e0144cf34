"""What may be a name of somebody, or of something, in the mailbox."""

from __future__ import annotations

from nomad_sessions.errors import InvalidInputError

__all__ = ["name_of"]

_LONGEST_NAME = 512


def name_of(field: str, value: object) -> str:
    """A name: a recipient, a sender, a type, a key, an id. Raises `InvalidInputError`."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        reason = f"must be text of 1 to {_LONGEST_NAME} characters"
        raise InvalidInputError(field=field, value=value, reason=reason)
    return value
