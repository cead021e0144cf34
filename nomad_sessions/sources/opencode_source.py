"""A running OpenCode server as a source.

Verified by `tests/contract/test_sources.py` against the real program.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from nomad_sessions.errors import SourceUnavailableError
from nomad_sessions.forking import Mutex
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.sources.mirror import FORM, own_record, place_of, whole_session
from nomad_sessions.sources.opencode_client import OpenCodeClient, OpenCodeEvents
from nomad_sessions.sources.source import Conversation, Record, matches

__all__ = ["OpenCodeSource"]

_PREFIX = "ses"
_PAUSE = 1.0


class OpenCodeSource:
    """One directory of a server; all workspaces see the same. It keeps neither events nor tasks of ours."""

    form = FORM

    def __init__(self, client: OpenCodeClient, *, name: str = "opencode-http") -> None:
        """The client is closed with this."""
        self.name = name
        self._client = client
        self._stopped = threading.Event()
        self._mutex = Mutex()
        self._events: OpenCodeEvents | None = None
        self._thread: threading.Thread | None = None

    def place(self, workspace_id: str) -> str:
        """See `Source`."""
        return place_of(self._client.where())

    def get_session(self, workspace_id: str, session_id: str) -> Record | None:
        """See `Source`."""
        if not session_id.startswith(_PREFIX):  # It answers other ids with an error of its own.
            return None
        info = self._client.session(session_id)
        return None if info is None else own_record(self._client, info)

    def list_sessions(self, workspace_id: str) -> list[Record]:
        """See `Source`. Without their todos: those are asked for session by session."""
        return [own_record(None, each) for each in self._client.sessions()]

    def search_sessions(self, workspace_id: str, query: str) -> list[Record]:
        """See `Source`. Cost: as `list_sessions`: the server itself looks at titles only."""
        return [each for each in self.list_sessions(workspace_id) if matches(each, query)]

    def messages(self, workspace_id: str, session_id: str) -> Conversation | None:
        """See `Source`."""
        info = self._client.session(session_id) if session_id.startswith(_PREFIX) else None
        parsed = None if info is None else whole_session(self._client, info, ImportReport(format=FORM))
        return None if parsed is None else Conversation(parsed.session, parsed.messages, parsed.visible)

    def events(self, workspace_id: str, session_id: str) -> None:
        """See `Source`: it keeps none."""

    def tasks(self, workspace_id: str, session_id: str) -> None:
        """See `Source`: it keeps none."""

    def ping(self) -> None:
        """See `Source`."""
        self._client.ping()

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """See `Watched`. May be called once."""
        self._thread = threading.Thread(
            target=self._run, args=(changed,), name=f"nomad-sessions-watch-{self.name}", daemon=True
        )
        self._thread.start()

    def _run(self, changed: Callable[[str | None], None]) -> None:
        while not self._stopped.is_set():
            try:
                with self._client.events() as events:
                    self._tell(events, changed)
            except SourceUnavailableError:  # Whoever reads is told; here it is asked again.
                self._stopped.wait(random.uniform(_PAUSE / 2, _PAUSE))

    def _tell(self, events: OpenCodeEvents, changed: Callable[[str | None], None]) -> None:
        with self._mutex:
            self._events = events
        try:
            for number, event in enumerate(events):
                if self._stopped.is_set():
                    return
                session_id = event.properties.get("sessionID")
                if number == 0 or isinstance(session_id, str):
                    changed(session_id if number else None)
        finally:
            with self._mutex:
                self._events = None

    def close(self) -> None:
        """See `Source`."""
        self._stopped.set()
        with self._mutex:
            if self._events is not None:
                self._events.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._client.close()
