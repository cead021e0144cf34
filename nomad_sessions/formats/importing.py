"""Parsed sessions into a workspace: one atomic transaction for each session, and the same result when done again.

Each imported record carries `imported: {format, digest}`, the digest being that of what the source said. So a second
import leaves records alone whose source is unchanged, local edits included, and brings over what changed there since.
A session notes its `source` too: one conversation may lie in several (a database, the files before it, an export).
Another source than the one it came from changes what is here only when its session was updated later; if not, it adds
the messages that are missing here.

Invariant: importing a file twice changes nothing the second time; an import that was interrupted is completed by
repeating it. Verified by `tests/unit/test_import.py`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from nomad_sessions.errors import AlreadyExistsError, AttachmentMissingError, InvalidInputError, NotFoundError
from nomad_sessions.formats import event_documents
from nomad_sessions.formats.holding import like
from nomad_sessions.formats.homes import Homes
from nomad_sessions.formats.placing import as_encoded, digest_of, place_new
from nomad_sessions.formats.registry import recognise
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.values import as_text, finite, mapping, objects, text
from nomad_sessions.models import PROTECTED_SESSION, dump, normalise_fields, refuse_protected, validate_new_message
from nomad_sessions.operations.messages import put_in_place
from nomad_sessions.operations.plain import plain
from nomad_sessions.operations.reading import check_new_id
from nomad_sessions.operations.sessions import hide_all, record_of
from nomad_sessions.storage import attachments

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager
    from nomad_sessions.sessions_api import SessionCalls

__all__ = [
    "STDIN",
    "Progress",
    "changeable",
    "import_bytes",
    "import_file",
    "mark_of",
    "read_document",
    "source_of",
    "stamped",
    "store_session",
]

Progress = Callable[[int, int], None]
STDIN = "-"
"""What a document that came through a pipe is called."""
_BEGIN = 64 << 10
_PAGE = 1000
_FIXED = ("id", "sessionId", "workspaceId", "createdAt", "rev", "messageIds")


def import_file(
    manager: NativeSessionManager,
    workspace_id: str,
    path: str | Path,
    *,
    anywhere: bool = False,
    form: str | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Imports one file; the format is found by its content. Cost: the file is held in memory whole, some 4 times over,
    and the largest of its sessions as often again.

    With `anywhere`, a session that another workspace has already is brought up to date there: the workspace is for new
    ones. `form` names the format that it has to be of. `progress(done, total)` is called after each session. Durable
    as the manager's setting says, session by session. Raises `OSError` when the file cannot be read,
    `InvalidInputError` when it is no file or none of the known formats, and what the manager raises. Records that
    cannot be kept are in the report, with their place.
    """
    with _opened(Path(path)) as file:
        data = read_document(file, str(path))
    beside = Path(path).parent / attachments.FOLDER
    return import_bytes(
        manager, workspace_id, data, source=str(path), anywhere=anywhere, form=form, progress=progress, beside=beside
    )


def _opened(path: Path) -> BinaryIO:
    """A regular file. A device has no end, and a pipe that nobody writes to would be waited for."""
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        reason = "is no regular file: what a pipe gives can be read from stdin, as -"
        raise InvalidInputError(field="file", value=str(path), reason=reason)
    return path.open("rb")


def read_document(file: BinaryIO, source: str) -> bytes:
    """The bytes of a JSON document; of anything else only the first, before `InvalidInputError` is raised."""
    begin = file.read(_BEGIN)
    start = begin.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")[:1]
    if start not in (b"{", b"["):
        what = "it is empty" if not begin else "it begins with neither { nor ["
        raise InvalidInputError(field="file", value=source, reason=f"not a whole JSON file: {what}")
    return begin + file.read()


