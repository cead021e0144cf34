"""Mail: a message that one session or agent sent to another, on its way until it is acknowledged."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, Strict

from .base import FreeForm, Millis, Model, Text, no_dict, no_list

# Strict, because what is compared must be a number, not the text of one that another program wrote.
Whole = Annotated[int, Strict()]
Priority = Literal["low", "medium", "high", "urgent"]
MailStatus = Literal["queued", "leased", "dead", "acked", "expired"]

PRIORITIES: tuple[str, ...] = get_args(Priority)
"""The least first."""
MAIL_STATUSES: tuple[str, ...] = get_args(MailStatus)


class MailLease(Model):
    """Who has a message, and for how long: `ms` in all, until `until` (ms since the epoch).

    `holder` names the process that has it, `steady` when its time is over on the machine's own count of ms.
    """

    id: Text = ""
    ms: Whole = 0
    until: Whole = 0
    steady: Whole = 0
    holder: Text = ""


class Mail(Model):
    """A message for `recipient`, a session's id or an agent's name. Times are milliseconds since the epoch.

    `status`: queued (waits; not before `next_attempt_at`), leased (somebody has it, `lease`), dead (given up, `reason`:
    "max_attempts", "expired" or "rejected"; `error` says more); acked and expired stand for what is gone, until the
    window of its `key` ends. `position` is the place in the order of its recipient and priority, a seq; `attempts`
    how often it was handed out, `passed` how often others were, while it had waited longest.
    """

    id: Text = ""
    recipient: Text = ""
    sender: Text | None = None
    type: Text = "message"
    priority: Priority = "medium"
    content: Any = None
    metadata: FreeForm = Field(default_factory=no_dict)
    status: MailStatus = "queued"
    position: Whole = 0
    attempts: Whole = 0
    max_attempts: Whole = 5
    backoff: Whole = 1_000
    next_attempt_at: Whole | None = None
    retry_delay: Whole = 0
    passed: Whole = 0
    lease: MailLease | None = None
    key: Text | None = None
    expires_at: Whole | None = None
    on_expiry: Literal["dead", "drop"] = "dead"
    reason: Text | None = None
    error: Text | None = None
    created_at: Millis = 0
    updated_at: Millis = 0
    rev: int = 0


class MailRule(Model):
    """A rule of the routing: what matches all that it says goes to each of `to`.

    `types` and `senders` are names or patterns (`"task.*"`), one of which must match; `priorities` one of which it must
    have; `metadata` what the message's must hold, value for value. What is empty is not asked. After a rule that
    matched none is looked at, unless `proceed`.
    """

    name: Text = ""
    to: list[Text] = Field(default_factory=no_list)
    types: list[Text] = Field(default_factory=no_list)
    senders: list[Text] = Field(default_factory=no_list)
    priorities: list[Priority] = Field(default_factory=no_list)
    metadata: FreeForm = Field(default_factory=no_dict)
    proceed: Annotated[bool, Strict()] = False
