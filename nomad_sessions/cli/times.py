"""Times as people type them."""

from __future__ import annotations

import re
from datetime import datetime

from nomad_sessions.errors import InvalidInputError

__all__ = ["moment", "period", "span"]

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def span(field: str, text: str) -> int:
    """A length of time, `30s`, `90m`, `12h`, `7d` or `4w`, in ms."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if found is None:
        raise InvalidInputError(field=field, value=text, reason="write it as 30s, 90m, 12h, 7d or 4w")
    return int(found[1]) * _UNITS[found[2]]


def moment(field: str, text: str | None, now: int) -> int | None:
    """A day or a time (local, unless it names a zone), or how long before `now` (in ms), in ms; None for None."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,6}[mhdw]", text.strip()):
        return now - span(field, text)
    try:
        return round(datetime.fromisoformat(text.strip()).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        reason = "write it as 2026-11-20, 2026-11-20T14:30, or how long ago: 90m, 12h, 7d, 4w"
        raise InvalidInputError(field=field, value=text, reason=reason) from None


def period(since: str | None, until: str | None, now: int) -> tuple[int | None, int | None]:
    """Two moments of an option each, between which there is something."""
    first, last = moment("since", since, now), moment("until", until, now)
    if first is not None and last is not None and last < first:
        raise InvalidInputError(field="until", value=until, reason="is before --since")
    return first, last
