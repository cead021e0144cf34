"""What the tests of an index share: a small workspace, and whether an index agrees with its log."""

from __future__ import annotations

from pathlib import Path

from nomad_sessions import EventFilter, NativeSessionManager
from nomad_sessions.search import Searcher

__all__ = ["INDEX", "WS", "agrees", "begin", "folder", "look"]

WS = "ws"
INDEX = "index.sqlite"


def folder(m: NativeSessionManager) -> Path:
    """The workspace's."""
    return Path(m.data_dir) / WS


def begin(m: NativeSessionManager) -> None:
    """A session with messages, one of them to be streamed."""
    m.create_session(WS, id="s", title="first")
    for n in range(4):
        m.add_message(WS, "s", id=f"m{n}", role="user", content=f"original{n}")
    m.add_message(WS, "s", id="streamed", role="assistant", content="", status="streaming")


def look(m: NativeSessionManager, *queries: str) -> None:
    """Brings every part of the index up to date, and closes it."""
    with Searcher(m) as s:
        s.events(WS, query="anything")
        for query in queries:
            assert s.find(query).total == 1, query


def agrees(m: NativeSessionManager) -> None:
    """The index says of events what the log does."""
    with Searcher(m) as s:
        found = s.events(WS, limit=5_000, newest_first=False)
        carried = {event.seq: event for event in m.events(WS, recorded=True)}
        expected = {event.seq: event for event in m.events(WS)} | carried
        assert list(found.events) == [expected[seq] for seq in sorted(expected)]
        assert found.total == len(expected)
        assert s.events(WS, EventFilter(recorded=True)).total == len(carried)
        for kind in {event.type for event in expected.values()}:
            count = len([event for event in expected.values() if event.type == kind])
            assert s.events(WS, EventFilter(kind)).total == count