def import_bytes(
    manager: NativeSessionManager,
    workspace_id: str,
    data: bytes,
    *,
    source: str,
    anywhere: bool = False,
    form: str | None = None,
    progress: Progress | None = None,
    beside: Path | None = None,
) -> ImportReport:
    """As `import_file`, for bytes that are at hand already; `source` names them in the report, and `beside` is where
    attachments lie that they only name."""
    events = event_documents.documents(data) if form in (None, event_documents.NAME) else None
    if events is not None:
        report = ImportReport(source=source, format=event_documents.NAME)
        event_documents.import_events(manager, workspace_id, events, report)
        return report
    found, value = recognise(data, source, form)
    report = ImportReport(source=source, format=found.name)
    sessions = found.parse(value, report)[::-1]
    del data, value  # A large file fills the memory several times over; what is done with goes.
    total = len(sessions)
    homes = Homes(manager, report) if anywhere else None
    while sessions:
        parsed = sessions.pop()
        home = homes.of(parsed.session["id"], lambda: workspace_id) if homes is not None else None
        _bring_files(manager, home or workspace_id, parsed, beside, report)
        store_session(manager, home or workspace_id, parsed, report)
        if progress is not None:
            progress(total - len(sessions), total)
    return report


def _bring_files(
    manager: NativeSessionManager, workspace_id: str, parsed: ParsedSession, beside: Path | None, report: ImportReport
) -> None:
    """The bytes of files that messages only name, from where they lie beside; what is nowhere is in the report."""
    for message, place in zip(parsed.messages, parsed.places, strict=True):
        for file in (mapping(part.get("file")) for part in objects(message.get("parts"))):
            name = text(file.get("sha256"))
            if name is not None and not file.get("url") and not _has_file(manager, workspace_id, name, beside):
                report.warn(place, f"the bytes of its file {as_text(file.get('name') or name)} are not there")


def _has_file(manager: NativeSessionManager, workspace_id: str, name: str, beside: Path | None) -> bool:
    try:
        manager.read_attachment(workspace_id, name)
    except (AttachmentMissingError, NotFoundError):
        path = None if beside is None else beside / name
        if path is None or not (len(name) == 64 and name.isalnum() and path.is_file()):
            return False
        data = path.read_bytes()
        return attachments.name_of(data) == name and manager._attach(workspace_id, data) == name
    return True


def store_session(
    manager: NativeSessionManager, workspace_id: str, parsed: ParsedSession, report: ImportReport
) -> None:
    """One session, in one transaction: its fields, the messages that are new or changed, and what a revert hides."""
    session_id: str = parsed.session["id"]
    if not _is_acceptable(workspace_id, parsed, report):
        return
    session = stamped(parsed.session, report.format, visible=parsed.visible if parsed.reverted else None)
    session["imported"]["source"] = source_of(report)
    if place_new(manager, workspace_id, parsed, session, report):
        report.stored(session_id, workspace_id)
        report.sessions.imported += 1
        return
    parsed.await_original()
    parsed.messages = like(parsed.messages, (stamped(message, report.format) for message in parsed.messages))
    with manager.transaction(workspace_id) as tx:
        stored = tx.get_session(workspace_id, session_id)
        before = dump(stored) if stored is not None else None
        if "original" in mark_of(before or {}):  # An import that kept none leaves the one of an earlier import.
            session["imported"].setdefault("original", mark_of(before or {})["original"])
        if before is None:
            tx.create_session(workspace_id, session)
        behind = before is not None and _is_behind(session, before)
        new = _bring_changes(tx, workspace_id, parsed, before, report, keep=behind)
        mark, noted = mark_of(session), mark_of(before or {})
        changes = {} if before is None or behind or mark == noted else changeable(session)
        rehide = before is None or bool(new) or (not behind and mark.get("visible") != noted.get("visible"))
        if rehide and before is not None and before.get("revert"):
            # Adding to a reverted session would make the revert final, and what it hides would be gone.
            tx.unrevert(workspace_id, session_id)
        if new:
            new = _add(tx, workspace_id, parsed, new, report)
        if rehide and parsed.reverted:
            _hide(tx, workspace_id, parsed, parsed.reason or f"reverted in {report.format}")
        if before is None or changes or new:
            # Adding and hiding count as changes of the session: its time is set back to the source's.
            updated = before["updatedAt"] if before is not None and behind else session["updatedAt"]
            tx.update_session(workspace_id, session_id, {**changes, "updatedAt": updated})
    report.stored(session_id, workspace_id)
    _count_session(report, is_new=before is None, is_changed=bool(changes))


