"""Importing into a real store: all of it, once however often, and nothing that was there is harmed."""

from __future__ import annotations

import base64
import copy
import functools
import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import ImportReport, ParsedSession, import_bytes, import_file, opencode
from nomad_sessions.formats.importing import store_session
from nomad_sessions.formats.residue import same
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import dump

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPORTS = sorted((EXAMPLES / "opencode").glob("*.json"))
WS = "ws"


def load(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((EXAMPLES / "opencode" / name).read_bytes())
    return value


def bring(manager: NativeSessionManager, value: dict[str, Any]) -> ImportReport:
    return import_bytes(manager, WS, json.dumps(value).encode(), source="test.json")


def export(manager: NativeSessionManager, session_id: str) -> dict[str, Any]:
    session = manager.get_session(WS, session_id)
    assert session is not None
    messages = manager.get_session_messages(WS, session_id, include_reverted=True)
    return opencode.to_export(
        dump(session),
        [dump(message) for message in messages],
        visible=len(session.message_ids),
        attachment=functools.partial(manager.read_attachment, WS),
    )


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.stem)
def test_a_real_export_comes_back_whole_from_the_reopened_store(path: Path, tmp_path: Path) -> None:
    source = json.loads(path.read_bytes())
    with NativeSessionManager(tmp_path) as manager:
        report = import_file(manager, WS, path)
    assert report.messages.imported == report.messages.read == len(source["messages"])
    assert (report.sessions.imported, report.complete, report.warnings) == (1, True, [])
    with NativeSessionManager(tmp_path) as manager:
        assert export(manager, source["info"]["id"]) == source
        assert manager.check(WS).ok


