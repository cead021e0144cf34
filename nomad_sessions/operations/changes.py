"""What an update of a message comes to: pure, from the message as it is and the fields that a caller gave.

Invariant: content and calls follow the parts where there are parts (`canonical`); what would leave a caller's value
unused is refused, never dropped in silence. Verified by `tests/unit/test_messages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import (
    PROTECTED_MESSAGE,
    canonical,
    dump,
    normalise_fields,
    refuse_protected,
    validate_new_message,
    with_changes,
)
from nomad_sessions.operations.files import Keep, detach_files
from nomad_sessions.operations.plain import plain, same
from nomad_sessions.operations.reading import message_model
from nomad_sessions.workspace.state import Body

__all__ = ["changed", "prepare_changes"]


def prepare_changes(changes: Mapping[str, Any] | None, fields: Mapping[str, Any], keep: Keep) -> Body:
    """The fields to be changed, as JSON of our own; None stays None, which removes a field. `keep` stores attachments.

    Raises `ProtectedFieldError`, and `InvalidInputError` for a value that a new message could not have either.
    """
    given = normalise_fields("message", changes, fields)
    refuse_protected(given, PROTECTED_MESSAGE)
    values = {key: value for key, value in given.items() if value is not None}
    # Only what is given is held to our lists: a message of another tool may have a role that we do not know.
    model = validate_new_message({"role": "user", **values})
    body = {key: value for key, value in dump(model).items() if key in values}
    if "parts" in body:
        detach_files(body, keep)
    body = plain(body)
    if "role" in given and given["role"] is None:
        raise InvalidInputError(field="role", value=None, reason="cannot be removed")
    return body | {key: None for key, value in given.items() if value is None}


def changed(before: Body, given: Body) -> Body:
    """The body after the changes, canonical: new parts give new content and calls, new content the one text part."""
    given = dict(given)
    old: list[Body] = before.get("parts") or []
    texts = [number for number, part in enumerate(old) if part.get("type") == "text"]
    calls = [part["toolCall"] for part in old if part.get("type") == "tool_call" and part.get("toolCall")]
    if "parts" not in given and old:
        if "content" in given and texts:
            given["parts"] = _with_text(old, texts, given.pop("content") or "", before)
        if "toolCalls" in given and calls and not same(given.pop("toolCalls"), calls):
            reason = "this message has tool_call parts: change its parts"
            raise InvalidInputError(field="toolCalls", value=calls, reason=reason)
    elif "parts" in given:
        # What the old parts said goes with them; what they said nothing about stays.
        if texts:
            given.setdefault("content", "")
        if calls:
            given.setdefault("toolCalls", [])
    removed = {key for key, value in given.items() if value is None}
    model = with_changes(message_model(before), {key: value for key, value in given.items() if value is not None})
    if "parts" in removed:
        model = with_changes(model, {"parts": []})
    after = dump(canonical(model))
    if after.get("toolCalls") == [] and "toolCalls" not in before:
        after.pop("toolCalls", None)
    return {key: value for key, value in after.items() if key not in removed}


def _with_text(parts: list[Body], texts: list[int], content: str, before: Body) -> list[Body]:
    """The parts with `content` as the text of the one text part; with several, whose text it is nobody can say."""
    if len(texts) > 1:
        if content == before.get("content"):
            return parts
        raise InvalidInputError(
            field="content", value=content, reason=f"this message has {len(texts)} text parts: change its parts"
        )
    made = list(parts)
    made[texts[0]] = {**parts[texts[0]], "content": content}
    return made
