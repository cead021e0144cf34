"""The calls on events: subscribe, replay, record. Who uses this gives the files and the open workspaces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError, StoreClosedError
from nomad_sessions.models import Event
from nomad_sessions.operations.reading import Looking
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.options import Options
from nomad_sessions.workspace.store import Operation, Workspace

# A program that only adds messages starts faster without them.
if TYPE_CHECKING:
    from nomad_sessions.events.cursors import CursorInfo
    from nomad_sessions.events.delivery import Callback, Deliver
    from nomad_sessions.events.hub import Hub
    from nomad_sessions.events.subscription import Subscription

__all__ = ["EventCalls"]

T = TypeVar("T")


class EventCalls:
    """The calls on events; `docs/api.md` has them in a table, `docs/events.md` says what there is to know."""

    data_dir: str
    _fs: FileSystem
    _options: Options
    _mutex: threading.Lock
    _closed: bool
    _hub: Hub | None

    def list_workspaces(self) -> list[str]:
        """The ids of all workspaces in the data folder, sorted."""
        raise NotImplementedError

    def workspace(self, workspace_id: str) -> Workspace:
        """The open workspace of this id, opened when it is first asked for."""
        raise NotImplementedError

    def _use(self, workspace_id: str, use: Callable[[Workspace], T]) -> T:
        raise NotImplementedError

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        raise NotImplementedError

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        raise NotImplementedError

    def subscribe(
        self,
        workspace_id: str | None = None,
        *,
        types: str | Iterable[str] = (),
        session_id: str | None = None,
        message_id: str | None = None,
        recorded: bool | None = None,
        has_tool: bool | None = None,
        is_agent_task: bool | None = None,
        since: int | None = None,
        cursor: str | None = None,
        callback: Callback | None = None,
        deliver: Deliver | None = None,
    ) -> Subscription:
        """Everything that happens from now on, in this process or another; of one workspace, or of all.

        `types` are names of events or patterns (`"session.*"`), the other filters as in `EventFilter`. `since` is a
        seq: what followed it comes first. `cursor` is the name of a durable place in the log of the workspace: begun
        at `since`, or now, and gone on from after what was acknowledged last (`Subscription.ack`); what was not
        acknowledged comes again, in whichever process has it next.

        Without `callback` the subscription is to be iterated, with `for` or `async for`. With one it is called for one
        event after the other, on a thread of the library, or where `deliver` says: an asyncio loop, an executor, or a
        function that has what it is given called (`deliver=QTimer…`). With a cursor each event is acknowledged when the
        callback has returned; one that fails ends the subscription, so that nothing is skipped. Where events are no
        longer kept, or the log is another one, a callback is told by an event `events.pruned`, iteration by
        `EventsPrunedError`, and both go on with what there is.

        Raises `InvalidInputError`, `LockTimeoutError` while another has the cursor. An event arrives within
        milliseconds of its commit, and never later than a quarter of a second where the system gives no word of it.
        """
        from nomad_sessions.events.delivery import check_delivery, deliver_to
        from nomad_sessions.events.filters import EventFilter
        from nomad_sessions.events.subscription import Subscription
        from nomad_sessions.workspace.log import LogPosition

        wanted = EventFilter(types, session_id, message_id, recorded, has_tool, is_agent_task)
        if workspace_id is None and (since is not None or cursor is not None):
            field, value = ("since", since) if since is not None else ("cursor", cursor)
            raise InvalidInputError(field=field, value=value, reason="is of one workspace: say which")
        _check_numbers(since=since)
        check_delivery(callback, deliver)
        if workspace_id is not None:
            validate_workspace_id(workspace_id)
        hub = self._events()
        begin = None if since is None else LogPosition(since)
        held = None
        if cursor is not None and workspace_id is not None:
            held, begin = hub.hold(workspace_id, cursor, since)
        try:
            subscription = Subscription(hub, wanted, workspace_id, begin, held)
        except BaseException:
            if held is not None:
                held.close()
            raise
        if callback is not None:
            try:
                deliver_to(subscription, callback, deliver)
            except BaseException:
                subscription.close()
                raise
        return subscription

    def events(
        self,
        workspace_id: str,
        *,
        since: int | None = None,
        until: int | None = None,
        types: str | Iterable[str] = (),
        session_id: str | None = None,
        message_id: str | None = None,
        recorded: bool | None = None,
        has_tool: bool | None = None,
        is_agent_task: bool | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Event]:
        """What happened, in order: after the seq `since`, up to the seq `until`, both None for as far as it is kept.

        The filters are those of `subscribe`; `after` and `before` are times in ms, the second exclusive. Read from the
        log as it is consumed, and not kept. Raises `EventsPrunedError` at once, where what followed `since` is no
        longer kept, which what was recorded always is (`recorded=True`), or where the log is not as far as that; and
        later, where what follows goes while this is consumed. Cost: the bytes of the log between the two, and of the
        segments that they lie in.
        """
        from nomad_sessions.events.filters import EventFilter
        from nomad_sessions.events.replay import replay

        wanted = EventFilter(types, session_id, message_id, recorded, has_tool, is_agent_task, after, before)
        validate_workspace_id(workspace_id)
        _check_numbers(since=since, until=until, limit=limit)
        return replay(self._events(), workspace_id, wanted, since, until, limit, newest_first=newest_first)

    def record_event(
        self,
        workspace_id: str,
        type: str,
        properties: Mapping[str, Any] | None = None,
        *,
        session_id: str | None = None,
        message_id: str | None = None,
    ) -> int:
        """Records what happened outside of the store, in one order with its changes; gives the seq. Durable on return.

        Any type (`"session.idle"`, a tool's run, …) and any JSON. What is recorded is data of the user's: it outlives
        the journal's retention. Raises `InvalidInputError`, `StorageError`.
        """
        event = {"type": type, "properties": properties, "session_id": session_id, "message_id": message_id}
        return self.record_events(workspace_id, [event])[0]

    def record_events(self, workspace_id: str, items: Iterable[Mapping[str, Any]]) -> list[int]:
        """The same for several events, with one sync: all of them, or none. Durable on return.

        Each has a `type`, and may have `properties`, `session_id`, `message_id`, and, from another store, an `id` and a
        `timestamp` (ms) of its own. Raises `InvalidInputError`, `ProtectedFieldError`, `StorageError`.
        """
        from nomad_sessions.operations.recording import record

        return self._commit(workspace_id, record(items))

    def list_cursors(self, workspace_id: str) -> list[CursorInfo]:
        """The cursors of a workspace, by name: what each has dealt with last, and whether a subscription has it
        now. Raises `CorruptionError` for one that holds no position."""
        from nomad_sessions.events.cursors import list_cursors

        return list_cursors(self._fs, self.workspace(workspace_id).folder)

    def delete_cursor(self, workspace_id: str, cursor: str) -> bool:
        """Forgets a durable cursor: who subscribes with this name begins anew. False when there is none. Durable on
        return. Raises `LockTimeoutError` while a subscription has it."""
        from nomad_sessions.events.cursors import delete_cursor

        return delete_cursor(self._fs, self.workspace(workspace_id).folder, cursor)

    def _events(self) -> Hub:
        from nomad_sessions.events.hub import Hub

        with self._mutex:
            if self._closed:
                raise StoreClosedError(path=self.data_dir)
            if self._hub is None:
                self._hub = Hub(self)
            return self._hub


def _check_numbers(**given: int | None) -> None:
    for field, value in given.items():
        if value is not None and (type(value) is not int or value < 0):
            raise InvalidInputError(field=field, value=value, reason="must be a whole number, not negative")
