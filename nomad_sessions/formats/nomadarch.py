"""A `sessions.json` as NomadArch writes it, `{"sessions": {id: Session}, "messages": {id: Message}}`, for import.

(A workspace folder of NomadArch's can also simply be opened: the store reads and merges that file. This is for taking
one file's conversations into another workspace.)

What such files hold that a session here may not have: forks that list each other's messages, ids that lead nowhere,
unknown keys. A message belongs to the session that it names; another session that lists it gets its own copy, under an
id derived from both and with `originId`, so that importing twice gives the same ids. Unknown keys are kept.

Invariant: every listed message of every session is imported or reported. Verified by `tests/unit/test_formats.py`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from nomad_sessions.formats.opencode_parts import integer
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.values import mapping, text
from nomad_sessions.ids import derive_id

__all__ = ["parse", "sniff"]

_ROLES = ("user", "assistant", "system", "tool")
_END_OF_TIME = 1 << 48  # ms; an id has no room for a later one
_OWN = ("nomad",)  # the index of a snapshot of ours; it says nothing that the records do not


def sniff(value: Any) -> bool:
    """Whether a JSON value has the shape of a `sessions.json`."""
    return (
        isinstance(value, dict) and isinstance(value.get("sessions"), dict) and isinstance(value.get("messages"), dict)
    )


def parse(value: Mapping[str, Any], report: ImportReport) -> list[ParsedSession]:
    """All sessions of the file, parents before their children where the file has both. Pure, except for `report`."""
    messages: Mapping[str, Any] = value["messages"]
    known = _Known(messages, _owners(value), _by_session(messages))
    parsed: list[ParsedSession] = []
    listed: set[str] = set()
    for key, record in value["sessions"].items():
        report.sessions.read += 1
        place = f"sessions[{key!r}]"
        if not isinstance(record, dict):
            report.sessions.skipped += 1
            report.skip(place, "the session is not an object")
            continue
        parsed.append(_session(key, record, place, known, listed, report))
    _report_unlisted(messages, listed, report)
    for name in value:
        if name not in ("sessions", "messages", *_OWN):
            report.skip(name, "the import takes sessions and messages only")
    return parsed


class _Known(NamedTuple):
    """All messages of a file by id, which session keeps which, and which say that they are of which."""

    messages: Mapping[str, Any]
    owners: Mapping[str, str]
    by_session: Mapping[str, list[str]]


def _by_session(messages: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for message_id, message in messages.items():
        key = message.get("sessionId") if isinstance(message, dict) else None
        if isinstance(key, str):
            found.setdefault(key, []).append(message_id)
    return found


def _owners(value: Mapping[str, Any]) -> dict[str, str]:
    """Which session keeps a message's id: the one that the message names, if it lists it, else the first that does."""
    owners: dict[str, str] = {}
    for key, record in value["sessions"].items():
        ids = record.get("messageIds") if isinstance(record, dict) else None
        for message_id in ids if isinstance(ids, list) else ():
            message = value["messages"].get(message_id) if isinstance(message_id, str) else None
            if isinstance(message, dict) and (message_id not in owners or message.get("sessionId") == key):
                owners[message_id] = key
    return owners


def _session(
    key: str,
    record: Mapping[str, Any],
    place: str,
    known: _Known,
    listed: set[str],
    report: ImportReport,
) -> ParsedSession:
    created = integer(record.get("createdAt")) or 0
    dropped = ("id", "workspaceId", "messageIds", "createdAt", "updatedAt", "rev", "revert")
    session: dict[str, Any] = {name: value for name, value in record.items() if name not in dropped}
    if isinstance(record.get("imported"), dict):  # A file of ours. What it names is in the folder it came from.
        session["imported"] = {name: value for name, value in record["imported"].items() if name != "original"}
    session |= {"id": key, "createdAt": created, "updatedAt": integer(record.get("updatedAt")) or created}
    _keep_mark(session, place, report)
    ids = record.get("messageIds")
    if not isinstance(ids, list):
        ids = []
        report.warn(place, "it has no list of messages")
    messages = known.messages
    hidden = _hidden(key, record, ids, known)
    found: list[dict[str, Any]] = []
    places: list[str] = []
    visible = 0
    for index, message_id in enumerate([*ids, *hidden]):
        where = f"{place}.messageIds[{index}]"
        report.messages.read += 1
        source = messages.get(message_id) if isinstance(message_id, str) else None
        if not isinstance(source, dict):
            report.skip_message(where, "the message is not in the file")
            continue
        listed.add(message_id)
        found.append(_message(message_id, source, key, known.owners.get(message_id, key), where, report))
        places.append(where)
        visible += index < len(ids)
    reason = text(mapping(record.get("revert")).get("reason")) or ""
    return ParsedSession(session, found, places, visible, reason)


def _hidden(key: str, record: Mapping[str, Any], ids: list[Any], known: _Known) -> list[str]:
    """What a revert hides: our own files keep those messages, out of `messageIds`; NomadArch deletes them."""
    if not record.get("revert"):
        return []
    shown = {message_id for message_id in ids if isinstance(message_id, str)}
    mine = [message_id for message_id in known.by_session.get(key, ()) if message_id not in shown]
    return sorted(mine, key=lambda message_id: (integer(known.messages[message_id].get("createdAt")) or 0, message_id))


def _message(
    message_id: str, source: Mapping[str, Any], session_id: str, owner: str, place: str, report: ImportReport
) -> dict[str, Any]:
    created = integer(source.get("createdAt")) or 0
    message: dict[str, Any] = {name: value for name, value in source.items() if name not in ("sessionId", "rev")}
    message |= {"id": message_id, "createdAt": created, "updatedAt": integer(source.get("updatedAt")) or created}
    _keep_mark(message, place, report)
    if owner != session_id:
        # The copy needs an id of its own, and the same one each time the file is imported.
        time = created if 0 <= created < _END_OF_TIME else 0
        message |= {"id": derive_id(time, session_id, message_id), "originId": message_id}
    if source.get("role") not in _ROLES:
        message |= {"role": "system", "nomadarchRole": source.get("role")}
        report.warn(place, f"the unknown role {reprlib.repr(source.get('role'))} is kept as 'system'")
    return message


def _keep_mark(record: dict[str, Any], place: str, report: ImportReport) -> None:
    """Leaves what an import noted in a file of ours, but for its original, which is not in the file. What no import
    notes goes: it may be nested too deep to be compared."""
    mark = record.pop("imported", None)
    given = mark if isinstance(mark, dict) else {}
    kept = {key: value for key, value in given.items() if isinstance(value, str | int)}
    if kept:
        record["imported"] = kept
    if (mark is not None and not given) or given.keys() - kept.keys() - {"original"}:
        report.warn(place, "its mark of an import is none that an import makes, and is left out")


def _report_unlisted(messages: Mapping[str, Any], listed: set[str], report: ImportReport) -> None:
    for message_id in messages:
        if message_id not in listed:
            report.messages.read += 1
            report.skip_message(f"messages[{message_id!r}]", "no session lists the message")
