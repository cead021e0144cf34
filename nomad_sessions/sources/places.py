"""The places that sessions are read from: this store, and any copy of it that a sync target keeps.

Verified by `tests/contract/test_sources.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from nomad_sessions.forking import Mutex
from nomad_sessions.models import dump
from nomad_sessions.operations.plain import without
from nomad_sessions.sources.source import Conversation, Record, matches
from nomad_sessions.sync.target import Kind, SyncTarget

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["LocalSource", "TargetSource"]

_PAGE = 500
_SESSION = frozenset({"workspaceId", "messageIds", "hiddenIds", "detachedIds", "revert", "rev"})
_MESSAGE = frozenset({"sessionId", "rev"})
_EVENT = frozenset({"seq", "workspaceId", "recorded"})


class LocalSource:
    """The store itself. Asks nobody, and waits for nobody."""

    name = "local"
    form = "local"

    def __init__(self, manager: NativeSessionManager) -> None:
        self._manager = manager

    def place(self, workspace_id: str) -> str:
        """See `Source`."""
        return self._manager.data_dir

    def get_session(self, workspace_id: str, session_id: str) -> Record | None:
        """See `Source`."""
        found = self._manager.get_session(workspace_id, session_id)
        return None if found is None else dump(found)

    def list_sessions(self, workspace_id: str) -> list[Record]:
        """See `Source`."""
        return [dump(each) for each in self._manager.list_sessions(workspace_id)]

    def search_sessions(self, workspace_id: str, query: str) -> list[Record]:
        """See `Source`. Cost: all sessions."""
        return [each for each in self.list_sessions(workspace_id) if matches(each, query)]

    def messages(self, workspace_id: str, session_id: str) -> Conversation | None:
        """See `Source`."""
        session = self._manager.get_session(workspace_id, session_id)
        page = self._manager.get_session_messages(workspace_id, session_id, include_reverted=True)
        if session is None:
            return None
        return Conversation(dump(session), [dump(each) for each in page], len(session.message_ids))

    def events(self, workspace_id: str, session_id: str) -> list[Record]:
        """See `Source`."""
        return [dump(each) for each in self._manager.events(workspace_id, session_id=session_id, recorded=True)]

    def tasks(self, workspace_id: str, session_id: str) -> list[Record]:
        """See `Source`."""
        return [dump(each) for each in self._manager.list_tasks(workspace_id, session_id=session_id)]

    def ping(self) -> None:
        """Looks whether the data folder can be read."""
        self._manager.list_workspaces()

    def close(self) -> None:
        """The manager is the caller's."""


class TargetSource:
    """What a sync target keeps of the store: through `scan` and `fetch`, whichever it is."""

    form = "copy"

    def __init__(self, target: SyncTarget) -> None:
        """The target is closed with this."""
        self.name = target.name
        self._target = target
        self._one = Mutex()

    def place(self, workspace_id: str) -> str:
        """See `Source`."""
        info = self._target.describe()
        return f"{info.kind}://{info.place}/{workspace_id}"

    def get_session(self, workspace_id: str, session_id: str) -> Record | None:
        """See `Source`."""
        found = self._fetch(workspace_id, "session", [session_id])
        return without(found[0], *_SESSION) if found else None

    def list_sessions(self, workspace_id: str) -> list[Record]:
        """See `Source`. Cost: all sessions, in pages."""
        return [without(each, *_SESSION) for each in self._all(workspace_id, "session")]

    def search_sessions(self, workspace_id: str, query: str) -> list[Record]:
        """See `Source`. Cost: as `list_sessions`."""
        return [each for each in self.list_sessions(workspace_id) if matches(each, query)]

    def messages(self, workspace_id: str, session_id: str) -> Conversation | None:
        """See `Source`."""
        found = self._fetch(workspace_id, "session", [session_id])
        if not found:
            return None
        shown, hidden = list(found[0].get("messageIds", ())), list(found[0].get("hiddenIds", ()))
        there = {str(each["id"]): each for each in self._fetch(workspace_id, "message", [*shown, *hidden])}
        messages = [without(there[each], *_MESSAGE) for each in [*shown, *hidden] if each in there]
        visible, missing = sum(each in there for each in shown), len(shown) + len(hidden) - len(messages)
        return Conversation(without(found[0], *_SESSION), messages, visible, missing)

    def events(self, workspace_id: str, session_id: str) -> list[Record] | None:
        """See `Source`. Cost: all events, in pages."""
        if "event" not in self._target.kinds:
            return None
        found = self._all(workspace_id, "event")
        return [without(each, *_EVENT) for each in found if each.get("sessionId") == session_id]

    def tasks(self, workspace_id: str, session_id: str) -> list[Record] | None:
        """See `Source`. Cost: all tasks, in pages."""
        if "task" not in self._target.kinds:
            return None
        return [each for each in self._all(workspace_id, "task") if each.get("sessionId") == session_id]

    def ping(self) -> None:
        """See `Source`."""
        with self._one:
            self._target.ping()

    def close(self) -> None:
        """See `Source`."""
        with self._one:
            self._target.close()

    def _all(self, workspace_id: str, kind: Kind) -> Iterator[Record]:
        after = ""
        while True:
            with self._one:
                page = self._target.scan(workspace_id, kind, after=after, limit=_PAGE)
            yield from self._fetch(workspace_id, kind, [each.id for each in page])
            if len(page) < _PAGE:
                return
            after = page[-1].id

    def _fetch(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> list[Record]:
        with self._one:
            found = self._target.fetch(workspace_id, kind, ids)
        return [{"id": name, **change.body} for name, change in found.items() if change.body is not None]
