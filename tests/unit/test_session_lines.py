"""A session as lines of JSON, as `export --format jsonl` writes it: it comes in again, every line accounted for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import ImportReport, import_bytes, import_file, recognise, session_lines
from nomad_sessions.formats.exporting import export_session
from nomad_sessions.models import dump
from nomad_sessions.storage.codec import encode
from tests.support.there import there

SCALARS = st.none() | st.booleans() | st.integers() | st.sampled_from(["s1", "m1", "", "\ud800"])
RECORDS = st.dictionaries(
    st.sampled_from(["id", "sessionId", "createdAt", "parts", "imported", "revert", "messageIds"]),
    SCALARS | st.lists(SCALARS | st.dictionaries(st.just("file"), SCALARS | st.just({"sha256": 1}))),
)


def lines(*values: Any) -> bytes:
    return b"".join(encode(value) + b"\n" for value in values)


def session(identifier: str, **fields: Any) -> dict[str, Any]:
    return {"session": {"id": identifier, "title": identifier, "createdAt": 1, "updatedAt": 2, **fields}}


def message(identifier: str, **fields: Any) -> dict[str, Any]:
    return {"message": {"id": identifier, "role": "user", "content": identifier, "createdAt": 1, **fields}}


def parsed(data: bytes) -> tuple[dict[str, list[str]], ImportReport]:
    form, value = recognise(data, "x.jsonl")
    assert form.name == "session-lines"
    report = ImportReport()
    return {each.session["id"]: [one["id"] for one in each.messages] for each in form.parse(value, report)}, report


@pytest.mark.parametrize("form", ["jsonl", "nomadarch"])
def test_an_export_comes_in_again_with_the_bytes_of_its_files(tmp_path: Path, form: str) -> None:
    large, small = os.urandom(100_000), b"small"
    with NativeSessionManager(tmp_path / "a") as manager:
        made = manager.create_session("w", title="Whole", agent="build")
        files = [{"type": "file", "file": {"mime": "image/png", "name": "x", "data": each}} for each in (large, small)]
        manager.add_message("w", made.id, role="user", parts=[{"type": "text", "content": "\ud800 look"}, *files])
        manager.add_message("w", made.id, role="assistant", content="seen", model={"providerId": "p", "modelId": "m"})
        data = export_session(manager, "w", made.id, form)
        told = [dump(each) for each in manager.get_session_messages("w", made.id)]
    with NativeSessionManager(tmp_path / "b") as manager:
        report = import_bytes(manager, "v", data, source="x")
        found = [dump(each) for each in manager.get_session_messages("v", made.id)]
        again = import_bytes(manager, "v", data, source="x")
        sha256 = found[0]["parts"][1]["file"]["sha256"]
        assert manager.read_attachment("v", sha256) == large
        session = manager.get_session("v", made.id)
    assert (report.warnings, report.messages.imported, again.messages.unchanged) == ([], 2, 2)
    assert session is not None
    assert (session.title, session.agent) == ("Whole", "build")
    for each in (*told, *found):
        each.pop("rev")
        each.pop("imported", None)
    assert found == told


def test_several_files_may_be_one_and_a_message_goes_where_it_says() -> None:
    data = lines(session("s1"), message("m1"), session("s2"), message("m2"), message("m3", sessionId="s1"))
    assert parsed(data)[0] == {"s1": ["m1", "m3"], "s2": ["m2"]}


def test_a_session_without_messages_is_one_line() -> None:
    assert parsed(lines(session("s1")))[0] == {"s1": []}


def test_each_line_that_cannot_be_taken_is_named() -> None:
    data = lines(message("m0"), session("s1"), message("m1"), {"other": 1}, message("m1"), session("s1"), session(""))
    found, report = parsed(data[:-1] + b"x\n\n\xff\n")
    assert found == {"s1": ["m1"]}
    assert report.warnings == [
        "line 1: left out, no session stands before it",
        "line 4: left out, neither a session nor a message with an id",
        "line 5: left out, its id occurs twice",
        "line 6: left out, its id occurs twice",
        "line 7: left out, not JSON",
        "line 9: left out, not JSON",
    ]
    assert (report.messages.read, report.messages.skipped, report.sessions.read) == (3, 2, 2)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    part = {"type": "file", "file": {"mime": "image/png", "name": "cat.png", "sha256": "0" * 64}}
    with NativeSessionManager(tmp_path) as manager:
        report = import_bytes(manager, "w", lines(session("s1"), message("m1", parts=[part])), source="x")
    assert report.warnings == ["sessions['s1'].messageIds[0]: the bytes of its file cat.png are not there"]


@pytest.mark.parametrize("data", [b'{"a": 1}\n{"b": 2}\n', lines(message("m1"), message("m2")), b'{"session": {}}\n{'])
def test_lines_without_a_session_are_no_such_file(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"x\.jsonl"):
        recognise(data, "x.jsonl")


@given(st.lists(SCALARS | st.dictionaries(st.sampled_from(["session", "message"]), SCALARS | RECORDS, min_size=1)))
def test_any_lines_are_accounted_for(values: list[Any]) -> None:
    found = session_lines.read(lines(session("s1"), message("m1"), *values))
    assert found is not None
    report = ImportReport()
    sessions = session_lines.parse(found, report)
    taken = sum(1 + len(each.messages) for each in sessions)
    assert taken + sum(report.skipped.values()) == len(values) + 2


def test_a_snapshot_of_ours_comes_in_with_the_attachments_beside_it(tmp_path: Path) -> None:
    data = os.urandom(100_000)
    with NativeSessionManager(tmp_path / "a") as manager:
        made = manager.create_session("w")
        part = {"type": "file", "file": {"mime": "image/png", "name": "cat.png", "data": data}}
        sha256 = there(manager.add_message("w", made.id, role="user", parts=[part]).parts[0].file).sha256
        manager.add_message("w", made.id, role="user", content="hidden")
        manager.revert("w", made.id, reason="oops")
        manager.checkpoint("w")
    alone = tmp_path / "sessions.json"
    alone.write_bytes((tmp_path / "a" / "w" / "sessions.json").read_bytes())
    with NativeSessionManager(tmp_path / "b") as manager:
        report = import_file(manager, "v", alone)
        assert report.warnings == [f"sessions[{made.id!r}].messageIds[0]: the bytes of its file cat.png are not there"]
        assert import_file(manager, "w", tmp_path / "a" / "w" / "sessions.json").warnings == []
        assert manager.read_attachment("w", there(sha256)) == data
        assert import_file(manager, "w", alone).warnings == []
        assert manager.check("w").ok
        assert dump(there(manager.get_session("w", made.id)))["revert"]["reason"] == "oops"
