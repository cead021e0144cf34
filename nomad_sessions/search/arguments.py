"""What the arguments of a search may be: whatever else is refused by name, before anything is read. Pure.

Verified by `tests/unit/test_search_trouble.py`.
"""

from __future__ import annotations

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.events.filters import EventFilter
from nomad_sessions.search.finding import Filters

__all__ = ["check_filters", "check_flag", "check_page", "check_wanted"]

_TEXTS = ("session_id", "role", "agent", "model", "tool")
_MOST = 1 << 53  # Of hits, or ms: the sum of two still is a number for SQLite.


def check_filters(filters: Filters) -> None:
    """Raises `InvalidInputError` for a filter of messages that none could be."""
    for name in _TEXTS:
        _check_text(name, getattr(filters, name))
    _check_times(since=filters.since, until=filters.until)
    if filters.archived is not None:
        check_flag("archived", filters.archived)


def check_wanted(wanted: object) -> None:
    """The same for a filter of events, whose own class does not know how far SQLite's numbers reach."""
    if not isinstance(wanted, EventFilter):
        raise InvalidInputError(field="wanted", value=wanted, reason="must be an EventFilter")
    _check_times(after=wanted.after, before=wanted.before)


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidInputError(field=name, value=value, reason="must be a str")


def check_flag(name: str, value: object) -> None:
    """The same for what is on or off."""
    if not isinstance(value, bool):
        raise InvalidInputError(field=name, value=value, reason="must be True or False")


def _check_times(**times: object) -> None:
    for name, value in times.items():
        if value is not None and not _is_whole(value, -_MOST):
            raise InvalidInputError(field=name, value=value, reason="must be a time in ms")


def check_page(query: object, limit: object, offset: object) -> None:
    """The same for a query, and a page of what it finds."""
    if not isinstance(query, str):
        raise InvalidInputError(field="query", value=query, reason="must be a str")
    for name, number, least in (("limit", limit, 1), ("offset", offset, 0)):
        if not _is_whole(number, least):
            raise InvalidInputError(field=name, value=number, reason=f"must be a whole number, {least} to {_MOST}")


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MOST