def _bring_changes(
    tx: SessionCalls,
    workspace_id: str,
    parsed: ParsedSession,
    before: Mapping[str, Any] | None,
    report: ImportReport,
    *,
    keep: bool,
) -> list[dict[str, Any]]:
    """Changes the messages that are here and are another in the source; gives those that are to be added."""
    there = {} if before is None else _stored_marks(tx, workspace_id, parsed.session["id"])
    new, changed = _new_and_changed(parsed, there, report, keep=keep)
    if before is not None and keep:
        _warn_of_others(parsed, there, mark_of(before).get("source"), report)
    for message in changed:
        # Parts that the source no longer has go: a new text would have no place among them.
        tx.update_message(workspace_id, message["id"], {"parts": None, **changeable(message)})
    if new and before is not None and before.get("revert"):
        return _free(tx, workspace_id, parsed, new, report)  # Nothing is shown again for what cannot be added.
    return new


def _is_behind(session: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether this is another source than the one that the session came from, and says nothing newer."""
    known = mark_of(before).get("source")
    return known not in (None, mark_of(session)["source"]) and bool(session["updatedAt"] <= before["updatedAt"])


def _is_acceptable(workspace_id: str, parsed: ParsedSession, report: ImportReport) -> bool:
    """Whether the store would take the session's own record."""
    given = {key: value for key, value in parsed.session.items() if key != "imported"}
    try:
        given = normalise_fields("session", finite(given), {})
        refuse_protected(given, PROTECTED_SESSION - {"id", "createdAt"})
        record_of(workspace_id, given)
    except InvalidInputError as error:
        report.sessions.skipped += 1
        report.messages.skipped += len(parsed.messages)
        report.skip(f"session {parsed.session['id']!r}", f"the session cannot be stored: {error.field}: {error.reason}")
        return False
    return True


def _stored_marks(tx: SessionCalls, workspace_id: str, session_id: str) -> dict[str, dict[str, Any]]:
    """What the last import noted in each message that the session has, by id."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    while True:
        page = tx.get_session_messages(workspace_id, session_id, limit=_PAGE, cursor=cursor, include_reverted=True)
        found |= {message.id: mark_of(message.model_extra or {}) for message in page}
        cursor = page.next_cursor
        if cursor is None:
            return found


def _new_and_changed(
    parsed: ParsedSession, there: Mapping[str, Mapping[str, Any]], report: ImportReport, *, keep: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is to be added, in order, and what the source has changed (nothing, when what is here is to be kept).

    Takes out what the store would refuse, so that one bad record does not cost the others.
    """
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    kept: list[int] = []
    seen: set[str] = set()
    for index, message in enumerate(parsed.messages):
        if message["id"] in seen:
            report.skip_message(parsed.places[index], "its id occurs twice")
            continue
        seen.add(message["id"])
        before = there.get(message["id"])
        if before is None or (not keep and before != mark_of(message)):
            try:
                _check(message)
            except InvalidInputError as error:
                reason = f"the message cannot be stored: {error.field}: {error.reason}"
                report.skip_message(parsed.places[index], reason)
                continue
            (new if before is None else changed).append(message)
        kept.append(index)
    report.messages.updated += len(changed)
    report.messages.unchanged += len(kept) - len(new) - len(changed)
    _keep(parsed, kept)
    return new, changed


def _warn_of_others(
    parsed: ParsedSession, there: Mapping[str, Mapping[str, Any]], source: Any, report: ImportReport
) -> None:
    """Says how many messages are kept as they are here though this source says otherwise: they are not what it has."""
    known = ((mark_of(message), there.get(message["id"])) for message in parsed.messages)
    others = sum(mark.get("digest") != before.get("digest") for mark, before in known if before is not None)
    if others:
        text = (
            f"{others} messages are here otherwise, as {as_text(source)} has them, and stay so: this source is no newer"
        )
        report.warn(f"session {parsed.session['id']!r}", text)


def _check(message: Mapping[str, Any]) -> None:
    """Raises `InvalidInputError` for a message that the calls which store it would refuse."""
    given = normalise_fields("message", message, {})
    refuse_protected(given, frozenset({"sessionId", "rev"}))
    validate_new_message(given)
    check_new_id(given["id"])
    plain(given)


def _keep(parsed: ParsedSession, indexes: list[int]) -> None:
    """Leaves only these messages; the visible ones stay visible."""
    if len(indexes) == len(parsed.messages):
        return
    parsed.visible = sum(index < parsed.visible for index in indexes)
    parsed.messages = [parsed.messages[index] for index in indexes]
    parsed.places = [parsed.places[index] for index in indexes]


def _add(
    tx: SessionCalls, workspace_id: str, parsed: ParsedSession, new: list[dict[str, Any]], report: ImportReport
) -> list[dict[str, Any]]:
    """Adds messages, and gives those that were added; the others are reported, and leave `parsed`."""
    try:
        tx.add_messages(workspace_id, parsed.session["id"], new)
    except AlreadyExistsError:  # rare, so the ids are looked up only now: a lookup for each costs as much as adding it
        new = _free(tx, workspace_id, parsed, new, report)
        tx.add_messages(workspace_id, parsed.session["id"], new)
    report.messages.imported += len(new)
    if len(new) < len(parsed.messages):  # What was left out before may have its place in the middle.
        added, wanted = ([message["id"] for message in each] for each in (new, parsed.messages))
        tx._commit(workspace_id, put_in_place(parsed.session["id"], frozenset(added), wanted))
    return new


def _free(
    tx: SessionCalls, workspace_id: str, parsed: ParsedSession, new: list[dict[str, Any]], report: ImportReport
) -> list[dict[str, Any]]:
    """Those of the new messages whose id no other session has; the others are reported, and leave `parsed`."""
    taken = {message["id"] for message in new if tx.get_message(workspace_id, message["id"]) is not None}
    for message, place in zip(parsed.messages, parsed.places, strict=True):
        if message["id"] in taken:
            report.skip_message(place, "another session here has a message of that id")
    _keep(parsed, [index for index, message in enumerate(parsed.messages) if message["id"] not in taken])
    return [message for message in new if message["id"] not in taken]


def _hide(tx: SessionCalls, workspace_id: str, parsed: ParsedSession, reason: str) -> None:
    session_id = parsed.session["id"]
    if parsed.visible:
        tx.revert(workspace_id, session_id, parsed.messages[parsed.visible - 1]["id"], reason=reason)
    else:
        tx._commit(workspace_id, hide_all(session_id, reason))


def stamped(mapping: Mapping[str, Any], name: str, visible: int | None = None) -> dict[str, Any]:
    """The mapping with its `imported` mark. What another import noted there, in a file of ours, is kept beside it."""
    plain, encoded = as_encoded({key: value for key, value in mapping.items() if key != "imported"})
    mark = {**mark_of(mapping), "format": name, "digest": digest_of(encoded)}
    if visible is not None:
        mark["visible"] = visible
    return {**plain, "imported": mark}


def changeable(stamped: Mapping[str, Any]) -> dict[str, Any]:
    """What to write when the source is no longer what it was at the last import."""
    return {key: value for key, value in stamped.items() if key not in _FIXED}


def source_of(report: ImportReport) -> str:
    """What the sessions of an import name as their source: a place of its own kind, or a file by its whole path."""
    return report.source if report.source == STDIN or "://" in report.source else os.path.abspath(report.source)


def mark_of(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What imports noted in a record: its `imported`, where there is one."""
    mark = mapping.get("imported")
    return mark if isinstance(mark, dict) else {}


def _count_session(report: ImportReport, *, is_new: bool, is_changed: bool) -> None:
    if is_new:
        report.sessions.imported += 1
    elif is_changed:
        report.sessions.updated += 1
    else:
        report.sessions.unchanged += 1
