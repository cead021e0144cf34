"""The states of a session, and the ways between them that a client may ask for.

    open ── close_session ──> closed ── archive_session ──> archived
      ^                          │                             │
      └───────────── resume_session, reopen / unarchive ───────┘

Invariant: the state follows from the session's marks alone (`archivedAt`, `closedAt`), so that every process, and a
file that another program wrote, has the same one. Verified by `tests/unit/test_session_states.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomad_sessions.errors import SessionStateError
from nomad_sessions.models import Session
from nomad_sessions.operations.reading import Looking, Stamping, check_text, require_session, session_model
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.store import Operation

__all__ = ["require_closed", "require_open", "resume", "state_of"]

_MARKS = {"archivedAt": "archived", "closedAt": "closed"}


def state_of(fields: Mapping[str, Any]) -> str:
    """What a session with these fields is: "open", "closed" or "archived"."""
    return next((state for mark, state in _MARKS.items() if fields.get(mark) is not None), "open")


def require_open(view: Looking, session_id: str) -> None:
    """Raises `SessionNotFoundError`, and `SessionStateError` for a session that is closed or archived."""
    state = state_of(require_session(view, session_id).fields)
    if state != "open":
        raise SessionStateError(session_id=session_id, state=state, hint="resume_session opens it again")


def require_closed(view: Looking, session_id: str) -> list[str]:
    """The marks that make it closed or archived. Raises `SessionNotFoundError`, and `SessionStateError` for an open
    one."""
    session = require_session(view, session_id)
    marks = [mark for mark in _MARKS if session.fields.get(mark) is not None]
    if not marks:
        raise SessionStateError(session_id=session_id, state="open", hint="open_session connects to it")
    return marks


def resume(session_id: str) -> Operation[Session]:
    """Takes the marks of a closed or archived session away, all in one change."""
    session_id = check_text("session_id", session_id)

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Any]:
        unset = require_closed(view, session_id)
        change = {"type": "session.updated", "sessionId": session_id, "unset": unset}
        return [change], lambda after: session_model(require_session(after, session_id))

    return operation
