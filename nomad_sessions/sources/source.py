"""What a place that sessions are read from has to be able to do: answer in records of the store's own shape.

Records are mappings in camelCase, as `sessions.json` has them, whatever the place keeps. A place that cannot say
raises; an empty answer says that there is nothing. Verified by `tests/contract/test_sources.py`, for all there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

__all__ = ["Conversation", "Record", "Source", "Watched", "matches"]

Record = Mapping[str, Any]
_SEARCHED = ("title", "description", "id", "agent")


class Conversation(NamedTuple):
    """A session with its messages in order, those that a revert hides included: the first `visible` are not hidden.
    `missing` counts those that it should have and the place has not: a copy that is not complete."""

    session: Record
    messages: Sequence[Record]
    visible: int
    missing: int = 0


class Source(Protocol):
    """A place that sessions are read from. Its methods may be called from several threads.

    Each raises `SourceUnavailableError`, `TargetUnavailableError`, `StorageError` or `OSError` where it cannot say.
    """

    name: str
    """What it is called in results, logs and metrics."""
    form: str
    """What an import of its records is called (`imported.format`)."""

    def place(self, workspace_id: str) -> str:
        """What records that came from it name as their source (`imported.source`)."""
        ...

    def get_session(self, workspace_id: str, session_id: str) -> Record | None:
        """One session's own record, or None."""
        ...

    def list_sessions(self, workspace_id: str) -> list[Record]:
        """The records of all sessions."""
        ...

    def search_sessions(self, workspace_id: str, query: str) -> list[Record]:
        """Those in whose title, description, id or agent the text is, whatever the case; as far as it has these."""
        ...

    def messages(self, workspace_id: str, session_id: str) -> Conversation | None:
        """A session with its messages, of one moment; None where there is no such session."""
        ...

    def events(self, workspace_id: str, session_id: str) -> list[Record] | None:
        """What was recorded of a session; None where it keeps no events."""
        ...

    def tasks(self, workspace_id: str, session_id: str) -> list[Record] | None:
        """A session's tasks; None where it keeps none."""
        ...

    def ping(self) -> None:
        """Asks it whether it is there."""
        ...

    def close(self) -> None:
        """Gives connections back. May be called twice."""
        ...


@runtime_checkable
class Watched(Protocol):
    """A source that tells what changes there."""

    def watch(self, changed: Callable[[str | None], None]) -> None:
        """Calls `changed` from now on, on a thread of its own, with the id of each session that changes; with None when
        anything may have, because it could not listen for a while. Until `close`."""
        ...


def matches(record: Record, query: str) -> bool:
    """Whether a session is one that was searched for."""
    wanted = query.casefold()
    return any(wanted in str(record.get(field) or "").casefold() for field in _SEARCHED)
