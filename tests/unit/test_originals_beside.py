"""A large original is written on a thread while its session is made ready, and is durable before a record names it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import DiskFullError, NativeSessionManager
from nomad_sessions.formats import Found, Importer, ImportReport, ParsedSession, import_history, keeping, verbatim
from tests.support.originals import WS, brought, claude_session, grown, mark, original

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
    assert told[:4] == ["begun by a thread", "awaited", "kept", "committed"]
    assert original(m, session) == history.read_bytes()


def test_a_session_that_is_here_waits_too(m: NativeSessionManager, history: Path, told: list[str]) -> None:
    brought(m, history, originals=False)
    grown(history)
    told.clear()
    (session,) = brought(m, history).session_ids
    assert told[:2] == ["begun by a thread", "awaited"]
    assert original(m, session) == history.read_bytes()


def nested(path: Path, session: dict[str, Any], *, inner: bool = True) -> Importer:
    """An importer of one session, with another inside of it."""

    def read(report: ImportReport) -> ParsedSession:
        inside = [ParsedSession({"id": INNER, "createdAt": 5, "updatedAt": 5}, [], [], 0)]
        return ParsedSession(session, [], [], 0, inner=inside if inner else [], read_from=path.read_bytes())

    found = Found(OUTER, None, "1", path.stat().st_size, str(path), read, verbatim.of_file(path))
    return Importer("made", "", lambda _: [], lambda _: True, lambda *_: iter([found]))


def test_an_inner_session_waits_where_the_outer_one_cannot_be_stored(
    m: NativeSessionManager, history: Path, told: list[str]
) -> None:
    importer = nested(history, {"id": OUTER, "createdAt": 5, "updatedAt": 5, "title": 5})
    report = import_history(m, importer, history, workspace_id=WS)
    assert report.session_ids == [INNER]
    assert told[:4] == ["begun by a thread", "awaited", "kept", "committed"]
    assert original(m, INNER) == history.read_bytes()


def full(*_: object) -> str:
    raise DiskFullError(path="attachments")


def broken(*_: object) -> str:
    raise OSError(24, "Too many open files")


def test_nothing_is_being_written_when_an_import_has_ended_however_it_has(
    m: NativeSessionManager, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach, kept = m._attach, list[str]()

    def slow(*args: Any) -> str:
        time.sleep(0.3)  # While it lasts the rest is done.
        kept.append(attach(*args))
        return kept[-1]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(m, "_attach", slow)
    unstorable = nested(history, {"id": OUTER, "createdAt": 5, "updatedAt": 5, "title": 5}, inner=False)
    assert import_history(m, unstorable, history, workspace_id=WS).sessions.skipped == 1
    assert len(kept) == 1
    monkeypatch.setattr(ParsedSession, "await_original", stopped)
    with pytest.raises(KeyboardInterrupt):
        brought(m, history)
    assert len(kept) == 2
    assert m.list_sessions(WS).total == 0


def test_an_error_is_raised_also_where_the_session_cannot_be_stored(
    m: NativeSessionManager, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(m, "_attach", full)
    unstorable = nested(history, {"id": OUTER, "createdAt": 5, "updatedAt": 5, "title": 5}, inner=False)
    with pytest.raises(DiskFullError):
        import_history(m, unstorable, history, workspace_id=WS)


def test_what_is_at_hand_and_larger_than_a_chunk_is_kept_in_several(m: NativeSessionManager, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(random.Random(1).randbytes(1000) * 17_000)
    importer = nested(path, {"id": OUTER, "createdAt": 5, "updatedAt": 5}, inner=False)
    import_history(m, importer, path, workspace_id=WS)
    assert [size for _, size, _ in mark(m.get_session(WS, OUTER))["original"]["chunks"]] == [1 << 24, 222_784]
    assert original(m, OUTER) == path.read_bytes()


def test_of_a_large_one_that_has_grown_only_the_new_bytes_are_kept(m: NativeSessionManager, history: Path) -> None:
    (session,) = brought(m, history).session_ids
    (first,) = mark(m.get_session(WS, session))["original"]["chunks"]
    grown(history)
    brought(m, history)
    before, after = mark(m.get_session(WS, session))["original"]["chunks"]
    assert before == first
    assert first[1] + after[1] == history.stat().st_size
    assert original(m, session) == history.read_bytes()


@pytest.mark.parametrize("failing", [full, broken])
@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("is_here", [False, True])
def test_where_it_cannot_be_kept_no_record_names_it(
    m: NativeSessionManager,
    history: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: Callable[..., str],
    is_here: bool,
    size: str,
) -> None:
    if size == "small":
        monkeypatch.setattr(keeping, "_WORTH_A_THREAD", 1 << 24)
    if is_here:
        brought(m, history, originals=False)
        grown(history)
    before = m.status(WS).seq
    monkeypatch.setattr(m, "_attach", failing)
    with pytest.raises(OSError, match=r"no room|Too many open files"):
        brought(m, history)
    monkeypatch.setattr(m, "_attach", type(m)._attach.__get__(m))
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
