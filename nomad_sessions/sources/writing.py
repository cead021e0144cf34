"""What was read elsewhere, written to the local store: ids kept, twice the same as once.

Verified by `tests/unit/test_read_through.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nomad_sessions.formats.importing import mark_of, store_session
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.models import dump
from nomad_sessions.sources.source import Conversation, Record, Source

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["origin_of", "write_events", "write_session", "write_tasks"]

_LOG = logging.getLogger("nomad_sessions")
_TASK = frozenset({"sessionId", "rev"})


def origin_of(record: Record, sources: Iterable[Source], workspace_id: str) -> Source | None:
    """The source that a session of ours came from, if it was one of these."""
    mark = mark_of(record)
    of_form = (each for each in sources if mark.get("format") == each.form)
    return next((each for each in of_form if mark.get("source") == each.place(workspace_id)), None)


def write_session(manager: NativeSessionManager, workspace_id: str, source: Source, found: Conversation) -> None:
    """Stores a session whole, and what has changed there since. Durable as the manager's setting says. Raises what
    writing does; records that cannot be kept are warnings."""
    report = ImportReport(source=source.place(workspace_id), format=source.form)
    places = [f"message {number}" for number in range(len(found.messages))]
    session, messages = dict(found.session), [dict(each) for each in found.messages]
    store_session(manager, workspace_id, ParsedSession(session, messages, places, found.visible), report)
    for each in report.warnings:
        _LOG.warning("read through: %s: %s", source.name, each)


def write_events(manager: NativeSessionManager, workspace_id: str, rows: Sequence[Record]) -> list[Record]:
    """Records those events that are not here, by their ids, with one sync; all of them, as they are here then."""
    ids = {str(each["id"]) for each in rows}
    there = _events(manager, workspace_id, ids)
    known = {str(each["id"]) for each in there}
    new = [each for each in rows if each["id"] not in known]
    if new:
        manager.record_events(workspace_id, new)
        there = _events(manager, workspace_id, ids)
    return there


def _events(manager: NativeSessionManager, workspace_id: str, ids: set[str]) -> list[Record]:
    return [dump(each) for each in manager.events(workspace_id, recorded=True) if each.id in ids]


def write_tasks(
    manager: NativeSessionManager, workspace_id: str, session_id: str, rows: Sequence[Record]
) -> list[Record]:
    """Creates those tasks that are not here, and gives all as they are here then."""
    for each in rows:
        fields: dict[str, Any] = {key: value for key, value in each.items() if key not in _TASK}
        if manager.get_task(workspace_id, str(each["id"])) is None:
            manager.create_task(workspace_id, session_id, fields)
    return [dump(each) for each in manager.list_tasks(workspace_id, session_id=session_id)]
