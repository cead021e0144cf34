"""`Capture`: follows a running OpenCode server into the store.

Invariant: nothing that the server had or did is left out, and nothing is here twice: the stream of events is opened
first, then the whole is read, then come the events since; and so again after each interruption, for the server repeats
no event. Verified by `tests/contract/test_capture_program.py` and `tests/cli/test_capture_command.py`.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from nomad_sessions.errors import SourceUnavailableError
from nomad_sessions.events.cursors import Cursor
from nomad_sessions.forking import Mutex
from nomad_sessions.sources.mirror import Mirror, Mirrored
from nomad_sessions.sources.opencode_client import OpenCodeClient, OpenCodeEvents

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["Capture"]

_LOG = logging.getLogger("nomad_sessions")
_HOLD = "capture-opencode"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0


class Capture:
    """Keeps a workspace what a directory of an OpenCode server is: sessions, messages, parts, deletions; what happens
    beside (`session.idle`, `session.status`, permissions, …) is recorded as events.

    One at a time in a workspace, among all processes. The server's word wins for what came from it; sessions and
    messages that were added here by others stay. What another process writes into the server's database is seen when
    the whole is read again, at the next connection: the server itself is not told of it.
    """

    def __init__(
        self,
        manager: NativeSessionManager,
        client: OpenCodeClient,
        *,
        workspace_id: str | None = None,
        keep_deleted: bool = False,
        on_connect: Callable[[Mirrored], None] | None = None,
    ) -> None:
        """The workspace defaults to that of the server's directory. With `keep_deleted`, sessions that are deleted
        there stay. `on_connect` is called whenever the whole has been read.

        Raises `SourceUnavailableError` where the server is not there to say which directory it is in, and
        `LockTimeoutError` where another captures into this workspace. The client and the manager stay the caller's.
        """
        self.workspace_id = manager.workspace_for(client.where()) if workspace_id is None else workspace_id
        self._client = client
        self._mirror = Mirror(manager, self.workspace_id, client, keep_deleted=keep_deleted)
        self._on_connect = on_connect
        folder = manager.workspace(self.workspace_id).folder
        self._hold = Cursor(manager._fs, folder, self.workspace_id, _HOLD, synced=False)
        self._stopped = threading.Event()
        self._mutex = Mutex()
        self._events: OpenCodeEvents | None = None
        self._failures = 0

    def once(self) -> Mirrored:
        """Makes the workspace what the server is now, and returns. Raises `SourceUnavailableError`, and what writing
        does. What was stored until then is durable as the manager's setting says."""
        return self._mirror.everything()

    def run(self) -> None:
        """Follows the server until `stop`, or Ctrl-C, which leaves everything as it is. A server that is away is asked
        again, the less often the longer it is away. Raises what writing to the store does."""
        while not self._stopped.is_set():
            try:
                with self._client.events() as events:
                    self._follow(events)
            except SourceUnavailableError as error:
                if self._stopped.is_set():
                    return
                if not self._failures:
                    _LOG.warning("capture: %s; it is asked again", error)
                longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
                self._failures += 1
                self._stopped.wait(random.uniform(longest / 2, longest))

    def stop(self) -> None:
        """Ends `run`, from any thread, after the event that is being stored."""
        self._stopped.set()
        with self._mutex:
            if self._events is not None:
                self._events.close()

    def close(self) -> None:
        """Lets go of the workspace. May be called twice; not while `run` runs."""
        self._hold.close()

    def _follow(self, events: OpenCodeEvents) -> None:
        with self._mutex:
            self._events = events
        try:
            for number, event in enumerate(events):
                if self._stopped.is_set():
                    return
                if number == 0:  # `server.connected`: from here on nothing is missed.
                    self._connected(self._mirror.everything())
                self._mirror.event(event)
        finally:
            with self._mutex:
                self._events = None

    def _connected(self, found: Mirrored) -> None:
        self._failures = 0
        if self._on_connect is not None:
            self._on_connect(found)

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
