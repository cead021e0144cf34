"""Events as the dual store of an OpenCode client kept them in MongoDB: as a JSON array, or one a line.

Three generations of documents: `metadata.rawEvent` with the event as OpenCode sent it; events that a watcher projected,
as JSON in `text`; and those that were posted over HTTP, in `metadata.event_data`. The id of the session stands under
`sessionId`, `sessionID` or `session_id`, of the document or of the event, or in its `info`, `part` or `message`; of an
event about a session itself, `session.id` or `info.id` is that session's. What else a document has is kept in the
event's `imported`.

Each becomes a recorded event with the document's id and time, so that a second import brings nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import finite, mapping, milliseconds, text
from nomad_sessions.operations.recording import EVENT_TYPE
from nomad_sessions.storage.codec import decode, encode

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["NAME", "documents", "event_of", "import_events"]

NAME = "dualstore-events"
_SPELLINGS = ("sessionId", "sessionID", "session_id")
_MESSAGE = ("messageId", "messageID", "message_id")
_TYPES = ("eventType", "event_type")
_BATCH = 5_000
_FIRST_LINE = 1 << 20
_NO_TYPE = "it has no type, or none that an event can have"
Document = tuple[str, Any]
"""A place in the source, and what stands there; None where it cannot be read."""


def documents(data: bytes) -> Iterator[Document] | None:
    """The documents in a file's bytes, if they are events; None if they are something else. Never raises."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"[":
        value = _decoded(data.removeprefix(b"\xef\xbb\xbf"))
        if isinstance(value, list) and any(map(_is_event, value[:100])):
            return ((f"#{number}", each) for number, each in enumerate(value))
    elif start == b"{" and _is_event(_decoded(data[: _FIRST_LINE + 1].lstrip().partition(b"\n")[0])):
        return _lines(data)
    return None


def _lines(data: bytes) -> Iterator[Document]:
    at = 0
    for line in data.splitlines(keepends=True):
        if line.strip():
            yield f"@{at}", _decoded(line)
        at += len(line)


def _decoded(data: bytes) -> Any:
    try:
        return decode(data)
    except ValueError:
        return None


def _is_event(value: Any) -> bool:
    metadata = mapping(value).get("metadata")
    return isinstance(metadata, dict) and (
        any(text(metadata.get(name)) for name in _TYPES) or metadata.get("type") == "projected_event"
    )


def import_events(
    manager: NativeSessionManager, workspace_id: str, found: Iterator[Document], report: ImportReport
) -> None:
    """Records each event that is not here yet. Durable batch by batch; repeating it goes on where it was stopped.

    Two documents of one id that say different things are both kept, the second under an id of its own.
    """
    known = {event.id: _digest(event.type, event.properties) for event in manager.events(workspace_id, recorded=True)}
    batch: list[dict[str, Any]] = []
    for place, document in found:
        report.events.read += 1
        event = event_of(place, document, report)
        if event is None:
            report.events.skipped += 1
            continue
        digest = _digest(event["type"], event["properties"])
        if known.get(event["id"], digest) != digest:
            event["id"] = f"{event['id']}#{digest.hex()}"
        if event["id"] in known:
            report.events.unchanged += 1
            continue
        known[event["id"]] = digest
        batch.append(event)
        if len(batch) == _BATCH:
            _record(manager, workspace_id, batch, report)
            batch = []
    _record(manager, workspace_id, batch, report)


def _record(
    manager: NativeSessionManager, workspace_id: str, batch: Sequence[Mapping[str, Any]], report: ImportReport
) -> None:
    manager.record_events(workspace_id, batch)
    report.events.imported += len(batch)


def _digest(kind: str, properties: Mapping[str, Any]) -> bytes:
    return hashlib.blake2b(encode([kind, properties]), digest_size=8).digest()


def event_of(place: str, document: Any, report: ImportReport) -> dict[str, Any] | None:
    """A document as `record_events` takes it; None, with a word in the report, where it is none."""
    where = f"{report.source}{place}"
    if not isinstance(document, dict):
        report.skip(where, "cannot be read as JSON" if document is None else "no document")
        return None
    document = finite(document)
    metadata = mapping(document.get("metadata"))
    kind, properties, said_by, said = _said(where, document, metadata, report)
    if kind is None or not EVENT_TYPE.fullmatch(kind):
        report.skip(where, _NO_TYPE)
        return None
    time = next((each for each in map(_time, (document.get("timestamp"), metadata.get("timestamp"))) if each), None)
    identifier = text(document.get("id")) or text(mapping(document.get("_id")).get("$oid")) or text(document.get("_id"))
    event = {
        "id": identifier or _digest(kind, document).hex(),
        "type": kind,
        "properties": dict(properties),
        "timestamp": time or 0,
        "session_id": _session_of(kind, properties)
        or _first(metadata, _SPELLINGS)
        or _session_of(kind, said)
        or _first(document, _SPELLINGS),
        "message_id": _message_of(kind, properties),
        "imported": {"format": NAME, **_rest(document, said_by)},
    }
    if time is None:
        report.warn(where, "it has no time")
    return event


def _rest(document: Mapping[str, Any], said_by: str | None) -> dict[str, Any]:
    """What a document has beside the event itself."""
    rest = {key: value for key, value in document.items() if key not in ("id", said_by)}
    if isinstance(rest.get("metadata"), dict):
        rest["metadata"] = {key: value for key, value in rest["metadata"].items() if key != said_by}
    return rest


def _said(
    where: str, document: Mapping[str, Any], metadata: Mapping[str, Any], report: ImportReport
) -> tuple[str | None, Mapping[str, Any], str | None, Mapping[str, Any]]:
    """The type of an event, its properties, the field that they stood in, and all that this says."""
    kind = _first(metadata, _TYPES)
    for holder, name in ((metadata, "rawEvent"), (metadata, "event_data"), (document, "text")):
        raw = holder.get(name)
        value = _decoded(raw.encode("utf-8", "surrogatepass")) if isinstance(raw, str) else raw
        if not isinstance(value, dict):
            if name == "rawEvent" and raw is not None:
                report.warn(where, "its rawEvent is no JSON: kept as text")
            continue
        if name == "event_data":
            return kind, value, name, value
        if text(value.get("type")):
            whole = value.keys() <= {"type", "properties"}  # A projected event says more of itself.
            return kind or text(value["type"]), mapping(value.get("properties")), name if whole else None, value
    return kind, {}, None, {}


def _session_of(kind: str, properties: Mapping[str, Any]) -> str | None:
    holders = [properties, *(mapping(properties.get(name)) for name in ("info", "part", "message"))]
    found = next((each for each in (_first(holder, _SPELLINGS) for holder in holders) if each), None)
    found = found or text(mapping(properties.get("session")).get("id"))
    return found or (text(mapping(properties.get("info")).get("id")) if kind.startswith("session.") else None)


def _message_of(kind: str, properties: Mapping[str, Any]) -> str | None:
    info, part = mapping(properties.get("info")), mapping(properties.get("part"))
    found = _first(properties, _MESSAGE) or _first(part, _MESSAGE)
    return found or (text(info.get("id")) if kind.startswith("message.") else None)


def _first(holder: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((each for each in (text(holder.get(name)) for name in names) if each), None)


def _time(value: Any) -> int | None:
    """Also as `mongoexport` writes it."""
    if isinstance(value, dict):
        value = value.get("$date", value.get("$numberLong"))
        if isinstance(value, dict):
            value = value.get("$numberLong")
        value = int(value) if isinstance(value, str) and value.isdigit() else value
    return milliseconds(value)
