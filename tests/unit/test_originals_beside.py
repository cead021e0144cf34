"""A large original is written on a thread while its session is made ready, and is durable before a record names it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import DiskFullError, NativeSessionManager
from nomad_sessions.formats import Found, Importer, ImportReport, ParsedSession, import_history, verbatim
from tests.support.originals import WS, brought, claude_session, grown, original

LARGE = 1 << 20
OUTER, INNER = "01KDWM1QG0AAAAAAAAAAAAAAAA", "01KDWM1QG0BBBBBBBBBBBBBBBB"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = claude_session(tmp_path)
    grown(path, "x" * LARGE)
    return path


@pytest.fixture
def told(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What happens: the original is written only once somebody waits for it."""
    events: list[str] = []
    awaited = threading.Event()
    attach, commit, await_original = m._attach, m._commit, ParsedSession.await_original

    def slow(*args: Any) -> str:
        events.append(f"begun by {'the import' if threading.current_thread() is importing else 'a thread'}")
        assert awaited.wait(30)
        kept = attach(*args)
        events.append("kept")
        return kept

    def awaiting(parsed: ParsedSession) -> None:
        events.append("awaited")
        awaited.set()
        await_original(parsed)

    def committed(*args: Any, **how: Any) -> Any:
        events.append("committed")
        return commit(*args, **how)

    importing = threading.current_thread()
    monkeypatch.setattr(m, "_attach", slow)
    monkeypatch.setattr(m, "_commit", committed)
    monkeypatch.setattr(ParsedSession, "await_original", awaiting)
    yield events
    awaited.set()


def test_a_session_is_made_ready_meanwhile_and_waits_before_it_is_stored(
    m: NativeSessionManager, history: Path, told: list[str]
) -> None:
    (session,) = brought(m, history).session_ids
    assert told == ["begun by a thread", "awaited", "kept", "committed"]
    assert original(m, session) == history.read_bytes()


def test_a_session_that_is_here_waits_too(m: NativeSessionManager, history: Path, told: list[str]) -> None:
    brought(m, history, originals=False)
    grown(history)
    told.clear()
    (session,) = brought(m, history).session_ids
    assert told[:2] == ["begun by a thread", "awaited"]
    assert original(m, session) == history.read_bytes()


def nested(path: Path, session: dict[str, Any]) -> Importer:
    """An importer of one session, with another inside of it."""

    def read(report: ImportReport) -> ParsedSession:
        inner = ParsedSession({"id": INNER, "createdAt": 5, "updatedAt": 5}, [], [], 0)
        return ParsedSession(session, [], [], 0, inner=[inner], read_from=path.read_bytes())

    found = Found(OUTER, None, "1", path.stat().st_size, str(path), read, verbatim.of_file(path))
    return Importer("made", "", lambda _: [], lambda _: True, lambda *_: iter([found]))


def test_an_inner_session_waits_where_the_outer_one_cannot_be_stored(
    m: NativeSessionManager, history: Path, told: list[str]
) -> None:
    importer = nested(history, {"id": OUTER, "createdAt": 5, "updatedAt": 5, "title": 5})
    report = import_history(m, importer, history, workspace_id=WS)
    assert report.session_ids == [INNER]
    assert told == ["begun by a thread", "awaited", "kept", "committed"]
    assert original(m, INNER) == history.read_bytes()


def full(*_: object) -> str:
    raise DiskFullError(path="attachments")


def broken(*_: object) -> str:
    raise OSError(24, "Too many open files")


@pytest.mark.parametrize("failing", [full, broken])
@pytest.mark.parametrize("is_here", [False, True])
def test_where_it_cannot_be_kept_no_record_names_it(
    m: NativeSessionManager,
    history: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: Callable[..., str],
    is_here: bool,
) -> None:
    if is_here:
        brought(m, history, originals=False)
        grown(history)
    before = m.status(WS).seq
    monkeypatch.setattr(m, "_attach", failing)
    with pytest.raises(OSError, match=r"no room|Too many open files"):
        brought(m, history)
    monkeypatch.undo()
    assert m.status(WS).seq == before
    (session,) = brought(m, history).session_ids
    assert original(m, session) == history.read_bytes()
    assert m.check(WS).ok


def test_it_is_kept_where_there_is_no_thread_to_be_had(
    m: NativeSessionManager, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", none)
    (session,) = brought(m, history).session_ids
    assert original(m, session) == history.read_bytes()
