"""A picture of what `stats` counts: messages and tokens, day by day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.usage import Usage

__all__ = ["draw"]

_ENDINGS = (".png", ".svg", ".pdf")


def draw(usage: Usage, path: Path) -> None:
    """Writes the picture. Raises `InvalidInputError` for another ending, where there is nothing to draw, and where
    matplotlib is not installed."""
    if path.suffix.lower() not in _ENDINGS:
        raise InvalidInputError(field="plot", value=str(path), reason=f"must end in {', '.join(_ENDINGS)}")
    if not usage.days:
        raise InvalidInputError(field="plot", value=str(path), reason="there are no messages with a time to draw")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        reason = "needs matplotlib: pip install 'nomad-sessions[plot]'"
        raise InvalidInputError(field="plot", value=str(path), reason=reason) from error
    days = [date.fromisoformat(each) for each in usage.days]
    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.bar(days, [each.messages for each in usage.days.values()], color="#4c72b0")
    upper.set_ylabel("messages")
    said = [each.input + each.cache_read + each.cache_write for each in usage.days.values()]
    lower.bar(days, said, color="#55a868", label="in")
    lower.bar(days, [each.output for each in usage.days.values()], bottom=said, color="#c44e52", label="out")
    lower.set_ylabel("tokens")
    lower.legend()
    figure.autofmt_xdate()
    figure.savefig(path)