def test_importing_again_writes_nothing(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        for path in EXPORTS:
            import_file(manager, WS, path)
        import_file(manager, WS, EXAMPLES / "nomadarch" / "sessions.json")
        before = manager.status(WS).seq
        for path in [*EXPORTS, EXAMPLES / "nomadarch" / "sessions.json"]:
            report = import_file(manager, WS, path)
            assert report.sessions.unchanged == report.sessions.read
            assert report.messages.unchanged == report.messages.read
        assert manager.status(WS).seq == before


def test_times_of_the_source_are_kept(tmp_path: Path) -> None:
    source = load("fix-lost-cent.json")
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        session = manager.get_session(WS, source["info"]["id"])
        assert session is not None
        assert (session.created_at, session.updated_at) == tuple(
            source["info"]["time"][k] for k in ("created", "updated")
        )
        first = manager.get_session_messages(WS, session.id)[0]
        assert first.created_at == source["messages"][0]["info"]["time"]["created"]


def test_what_the_source_changed_is_brought_over_and_what_was_changed_here_stays(tmp_path: Path) -> None:
    source = load("slow-page-subagent.json")
    session_id = source["info"]["id"]
    first, last = source["messages"][0]["info"]["id"], source["messages"][-1]["info"]["id"]
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        manager.update_message(WS, first, parts=[{"type": "text", "content": "edited here"}])
        changed = copy.deepcopy(source)
        changed["messages"][-1]["info"]["finish"] = "length"
        changed["messages"].append(copy.deepcopy(changed["messages"][0]))
        changed["messages"][-1]["info"] |= {"id": "msg_new", "time": {"created": 1_900_000_000_000}}
        report = bring(manager, changed)
        assert vars(report.messages) == {"read": 5, "imported": 1, "updated": 1, "unchanged": 3, "skipped": 0}
        messages = manager.get_session_messages(WS, session_id)
        assert [message.id for message in messages][-1] == "msg_new"
        assert messages[0].content == "edited here"
        assert (
            next(m for m in export(manager, session_id)["messages"] if m["info"]["id"] == last)["info"]["finish"]
            == "length"
        )


def test_a_reverted_session_arrives_reverted_and_unrevert_shows_the_rest(tmp_path: Path) -> None:
    source = load("accent-search.json")
    session_id = source["info"]["id"]
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        assert len(manager.get_session_messages(WS, session_id)) == 4
        manager.unrevert(WS, session_id)
        assert len(manager.get_session_messages(WS, session_id)) == 8
        assert "revert" not in export(manager, session_id)["info"]


def test_new_messages_of_a_reverted_source_do_not_cost_the_hidden_ones(tmp_path: Path) -> None:
    source = load("accent-search.json")
    session_id = source["info"]["id"]
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        more = copy.deepcopy(source)
        more["messages"].append(copy.deepcopy(source["messages"][0]))
        more["messages"][-1]["info"] |= {"id": "msg_new", "time": {"created": 1_900_000_000_000}}
        bring(manager, more)
        assert len(manager.get_session_messages(WS, session_id)) == 4
        assert len(manager.get_session_messages(WS, session_id, include_reverted=True)) == 9


def test_a_revert_to_the_very_first_message_hides_all_of_them(tmp_path: Path) -> None:
    source = load("slow-page-subagent.json")
    source["info"]["revert"] = {"messageID": source["messages"][0]["info"]["id"], "snapshot": "abc"}
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        assert len(manager.get_session_messages(WS, source["info"]["id"])) == 0
        assert export(manager, source["info"]["id"]) == source


def test_an_unrevert_in_the_source_is_brought_over(tmp_path: Path) -> None:
    source = load("accent-search.json")
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        del source["info"]["revert"]
        report = bring(manager, source)
        assert report.sessions.updated == 1
        assert len(manager.get_session_messages(WS, source["info"]["id"])) == 8


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg"])
def test_a_large_image_is_stored_out_of_line_and_exported_as_it_was(mime: str, tmp_path: Path) -> None:
    source = load("empty-cart-label.json")
    part = next(part for part in source["messages"][0]["parts"] if part["type"] == "file")
    # A URL that says another type than the part does cannot be made again from the bytes alone.
    part["url"] = f"data:{mime};base64,{base64.b64encode(bytes(range(256)) * 512).decode()}"
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        attachments = manager.stats(WS).bytes_attachments
        assert attachments == (256 * 512 if mime == "image/png" else 0)
        assert same(export(manager, source["info"]["id"])["messages"][0], source["messages"][0])


def test_a_message_id_of_another_session_is_reported_and_that_session_is_left_alone(tmp_path: Path) -> None:
    source = load("slow-page-subagent.json")
    other = copy.deepcopy(source)
    other["info"]["id"] = "ses_other"
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
        report = bring(manager, other)
        assert report.skipped == {"another session here has a message of that id": 4}
        assert export(manager, source["info"]["id"]) == source


def test_a_record_that_the_store_refuses_does_not_cost_the_others(tmp_path: Path) -> None:
    message = {"id": "m1", "sessionId": "s1", "role": "user", "content": "hi", "createdAt": 1}
    value = {
        "sessions": {"s1": {"id": "s1", "messageIds": ["m1", "m2"]}, "s2": {"id": "s2", "title": [], "messageIds": []}},
        "messages": {"m1": message, "m2": {**message, "id": "m2", "content": {"no": "text"}}},
    }
    with NativeSessionManager(tmp_path) as manager:
        report = bring(manager, value)
        assert [message.id for message in manager.get_session_messages(WS, "s1")] == ["m1"]
        assert (report.messages.skipped, report.sessions.skipped) == (1, 1)
        assert any(warning.startswith("sessions['s1'].messageIds[1]: left out") for warning in report.warnings)


def test_a_nomadarch_file_with_shared_messages_gives_each_session_its_own(tmp_path: Path) -> None:
    value = json.loads((EXAMPLES / "nomadarch" / "sessions.json").read_bytes())
    (session_id, session) = next(iter(value["sessions"].items()))
    value["sessions"]["fork"] = {**session, "id": "fork", "parentId": session_id, "title": "fork"}
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, value)
        manager.delete_session(WS, session_id)
        assert len(manager.get_session_messages(WS, "fork")) == 5
        assert manager.check(WS).ok


def test_a_file_of_no_known_format_writes_nothing(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        with pytest.raises(InvalidInputError, match="none of the formats"):
            import_bytes(manager, WS, b"{}", source="x.json")
        assert manager.list_workspaces() == []


def test_lone_surrogates_and_deep_nesting_come_through(tmp_path: Path) -> None:
    source = load("slow-page-subagent.json")
    source["messages"][0]["parts"][0]["text"] = "half an emoji \ud83d"
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    source["messages"][1]["info"]["odd"] = deep
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, source)
    with NativeSessionManager(tmp_path) as manager:
        assert same(export(manager, source["info"]["id"]), source)


