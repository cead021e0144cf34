"""Which sessions a rule would remove, and which attachments nothing names any more; and removing them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from nomad_sessions.models import Session, dump
from nomad_sessions.storage.codec import encode
from nomad_sessions.workspace import sweeping
from nomad_sessions.workspace.sweeping import Unreferenced

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = [
    "Rule",
    "Unreferenced",
    "Victim",
    "find_unreferenced",
    "find_victims",
    "remove",
    "remove_unreferenced",
]


class Rule(NamedTuple):
    """What goes: sessions last changed before `before` (ms), those beyond the `keep` newest, the oldest until the rest
    is at most `max_bytes`. What any of them names goes. `archived_only` leaves all others alone."""

    before: int | None = None
    keep: int | None = None
    max_bytes: int | None = None
    archived_only: bool = False


class Victim(NamedTuple):
    """A session that would go: why, and the size of its JSON in bytes."""

    session: Session
    reason: str
    bytes: int


def find_victims(manager: NativeSessionManager, workspace_id: str, rule: Rule) -> list[Victim]:
    """The sessions that the rule names, the oldest first; changes nothing. Children and forks count by themselves.
    Reads every message where sizes matter."""
    sessions = list(manager.list_sessions(workspace_id, archived=True if rule.archived_only else None))
    sizes = {each.id: _size(manager, workspace_id, each) for each in sessions} if rule.max_bytes is not None else {}
    found: dict[str, str] = {}
    kept = 0
    for number, session in enumerate(sessions):  # The newest first.
        kept += sizes.get(session.id, 0)
        if rule.before is not None and session.updated_at < rule.before:
            found[session.id] = "old"
        elif rule.keep is not None and number >= rule.keep:
            found[session.id] = "beyond the number"
        elif rule.max_bytes is not None and kept > rule.max_bytes:
            found[session.id] = "beyond the size"
    gone = [each for each in reversed(sessions) if each.id in found]
    return [Victim(each, found[each.id], sizes.get(each.id) or _size(manager, workspace_id, each)) for each in gone]


def remove(manager: NativeSessionManager, workspace_id: str, victims: Iterable[Victim]) -> list[str]:
    """Deletes them, in one transaction; the ids of those that went. One that changed since it was found stays."""
    gone: list[str] = []
    with manager.transaction(workspace_id) as transaction:
        for victim in victims:
            now = transaction.get_session(workspace_id, victim.session.id)
            if now is not None and now.rev == victim.session.rev:
                gone += transaction.delete_session(workspace_id, victim.session.id)
    return gone


def find_unreferenced(manager: NativeSessionManager, workspace_id: str, *, before: int) -> list[Unreferenced]:
    """The attachments that nothing in the workspace names any more, and that nobody attached since `before` (ms), the
    oldest first; changes nothing.

    What a session or message names that was deleted is named by the journal for as long as that is kept, and by
    `sessions.json.prev`. Reads every byte of the workspace but the attachments.
    """
    workspace = manager.workspace(workspace_id)
    return sweeping.find(workspace.fs, workspace.folder, before)


def remove_unreferenced(manager: NativeSessionManager, workspace_id: str, *, before: int) -> list[Unreferenced]:
    """Removes them, and says which they were; safe while others write, as long as `before` is well in the past: what is
    attached has its name written a moment later. Durable on return."""
    return manager._use(workspace_id, lambda workspace: sweeping.sweep(workspace, before))


def _size(manager: NativeSessionManager, workspace_id: str, session: Session) -> int:
    messages = manager.get_session_messages(workspace_id, session.id, include_reverted=True)
    return len(encode(dump(session))) + sum(len(encode(dump(message))) for message in messages)
