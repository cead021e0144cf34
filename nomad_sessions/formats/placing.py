"""New sessions of an import, each stored at once: validated, encoded once, written as one group.

Nearly every session that is imported is new here. The calls of the manager would cost three times as much: each
message is copied, encoded twice and handed back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats.holding import Bodies
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.values import finite, objects
from nomad_sessions.models import Message, canonical, dump, validate_new_message
from nomad_sessions.models.settled import SCALARS, settled
from nomad_sessions.operations import messages, sessions, whole
from nomad_sessions.operations.reading import check_new_id
from nomad_sessions.storage.codec import encode
from nomad_sessions.workspace.lines import Written
from nomad_sessions.workspace.state import Body

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["as_encoded", "digest_of", "place_new"]

_OURS = frozenset({"sessionId", "rev", "imported"})
_NEEDED = {"id", "createdAt", "updatedAt"}


def digest_of(plain: bytes) -> str:
    """What tells whether a source says the same as at the last import, of its record as JSON."""
    return hashlib.sha256(plain).hexdigest()[:16]


def as_encoded(plain: Mapping[str, Any]) -> tuple[Mapping[str, Any], bytes]:
    """A record and its JSON. A number that no float holds, which JSON would not have, becomes text."""
    try:
        return plain, encode(plain)
    except ValueError:
        made: Mapping[str, Any] = finite(plain)
        return made, encode(made)


def place_new(
    manager: NativeSessionManager,
    workspace_id: str,
    parsed: ParsedSession,
    session: Mapping[str, Any],
    report: ImportReport,
) -> bool:
    """Stores a session that is not here yet, `session` being its own record with its mark. False where it is here, or
    one of its messages is in another session: then nothing was done. Durable as the manager's setting says."""
    if manager.get_session(workspace_id, session["id"]) is not None:
        return False
    bodies = Bodies()
    skipped: list[tuple[str, str]] = []
    visible = 0
    seen: set[str] = set()
    for index, (message, place) in enumerate(zip(parsed.messages, parsed.places, strict=True)):
        try:
            body = _body(manager, workspace_id, message, session["id"], report.format)
        except InvalidInputError as error:
            skipped.append((place, f"the message cannot be stored: {error.field}: {error.reason}"))
            continue
        if body["id"] in seen:
            skipped.append((place, "its id occurs twice"))
            continue
        seen.add(body["id"])
        bodies.append(body)
        visible += index < parsed.visible
    fields = sessions.record_of(workspace_id, session)
    made = bodies.all
    if visible < len(made):
        reason = parsed.reason or f"reverted in {report.format}"
        fields["revert"] = {"messageID": made[visible - 1]["id"] if visible else "", "reason": reason}
    parsed.await_original()
    if not manager._commit(workspace_id, whole.place(fields, made, visible)):
        return False
    for place, reason in skipped:
        report.skip_message(place, reason)
    report.messages.imported += len(made)
    return True


def _body(
    manager: NativeSessionManager, workspace_id: str, message: Mapping[str, Any], session_id: str, form: str
) -> Body:
    """A message to be stored, with the mark of this import."""
    mark = message.get("imported")
    plain = message
    if mark:
        plain = dict(message)
        del plain["imported"]
    more = settled(plain) if plain.keys() >= _NEEDED else None
    if more is None:
        plain, encoded = as_encoded(plain)
    else:
        encoded = encode(plain, finite=True)  # There is no float in it.
    noted = {**(mark if isinstance(mark, dict) else {}), "format": form, "digest": digest_of(encoded)}
    if more is not None:
        check_new_id(plain["id"])
    elif not _is_special(plain):
        more = _more(plain)
    if more is None:
        given = {**plain, "imported": noted}
        return messages.complete(
            messages.prepare(given, {}, lambda data: manager._attach(workspace_id, data)), session_id
        )
    kept = {"sessionId": session_id, **more, "imported": noted}
    # What an importer notes is text. Another's document may say anything.
    added = encode(kept, finite=True) if SCALARS.issuperset(map(type, noted.values())) else as_encoded(kept)[1]
    # A copy: what an encoder gives may lie in twice the memory.
    return Written(plain, added[:-1] + b",", encoded[1:])


def _is_special(message: Mapping[str, Any]) -> bool:
    """Whether a message needs more than to be validated: one with files, in another spelling, with something unset."""
    get = message.get
    if None in map(get, _NEEDED) or get("status", "") is None or not _OURS.isdisjoint(message):
        return True
    return "_" in "".join(message) or any("file" in part for part in objects(get("parts")))


def _more(message: Mapping[str, Any]) -> Body | None:
    """What the store keeps beside a message's own fields; None where it says otherwise itself. Raises
    `InvalidInputError` for what is no message."""
    valid: Message = validate_new_message(message)
    check_new_id(message["id"])
    made = canonical(valid)
    more: Body = {} if "status" in message else {"status": made.status}
    if made is not valid:
        if made.content != valid.content:
            more["content"] = made.content
        if made.tool_calls != valid.tool_calls:
            more["toolCalls"] = [dump(call) for call in made.tool_calls]
    return None if any(key in message for key in more) else more
