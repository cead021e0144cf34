"""Whether two JSON values are the same. Pure."""

from __future__ import annotations

from typing import Any

from nomad_sessions.storage.codec import encode

__all__ = ["ABSENT", "same"]

ABSENT = object()
"""In place of a value that is not there."""


def same(one: Any, other: Any) -> bool:
    """Equal as JSON. Python's `==` takes True for 1, which is a change all the same."""
    try:
        return _equal(one, other)
    except RecursionError:  # Deeper than Python compares: then by its text.
        return encode(one) == encode(other)


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        both_numbers = type(one) in (int, float) and type(other) in (int, float)
        return one is other or (both_numbers and bool(one == other))
    if one != other:
        return False
    if isinstance(one, dict):
        return all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return all(map(_equal, one, other))
    return True
