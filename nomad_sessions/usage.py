"""What the conversations of a workspace took: messages, tokens, money, tools; by day, agent and model."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from nomad_sessions.workspace.view import View

__all__ = ["Amounts", "Usage", "usage_of"]

_TOKENS = ("input", "output", "reasoning", "cacheRead", "cacheWrite")


class Amounts(NamedTuple):
    """Messages, tokens by kind, and US dollars, where the answers say what they took."""

    messages: int = 0
    input: int = 0
    output: int = 0
    reasoning: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: float = 0.0

    def plus(self, other: Amounts) -> Amounts:
        """Both together."""
        return Amounts(
            self.messages + other.messages,
            self.input + other.input,
            self.output + other.output,
            self.reasoning + other.reasoning,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.cost + other.cost,
        )


class Usage(NamedTuple):
    """Over all visible messages of a workspace. `tools` counts calls by name. `days` are local dates, "2026-11-20";
    `agents` and `models` ("provider/model") are those of answers that name one. A fork's copies were said once, and are
    counted once. `durations` has the ms from the first message of each session to its last, the shortest first."""

    total: Amounts
    tools: dict[str, int]
    days: dict[str, Amounts]
    agents: dict[str, Amounts]
    models: dict[str, Amounts]
    durations: list[int]


def usage_of(view: View) -> Usage:
    """Adds everything up. Reads every message."""
    sums: dict[str, dict[str, Amounts]] = {name: defaultdict(Amounts) for name in ("total", "days", "agents", "models")}
    tools: Counter[str] = Counter()
    durations: list[int] = []
    for session in view.load_all():
        times: list[int] = []
        for state in map(session.message, session.order):
            body = state.body() if state is not None else {}
            if not body or isinstance(body.get("originId"), str):
                continue
            times += [time for name in ("createdAt", "updatedAt") if type(time := body.get(name)) is int and time > 0]
            amounts = _amounts(body)
            for kind, name in _names(body):
                sums[kind][name] = sums[kind][name].plus(amounts)
            tools.update(_tools(body))
        if times:
            durations.append(max(times) - min(times))
    total = sums["total"].get("", Amounts())
    agents, models = (dict(sorted(sums[name].items(), key=_most)) for name in ("agents", "models"))
    return Usage(
        total, dict(tools.most_common()), dict(sorted(sums["days"].items())), agents, models, sorted(durations)
    )


def _most(item: tuple[str, Amounts]) -> tuple[int, str]:
    return -item[1].messages, item[0]


def _amounts(body: Mapping[str, Any]) -> Amounts:
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    into, out, thought, cached, written = (value if type(value := usage.get(name)) is int else 0 for name in _TOKENS)
    cost = usage.get("cost")
    return Amounts(1, into, out, thought, cached, written, float(cost) if isinstance(cost, int | float) else 0.0)


def _names(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a message counts for."""
    found = [("total", "")]
    created = body.get("createdAt")
    if isinstance(created, int) and created > 0:
        with contextlib.suppress(ValueError, OverflowError, OSError):  # A foreign file's idea of a time.
            found.append(("days", datetime.fromtimestamp(created / 1000).date().isoformat()))
    if body.get("role") == "assistant":
        if isinstance(body.get("agent"), str):
            found.append(("agents", body["agent"]))
        model = body.get("model")
        if isinstance(model, dict):
            found.append(("models", f"{model.get('providerId')}/{model.get('modelId')}"))
    return found


def _tools(body: Mapping[str, Any]) -> list[str]:
    calls = body.get("toolCalls") or [part.get("toolCall") for part in body.get("parts") or ()]
    functions = [each.get("function") for each in calls if isinstance(each, dict)]
    return [str(each.get("name")) for each in functions if isinstance(each, dict) and each.get("name")]