def test_a_revert_whose_kept_message_is_another_sessions_hides_what_it_can(tmp_path: Path) -> None:
    source = load("accent-search.json")
    other = copy.deepcopy(source)
    other["info"] = {"id": "ses_other"}
    other["messages"] = other["messages"][2:4]
    with NativeSessionManager(tmp_path) as manager:
        bring(manager, other)
        report = bring(manager, source)
        assert report.messages.skipped == 2
        shown = manager.get_session_messages(WS, source["info"]["id"])
        assert [message.id for message in shown] == [m["info"]["id"] for m in source["messages"][:2]]
        assert len(manager.get_session_messages(WS, source["info"]["id"], include_reverted=True)) == 6


def test_a_message_id_that_occurs_twice_in_a_session_is_stored_once_and_reported(m: NativeSessionManager) -> None:
    message = {"id": "m", "role": "user", "content": "once", "createdAt": 1, "updatedAt": 1, "status": "completed"}
    session = {"id": "s", "createdAt": 1, "updatedAt": 1}
    report = ImportReport(format="test")
    parsed = ParsedSession(session, [message, {**message, "content": "twice"}], ["first", "second"], 2)
    store_session(m, "ws", parsed, report)
    assert [each.content for each in m.get_session_messages("ws", "s")] == ["once"]
    assert (report.messages.imported, report.messages.skipped) == (1, 1)
    assert report.warnings == ["second: left out, its id occurs twice"]
    assert m.check("ws").ok


def test_a_number_that_no_float_holds_stops_no_import_and_becomes_text(m: NativeSessionManager) -> None:
    deep: Any = 1e999
    for _ in range(3_000):
        deep = [deep]
    message = {
        "id": "m1",
        "role": "user",
        "content": "hi",
        "createdAt": 1,
        "updatedAt": 1,
        "status": "completed",
        "far": deep,
    }
    session = {"id": "s1", "title": "t", "createdAt": 1, "updatedAt": 1, "far": [-1e999]}
    for imported in (1, 0):
        report = ImportReport(source="odd", format="odd")
        parsed = ParsedSession(dict(session), [dict(message)], ["odd:1"], visible=1)
        store_session(m, WS, parsed, report)
        assert (report.messages.imported, report.messages.unchanged) == (imported, 1 - imported)
    stored = m.get_message(WS, "m1")
    assert stored is not None
    far = dump(stored)["far"]
    while isinstance(far, list):
        (far,) = far
    assert far == "inf"
    kept = m.get_session(WS, "s1")
    assert kept is not None
    assert dump(kept)["far"] == ["-inf"]


def test_what_comes_late_stands_where_the_source_has_it_and_what_follows_at_the_end(m: NativeSessionManager) -> None:
    def brought(names: str) -> list[str]:
        parsed = [{"id": each, "role": "user", "content": each, "createdAt": 1, "updatedAt": 1} for each in names]
        session = {"id": "s", "createdAt": 1, "updatedAt": 1}
        store_session(m, WS, ParsedSession(session, parsed, list(names), len(parsed)), ImportReport("x", "pi"))
        return [each.id for each in m.get_session_messages(WS, "s")]

    assert brought("bdf") == ["b", "d", "f"]
    m.add_message(WS, "s", id="mine", role="user", content="added here")
    assert brought("bdfg") == ["b", "d", "f", "mine", "g"]
    assert brought("abcdefgh") == ["a", "b", "c", "d", "e", "f", "mine", "g", "h"]
    assert m.check(WS).ok


def test_an_id_that_occurs_twice_in_the_middle_of_what_is_here_is_stored_once(m: NativeSessionManager) -> None:
    def bring(names: str) -> ImportReport:
        parsed = [{"id": each, "role": "user", "content": each, "createdAt": 1, "updatedAt": 1} for each in names]
        session, report = {"id": "s", "createdAt": 1, "updatedAt": 1}, ImportReport("x", "pi")
        store_session(m, WS, ParsedSession(session, parsed, list(names), len(parsed)), report)
        return report

    bring("ac")
    for names in ("abbc", "aabbcc", "abcb"):
        report = bring(names)
        assert [each.id for each in m.get_session_messages(WS, "s")] == ["a", "b", "c"]
        assert report.skipped == {"its id occurs twice": len(names) - 3}
