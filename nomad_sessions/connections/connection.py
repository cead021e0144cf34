"""What a client of a session holds: its place, what it has under way, and an orderly end.

    open ── close() ──> closing ── all that was under way has ended ──> closed
      └── its place was taken, or the workspace deleted ──> lost ── close() ──> closed

Invariant: once `closing`, nothing begins any more; the place is let go last, when what the client wrote is on the disk,
and in any case: an error or Ctrl-C on the way leaves no client connected. Verified by `tests/unit/test_connections.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from nomad_sessions.connections.presence import ConnectionInfo, Presence
from nomad_sessions.errors import ConnectionClosedError
from nomad_sessions.events import Subscription
from nomad_sessions.finishing import finished

if TYPE_CHECKING:
    from nomad_sessions.events.delivery import Callback, Deliver

__all__ = ["Connection"]


class Host(Protocol):
    """The manager, as a connection needs it."""

    def follow_session(
        self,
        workspace_id: str,
        session_id: str,
        *,
        since: int | None = None,
        callback: Callback | None = None,
        deliver: Deliver | None = None,
    ) -> Subscription:
        """The session, and then what happens to it."""
        ...

    def _leave(self, connection: Connection, let_go: Callable[[], None]) -> None:
        """Makes what was written durable, lets go, and forgets the connection."""
        ...


class Connection:
    """A client's connection to a session; `manager.open_session(…)` and `resume_session(…)` give it.

    A context manager, also for `async with`. Safe for any number of threads. It does not keep others from writing to
    the session through the manager: being exclusive is an agreement between those who connect.
    """

    def __init__(self, host: Host, presence: Presence) -> None:
        self._host = host
        self._presence = presence
        self._following: list[Subscription] = []
        self._state = "open"
        self._forget_work()

    def _forget_work(self) -> None:
        self._condition = threading.Condition()
        self._at_work: list[int] = []

    @property
    def info(self) -> ConnectionInfo:
        """Who this is: client, session, mode, since when; as it was when it connected."""
        return self._presence.info

    @property
    def session_id(self) -> str:
        """The session."""
        return self._presence.info.session_id

    @property
    def state(self) -> str:
        """ "open", "closing", "closed", or "lost": another client has taken its place, or the workspace was deleted.

        Whether it was lost is known from the last `heartbeat` or `busy`.
        """
        return self._state

    def heartbeat(self) -> None:
        """Says that the client lives and is at it; to be called more often than `expires_after`.

        From the loop that must not hang (a window's timer), not from a thread that goes on whatever happens. Raises
        `ConnectionClosedError` after the end, and when the place is lost. Cost: some 0.1 ms, no sync.
        """
        self._check_open()
        if not self._presence.beat():
            self._lose()

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Something is under way, a model's answer say, for which `close` is to wait.

        Raises `ConnectionClosedError` where nothing may begin any more: after `close`, and when the place is lost.
        """
        me = threading.get_ident()
        with self._condition:
            self._check_open()
            if not self._presence.counts():
                self._lose()
            self._at_work.append(me)
        try:
            yield
        finally:
            with self._condition:
                if me in self._at_work:  # Else it began in the parent, before a fork.
                    self._at_work.remove(me)
                self._condition.notify_all()

    def follow(
        self, *, since: int | None = None, callback: Callback | None = None, deliver: Deliver | None = None
    ) -> Subscription:
        """As `manager.follow_session` for this session; it ends with the connection."""
        self._check_open()
        info = self.info
        found = self._host.follow_session(
            info.workspace_id, info.session_id, since=since, callback=callback, deliver=deliver
        )
        with self._condition:
            self._following.append(found)
            late = self._state != "open"
        if late:  # Closed by another thread meanwhile.
            found.close()
        return found

    def close(self, *, timeout: float | None = None) -> None:
        """Lets nothing more begin, waits for what is under way, syncs what was written, and lets go of the session.

        `timeout` (seconds) is how long it waits; then, and after Ctrl-C, it lets go of the session all the same. What
        this thread itself has under way is not waited for. May be called twice. Raises what a sync does.
        """
        with self._condition:
            if self._state == "closed":
                return
            self._state = "closing"
        try:
            with self._condition:
                self._condition.wait_for(self._is_quiet, timeout)
        finally:
            for each in self._following:
                each.close()
            self._host._leave(self, self._let_go)

    def _is_quiet(self) -> bool:
        me = threading.get_ident()
        return all(each == me for each in self._at_work)

    def _let_go(self) -> None:
        self._presence.leave()
        self._state = "closed"

    def _check_open(self) -> None:
        if self._state != "open":
            raise ConnectionClosedError(message=f"the connection to session {self.session_id!r} is {self._state}")

    def _lose(self) -> None:
        self._state = "lost"
        raise ConnectionClosedError(
            message=f"the connection to session {self.session_id!r} is lost: its heartbeat was late and another client "
            "took its place, or the workspace was deleted; close it and connect again"
        )

    def after_fork(self) -> None:
        """In a forked child: the connection is the parent's."""
        self._forget_work()
        self._state = "closed"

    def __enter__(self) -> Connection:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Closes it."""
        self.close()

    async def __aenter__(self) -> Connection:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Closes it, on a thread of its own; it is closed then, also where the task is cancelled meanwhile."""
        await finished(asyncio.get_running_loop().run_in_executor(None, self.close))

    def __repr__(self) -> str:
        info = self.info
        return f"Connection({info.session_id!r}, client={info.client!r}, exclusive={info.exclusive}, {self._state})"
