"""Moving a session: to another directory, or with all it has to another workspace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, SessionNotFoundError
from nomad_sessions.models import Message, Session, dump

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["move"]


def move(
    manager: NativeSessionManager, workspace_id: str, session_id: str, to_workspace: str | None, directory: str | None
) -> Session:
    """See `NativeSessionManager.move_session`."""
    if to_workspace is None and directory is None:
        raise InvalidInputError(field="to_workspace", value=None, reason="say where to: to_workspace or directory")
    if to_workspace is None or to_workspace == workspace_id:
        if directory is None:
            session = manager.get_session(workspace_id, session_id)
            if session is None:
                raise SessionNotFoundError(session_id=session_id)
            return session
        return manager.update_session(workspace_id, session_id, directory=directory)
    validate_workspace_id(to_workspace)
    session = manager.get_session(workspace_id, session_id)
    if session is None:
        raise SessionNotFoundError(session_id=session_id)
    messages = manager.get_session_messages(workspace_id, session_id, include_reverted=True)
    fields: dict[str, Any] = {
        key: value
        for key, value in dump(session).items()
        if key not in ("workspaceId", "messageIds", "rev", "revert")
    }
    if directory is not None:
        fields["directory"] = directory
    if manager.get_session(to_workspace, session_id) is None:
        _copy(manager, session, fields, messages, to_workspace)
    manager.delete_session(workspace_id, session_id)
    moved = manager.get_session(to_workspace, session_id)
    if moved is None:
        raise SessionNotFoundError(session_id=session_id)
    return moved


def _copy(
    manager: NativeSessionManager,
    session: Session,
    fields: dict[str, Any],
    messages: Iterable[Message],
    to_workspace: str,
) -> None:
    """One transaction: if the session is there, all of it is."""
    with manager.transaction(to_workspace) as there:
        there.create_session(to_workspace, fields)
        for message in messages:
            body = {key: value for key, value in dump(message).items() if key not in ("sessionId", "rev")}
            manager.carry_attachments(session.workspace_id, to_workspace, body)
            there.add_message(to_workspace, session.id, body)
        if session.revert is not None:
            there.hide_after(to_workspace, session.id, len(session.message_ids), dump(session.revert))
        there.update_session(to_workspace, session.id, {"updatedAt": session.updated_at})
