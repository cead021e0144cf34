"""Messages that are added in one go are taken in at once: the view is what it is for who reads them one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic_core import to_json

from nomad_sessions import ManualClock, NativeSessionManager
from nomad_sessions.formats import ImportReport, ParsedSession
from nomad_sessions.formats.importing import store_session
from nomad_sessions.storage import codec
from nomad_sessions.storage.codec import encode
from nomad_sessions.workspace import store
from nomad_sessions.workspace.lines import Written
from nomad_sessions.workspace.view import View
from tests.support.there import there

WS = "ws"
SEEN = ("seq", "last_id", "pending_bytes", "floor")


def bring(manager: NativeSessionManager, name: str, count: int, visible: int | None = None) -> None:
    """Imports a session of so many messages, those from `visible` on hidden."""
    session = {"id": name, "createdAt": 1, "updatedAt": 9, "title": name, "imported": {"tool": "test"}}
    places = [f"line {number}" for number in range(count)]
    parsed = ParsedSession(session, messages(name, count), places, count if visible is None else visible)
    report = ImportReport(source="test", format="test")
    store_session(manager, WS, parsed, report)
    assert (report.messages.imported, report.warnings) == (count, [])


def messages(name: str, count: int) -> list[dict[str, Any]]:
    """Plain ones, which are added together, and between them such as need more."""
    made = []
    for number in range(count):
        message: dict[str, Any] = {"id": f"{name}-{number}", "role": "user", "content": f"{name} {number} " * 20}
        message |= {"createdAt": 1000 + number, "updatedAt": 5000 - number}
        if number % 7 == 3:
            message["parts"] = [{"type": "file", "file": {"mime": "text/plain", "url": "data:text/plain;base64,aGk="}}]
        made.append(message)
    return made


def opened(manager: NativeSessionManager) -> View:
    """The view that the manager has of the workspace."""
    return manager.workspace(WS).look().view


def known(view: View) -> dict[str, Any]:
    """All that a view knows."""
    live = view.live
    found: dict[str, Any] = {name: getattr(view, name) for name in SEEN}
    found |= {"places": live.places, "owners": live.owners, "tombstones": live.tombstones, "time": live.time}
    found["named at"] = view.named_at if live.places else None  # Where all is sealed only the writer saw it.
    found["summaries"] = dict(view.summaries())
    found["sessions"] = {
        each.id: (each.record(), each.hidden, {key: view.message_json(there(each.message(key))) for key in each.ids()})
        for each in view.load_all()
    }
    return found


@pytest.mark.parametrize("segment", [2_000, 20_000, 1 << 20])
def test_the_view_of_who_wrote_them_is_that_of_who_reads_them(
    tmp_path: Path, segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", segment)
    with NativeSessionManager(tmp_path, durability="os") as manager:
        for name, count in (("one", 40), ("two", 1), ("three", 0), ("four", 25)):
            assert manager.get_session(WS, name) is None  # Which the view remembers.
            bring(manager, name, count)
            with NativeSessionManager(tmp_path, durability="os") as other:
                assert known(opened(manager)) == known(opened(other))
        manager.checkpoint(WS)
        assert manager.check(WS).ok
        for name, count in (("one", 40), ("two", 1), ("three", 0), ("four", 25)):
            read = manager.get_session_messages(WS, name, limit=100)
            assert [each.id for each in read] == [f"{name}-{number}" for number in range(count)]
            assert [each.content for each in read if not each.parts] == [
                each["content"] for each in messages(name, count) if "parts" not in each
            ]


def test_each_has_a_record_of_its_own(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, "one", 30)
        events = [event for event in manager.events(WS) if event.message_id is not None]
        ids = [event.id for event in events]
        assert [event.message_id for event in events] == [f"one-{number}" for number in range(30)]
        assert [event.seq for event in events] == list(range(events[0].seq, events[0].seq + 30))
        assert ids == sorted(set(ids))


def test_a_session_that_hides_some_is_the_same_for_both(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, "one", 6, visible=2)
        session = manager.get_session(WS, "one")
        assert session is not None
        assert session.message_ids == ["one-0", "one-1"]
        with NativeSessionManager(tmp_path) as other:
            assert other.get_session(WS, "one") == session
            assert known(opened(manager)) == known(opened(other))


def test_who_follows_a_session_that_is_there_already_sees_them_too(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager, NativeSessionManager(tmp_path) as other:
        bring(manager, "one", 3)
        assert other.stats(WS).messages == 3
        bring(manager, "two", 5)
        assert [each.id for each in other.get_session_messages(WS, "two")] == [f"two-{number}" for number in range(5)]
        assert known(opened(manager)) == known(opened(other))


def written(name: str, time: int) -> Written:
    """A message with its JSON at hand."""
    fields = {"id": name, "createdAt": 7, "updatedAt": time, "role": "user", "content": name, "status": "completed"}
    return Written(fields, b"{", encode(fields)[1:])


def test_they_may_come_alone_to_sessions_that_are_there_one_after_the_other(tmp_path: Path, clock: ManualClock) -> None:
    with NativeSessionManager(tmp_path, clock=clock) as manager:
        for name in ("one", "two"):
            bring(manager, name, 4)
        hidden = manager.revert(WS, "one", "one-1")
        assert hidden.message_ids == ["one-0", "one-1"]
        opened(manager).summaries()  # Which have to follow.
        new = [("one", written("a", 9_000)), ("one", written("b", 8_000)), ("two", written("c", 1))]
        changes = [
            {"type": "message.added", "sessionId": session, "messageId": message["id"], "message": message}
            for session, message in new
        ]
        clock.advance(60_000)
        manager._commit(WS, lambda view, stamp: (changes, lambda _: None))
        one, two = manager.get_session(WS, "one"), manager.get_session(WS, "two")
        assert one is not None
        assert two is not None
        assert (one.message_ids, one.updated_at) == (["one-0", "one-1", "a", "b"], max(9_000, hidden.updated_at))
        assert one.revert is None, "what comes next makes it final"
        assert manager.get_message(WS, "one-2") is None
        assert two.message_ids[-1] == "c"
        with NativeSessionManager(tmp_path) as other:
            assert known(opened(manager)) == known(opened(other))
            assert other.get_message(WS, "b") == manager.get_message(WS, "b")


def test_a_message_that_comes_after_all_others_gives_its_session_its_time(tmp_path: Path) -> None:
    late = 9_999_999_999_999
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, "one", 2)
        assert manager.get_session(WS, "one") is not None
        change = {"type": "message.added", "sessionId": "one", "messageId": "z", "message": written("z", late)}
        manager._commit(WS, lambda view, stamp: ([change], lambda _: None))
        session = manager.get_session(WS, "one")
        assert session is not None
        assert session.updated_at == late


def test_a_message_whose_time_is_null_as_another_program_has_it_gives_none(tmp_path: Path) -> None:
    """Moved, it is added as it is; a `max` over such times made the workspace unreadable."""
    bodies = {
        name: {"id": name, "sessionId": "s", "role": "user", "content": "hi", "createdAt": 1, "updatedAt": time}
        for name, time in (("m", None), ("n", 5), ("o", None))
    }
    session = {"id": "s", "workspaceId": "a", "title": "t", "createdAt": 1, "updatedAt": 1, "messageIds": [*bodies]}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sessions.json").write_text(json.dumps({"sessions": {"s": session}, "messages": bodies}))
    with NativeSessionManager(tmp_path) as manager:
        manager.move_session("a", "s", to_workspace="b")
        with NativeSessionManager(tmp_path) as other:
            moved = other.get_session("b", "s")
            assert moved == manager.get_session("b", "s")
            assert moved is not None
            assert (moved.message_ids, moved.updated_at) == ([*bodies], 1)
            assert other.check("b").ok
        manager.checkpoint("b")
        assert manager.get_session("b", "s") == moved


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_whoever_is_interrupted_between_writing_and_taking_in_reads_what_is_written(
    tmp_path: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, "one", 3)
        with monkeypatch.context() as patch:
            patch.setattr(View, "absorb_additions", raises(error))
            with pytest.raises(error):
                bring(manager, "two", 3)
        with NativeSessionManager(tmp_path) as other:
            assert [each.id for each in manager.get_session_messages(WS, "two")] == ["two-0", "two-1", "two-2"]
            assert known(opened(manager)) == known(opened(other))
        bring(manager, "three", 3)
        assert manager.check(WS).ok


def raises(error: type[BaseException]) -> Callable[..., None]:
    """Something that raises it, whatever it is called with."""

    def call(*_: object) -> None:
        raise error

    return call


@pytest.mark.parametrize("quick", [False, True])
def test_what_a_mark_says_that_json_has_not_is_text_whoever_encodes_it(
    tmp_path: Path, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_dumps", orjson.dumps if quick else to_json)
    (message,) = messages("one", 1)
    parsed = ParsedSession({"id": "one", "createdAt": 1, "updatedAt": 9}, [message], ["line 1"], 1)
    message["imported"] = {"x": float("inf"), "y": [1.5]}
    with NativeSessionManager(tmp_path) as manager:
        store_session(manager, WS, parsed, ImportReport(source="test", format="test"))
        (stored,) = manager.get_session_messages(WS, "one")
        mark = (stored.model_extra or {})["imported"]
        assert (mark["x"], mark["y"]) == ("inf", [1.5])
