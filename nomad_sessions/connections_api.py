"""The calls on who is connected to a session, and on following one. Who uses this gives the files and the events."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from nomad_sessions.clock import Clock
from nomad_sessions.config import validate_workspace_id
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.operations.reading import Looking, check_text
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.options import Options
from nomad_sessions.workspace.store import Operation, Workspace

# A program that only adds messages starts faster without them.
if TYPE_CHECKING:
    from nomad_sessions.connections import Connection, ConnectionInfo
    from nomad_sessions.events.delivery import Callback, Deliver
    from nomad_sessions.events.hub import Hub
    from nomad_sessions.events.subscription import Subscription

__all__ = ["ConnectionCalls"]

T = TypeVar("T")


class ConnectionCalls:
    """The calls on connections; `docs/api.md` has them in a table, `docs/connections.md` says what there is to know."""

    _fs: FileSystem
    _clock: Clock
    _options: Options
    _workspaces: dict[str, Workspace]
    _connections: set[Connection]

    def workspace(self, workspace_id: str) -> Workspace:
        """The open workspace of this id, opened when it is first asked for."""
        raise NotImplementedError

    def _use(self, workspace_id: str, use: Callable[[Workspace], T]) -> T:
        raise NotImplementedError

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        raise NotImplementedError

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        raise NotImplementedError

    def _events(self) -> Hub:
        raise NotImplementedError

    def open_session(
        self,
        workspace_id: str,
        session_id: str,
        *,
        client: str | None = None,
        exclusive: bool = False,
        expires_after: float | None = None,
    ) -> Connection:
        """Connects a client to an open session: shared with others, or `exclusive`, alone.

        `client` is the name that others are told, by default the program's. The connection ends with `close()`, with
        the manager, and with the process, however that ends, at once. With `expires_after` (seconds) the client
        promises to call `heartbeat()` that often: one that is late may lose its place to another. Nothing of this is in
        the journal or in `sessions.json`.

        Raises `SessionInUseError` (with the `holders`) where others are in the way, `SessionStateError` for a session
        that is closed or archived, `SessionNotFoundError`, `InvalidInputError`. Cost: below a millisecond, and 2 ms
        where others are connected; no sync.
        """
        from nomad_sessions.operations.states import require_open

        self._read(workspace_id, lambda view: require_open(view, session_id))
        connection = self._connect(workspace_id, session_id, client, exclusive, expires_after)
        try:
            self._read(workspace_id, lambda view: require_open(view, session_id))  # Closed while we connected.
        except BaseException:
            connection.close()
            raise
        return connection

    def resume_session(
        self,
        workspace_id: str,
        session_id: str,
        *,
        client: str | None = None,
        exclusive: bool = False,
        expires_after: float | None = None,
    ) -> Connection:
        """Opens a closed or archived session again, and connects to it as `open_session` does.

        That it is open again is durable on return. Raises what `open_session` does, and `SessionStateError` for a
        session that is open.
        """
        from nomad_sessions.operations.states import require_closed, resume

        self._read(workspace_id, lambda view: require_closed(view, session_id))
        connection = self._connect(workspace_id, session_id, client, exclusive, expires_after)
        try:
            self._commit(workspace_id, resume(session_id))
        except BaseException:
            connection.close()
            raise
        return connection

    def connections(self, workspace_id: str, session_id: str | None = None) -> list[ConnectionInfo]:
        """Who is connected to a session, or to any of the workspace, by session and client.

        Of all processes, those that live; a client whose heartbeat is late is among them (`expired`). Reads a small
        file for each.
        """
        from nomad_sessions.connections.presence import connected

        wanted = None if session_id is None else check_text("session_id", session_id)
        found = connected(self._fs, self.workspace(workspace_id).folder)
        return [each for each in found if wanted in (None, each.session_id)]

    def follow_session(
        self,
        workspace_id: str,
        session_id: str,
        *,
        since: int | None = None,
        callback: Callback | None = None,
        deliver: Deliver | None = None,
    ) -> Subscription:
        """A session as it is, and then everything that happens to it: what keeps a `SessionReplica` equal to the store.

        The first event is a `session.snapshot` (`session`, which is None where there is none, `messages`, `reverted`),
        the next is the change that follows it. Another snapshot comes where the changes alone do not say all: when they
        are no longer kept, and after another program's file was merged; it stands for all that happened up to its seq,
        recorded events included. With `since`, the seq of the last event that a
        replica has had, the changes go on from there. Taken as `subscribe` gives it; `callback` and `deliver` are as
        there.

        Raises `InvalidInputError`. Cost: the session is read once, on this thread; later snapshots are read on the
        thread that waits, never where `deliver` hands them to.
        """
        from nomad_sessions.connections.following import SessionSubscription, snapshot_of
        from nomad_sessions.events.delivery import check_delivery, deliver_to

        validate_workspace_id(workspace_id)
        session_id = check_text("session_id", session_id)
        look = snapshot_of(workspace_id, session_id)
        if since is not None and (type(since) is not int or since < 0):
            raise InvalidInputError(field="since", value=since, reason="must be a whole number, not negative")
        check_delivery(callback, deliver)
        subscription = SessionSubscription(
            self._events(),
            workspace_id,
            session_id,
            since,
            lambda: self._use(workspace_id, lambda workspace: workspace.read(look)),
        )
        if callback is not None:
            try:
                deliver_to(subscription, callback, deliver)
            except BaseException:
                subscription.close()
                raise
        return subscription

    def _connect(
        self, workspace_id: str, session_id: str, client: str | None, exclusive: bool, expires_after: float | None
    ) -> Connection:
        import platform

        from nomad_sessions.connections import Connection, ConnectionInfo
        from nomad_sessions.connections.presence import connect

        name = _name_of(client)
        _check(exclusive, expires_after)
        info = ConnectionInfo(
            id=f"{os.getpid()}-{os.urandom(8).hex()}",
            workspace_id=workspace_id,
            session_id=check_text("session_id", session_id),
            client=name,
            exclusive=exclusive,
            pid=os.getpid(),
            machine=platform.node(),
            since=self._clock.now(),
            expires_after=expires_after,
            heartbeat_age=0.0,
        )
        presence = connect(self._fs, self.workspace(workspace_id).folder, info, self._options.lock_timeout)
        connection = Connection(self, presence)
        self._connections.add(connection)
        return connection

    def _leave(self, connection: Connection, let_go: Callable[[], None]) -> None:
        """What the client wrote is on the disk before another has its place."""
        workspace = self._workspaces.get(connection.info.workspace_id)
        try:
            if workspace is not None:
                workspace.flush()
        finally:
            let_go()
            self._connections.discard(connection)


def _name_of(client: str | None) -> str:
    """The name that others are told: the program's, where there is no other."""
    name = os.path.basename(sys.argv[0] or sys.executable) if client is None else client
    if not check_text("client", name).strip():
        raise InvalidInputError(field="client", value=client, reason="must be a name, or left out")
    return check_text("client", name)


def _check(exclusive: bool, expires_after: float | None) -> None:
    if type(exclusive) is not bool:
        raise InvalidInputError(field="exclusive", value=exclusive, reason="must be True or False")
    if expires_after is None:
        return
    if type(expires_after) not in (int, float) or not 0 < expires_after < float("inf"):
        raise InvalidInputError(field="expiresAfter", value=expires_after, reason="must be seconds, more than 0")
