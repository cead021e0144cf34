"""What was read elsewhere, written to the local store: ids kept, twice the same as once.

Verified by `tests/unit/test_read_through.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nomad_sessions.errors import AlreadyExistsError, InvalidInputError
from nomad_sessions.formats.importing import mark_of, stamped, store_session
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


def write_events(
    manager: NativeSessionManager, workspace_id: str, session_id: str, rows: Sequence[Record]
) -> list[Record]:
    """Records those events of a session that are not here, by their ids, with one sync; all of them, as they are here
    then. Cost: the recorded events, looked through."""
    known = {str(each["id"]) for each in _events(manager, workspace_id, session_id)}
    new = [each for each in rows if each["id"] not in known]
    if new:
        manager.record_events(workspace_id, new)
    return _events(manager, workspace_id, session_id)


def _events(manager: NativeSessionManager, workspace_id: str, session_id: str) -> list[Record]:
    return [dump(each) for each in manager.events(workspace_id, session_id=session_id, recorded=True)]


def write_tasks(
    manager: NativeSessionManager, workspace_id: str, session_id: str, source: Source, rows: Sequence[Record]
) -> list[Record]:
    """Creates those tasks that are not here, makes those that have changed there what they are, and gives all as they
    are here then. One that cannot be kept is a warning, and is no reason to leave out others."""
    for each in rows:
        task = stamped({key: value for key, value in each.items() if key not in _TASK}, source.form)
        try:
            with manager.transaction(workspace_id) as tx:
                known = tx.get_task(workspace_id, task["id"])
                mark = mark_of({} if known is None else known.model_extra or {})
                if known is not None and (not mark or mark == task["imported"]):
                    continue  # It began here, or is what was read before: what was changed here stays.
                if known is not None:  # Anew: not every step from the one state to the other is one of a task's life.
                    tx.delete_task(workspace_id, task["id"])
                tx.create_task(workspace_id, session_id, task)
        except (InvalidInputError, AlreadyExistsError) as error:
            _LOG.warning("read through: %s: task %s cannot be kept: %s", source.name, task["id"], error)
    return [dump(each) for each in manager.list_tasks(workspace_id, session_id=session_id)]
