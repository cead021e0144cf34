"""To whom a message goes that names no recipient: rules, asked in their order, and why each did or did not match. Pure.

Invariant: `route` gives the recipients of just the rules that `explain` calls matching, each once, in the order of the
rules. Verified by `tests/unit/test_mail_routing.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.mail.names import name_of
from nomad_sessions.models import dump, validate
from nomad_sessions.models.mail import MailRule
from nomad_sessions.operations.plain import plain, same

__all__ = ["RuleVerdict", "checked_rules", "described", "explain", "recipients_of", "stored_rules"]


class RuleVerdict(NamedTuple):
    """What a rule said of a message: whether it matched, and why, or why not."""

    rule: str
    matched: bool
    reason: str
    to: tuple[str, ...]


def checked_rules(rules: Iterable[MailRule | Mapping[str, Any]]) -> list[MailRule]:
    """Rules as a caller gives them, models or mappings. Raises `InvalidInputError` that names the rule."""
    if isinstance(rules, str | Mapping) or not isinstance(rules, Iterable):
        raise InvalidInputError(field="rules", value=rules, reason="must be a list of rules")
    made: list[MailRule] = []
    for number, rule in enumerate(rules):
        given = dump(rule) if isinstance(rule, MailRule) else rule
        if not isinstance(given, Mapping):
            raise InvalidInputError(field=f"rules[{number}]", value=rule, reason="must be a rule, or a mapping")
        made.append(_checked(number, given))
    names = [rule.name for rule in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInputError(field="rules", value=twice, reason="two rules have this name")
    return made


def _checked(number: int, given: Mapping[str, Any]) -> MailRule:
    place = f"rules[{number}]"
    fields = {"name": f"rule {number + 1}", **given}
    try:
        rule = validate(MailRule, plain(fields))
    except InvalidInputError as error:
        raise InvalidInputError(field=f"{place}.{error.field}", value=given, reason=error.reason) from None
    if rule.model_extra:  # A misspelt condition would match everything.
        unknown = next(iter(rule.model_extra))
        reason = "is no part of a rule: name, to, types, senders, priorities, metadata, proceed"
        raise InvalidInputError(field=f"{place}.{unknown}", value=rule.model_extra[unknown], reason=reason)
    if not rule.to or not all(rule.to):
        raise InvalidInputError(field=f"{place}.to", value=rule.to, reason="must name at least one recipient")
    for recipient in rule.to:
        name_of(f"{place}.to", recipient)
    return rule


def stored_rules(settings: Mapping[str, Any]) -> list[MailRule]:
    """The rules of a workspace."""
    return [validate(MailRule, rule) for rule in settings.get("mailRules", ())]


def described(row: Mapping[str, Any]) -> dict[str, Any]:
    """What rules ask about, of a message's row."""
    asked = {"type": row["type"], "sender": row.get("sender"), "priority": row["priority"]}
    return {**asked, "metadata": row.get("metadata", {})}


def explain(
    rules: Sequence[MailRule], *, type: str, sender: str | None, priority: str, metadata: Mapping[str, Any]
) -> list[RuleVerdict]:
    """What each rule says, in their order."""
    verdicts: list[RuleVerdict] = []
    ended: str | None = None
    for rule in rules:
        if ended is not None:
            verdicts.append(RuleVerdict(rule.name, False, f"not asked: {ended!r} matched before it", ()))
            continue
        obstacle = _obstacle(rule, type, sender, priority, metadata)
        if obstacle is not None:
            verdicts.append(RuleVerdict(rule.name, False, obstacle, ()))
            continue
        verdicts.append(RuleVerdict(rule.name, True, "all that it asks for is so", tuple(rule.to)))
        if not rule.proceed:
            ended = rule.name
    return verdicts


def recipients_of(verdicts: Iterable[RuleVerdict]) -> list[str]:
    """To whom a message goes, of which the rules said this."""
    return list(dict.fromkeys(each for verdict in verdicts for each in verdict.to))


def _obstacle(rule: MailRule, type: str, sender: str | None, priority: str, metadata: Mapping[str, Any]) -> str | None:
    """Why a rule does not match; None when it does."""
    if rule.types and not any(fnmatchcase(type, each) for each in rule.types):
        return f"type {type!r} is none of {', '.join(rule.types)}"
    if rule.senders and (sender is None or not any(fnmatchcase(sender, each) for each in rule.senders)):
        return f"sender {sender!r} is none of {', '.join(rule.senders)}"
    if rule.priorities and priority not in rule.priorities:
        return f"priority {priority!r} is none of {', '.join(rule.priorities)}"
    for key, value in rule.metadata.items():
        if key not in metadata:
            return f"metadata has no {key!r}"
        if not same(metadata[key], value):
            return f"metadata {key!r} is another"
    return None
