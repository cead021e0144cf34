"""Values that cannot be stored: refused by a typed error that names the field, and nothing that was there is lost."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager, NotFoundError
from tests.support.stored import whole
from tests.support.there import there

WS = "ws"
Call = Callable[[NativeSessionManager], object]


@pytest.fixture
def m(kept: NativeSessionManager) -> NativeSessionManager:
    return kept


BAD: dict[str, tuple[str, Call]] = {
    "role missing": ("role", lambda m: m.add_message(WS, "s", content="x")),
    "role unknown": ("role", lambda m: m.add_message(WS, "s", role="boss")),
    "role of no type": ("role", lambda m: m.add_message(WS, "s", role=5)),
    "role none": ("role", lambda m: m.update_message(WS, "m", role=None)),
    "role changed": ("role", lambda m: m.update_message(WS, "m", role="boss")),
    "status unknown": ("status", lambda m: m.add_message(WS, "s", role="user", status="done")),
    "content no text": ("content", lambda m: m.add_message(WS, "s", role="user", content=b"x")),
    "content a list": ("content", lambda m: m.update_message(WS, "m", content=["x"])),
    "parts no list": ("parts", lambda m: m.add_message(WS, "s", role="user", parts="x")),
    "part no mapping": ("parts", lambda m: m.add_message(WS, "s", role="user", parts=[5])),
    "part without type": ("parts", lambda m: m.add_message(WS, "s", role="user", parts=[{"content": "x"}])),
    "part of no text": ("parts", lambda m: m.add_message(WS, "s", role="user", parts=[{"type": "text", "content": 5}])),
    "empty id": ("id", lambda m: m.add_message(WS, "s", role="user", id="")),
    "long id": ("id", lambda m: m.add_message(WS, "s", role="user", id="x" * 513)),
    "id of half a character": ("id", lambda m: m.add_message(WS, "s", role="user", id="x\ud83d")),
    "id of no type": ("id", lambda m: m.create_session(WS, id=5)),
    "empty session id": ("id", lambda m: m.create_session(WS, id="")),
    "another session": ("sessionId", lambda m: m.add_message(WS, "s", role="user", session_id="other")),
    "another workspace": ("workspaceId", lambda m: m.create_session(WS, workspace_id="other")),
    "title no text": ("title", lambda m: m.create_session(WS, title=5)),
    "metadata no mapping": ("metadata", lambda m: m.update_session(WS, "s", metadata=[1])),
    "metadata NaN": ("metadata", lambda m: m.update_session(WS, "s", metadata={"x": float("nan")})),
    "metadata infinite": ("metadata", lambda m: m.add_message(WS, "s", role="user", metadata={"x": [float("inf")]})),
    "metadata an object": ("metadata", lambda m: m.add_message(WS, "s", role="user", metadata={"x": object()})),
    "metadata a set": ("metadata", lambda m: m.update_message(WS, "m", metadata={"x": {1}})),
    "metadata a date": ("metadata", lambda m: m.create_session(WS, metadata={"x": datetime.date.today()})),
    "metadata with odd keys": ("metadata", lambda m: m.create_session(WS, metadata={"x": {1: 2}})),
    "unknown field an object": ("mine", lambda m: m.create_session(WS, mine=object())),
    "cost NaN": ("usage", lambda m: m.update_message(WS, "m", usage={"cost": float("nan")})),
    "time no number": ("createdAt", lambda m: m.add_message(WS, "s", role="user", created_at="yesterday")),
    "data no mapping": ("data", lambda m: m.add_message(WS, "s", "hello")),  # type: ignore[arg-type]
    "items no list": ("items", lambda m: m.add_messages(WS, "s", None)),  # type: ignore[arg-type]
    "items of no mapping": ("data", lambda m: m.add_messages(WS, "s", ["hello"])),  # type: ignore[list-item]
    "both spellings": (
        "toolCallId",
        lambda m: m.add_message(WS, "s", {"toolCallId": "a"}, role="tool", tool_call_id="b"),
    ),
    "rev": ("rev", lambda m: m.add_message(WS, "s", role="user", rev=5)),
    "order": ("messageIds", lambda m: m.create_session(WS, message_ids=["m"])),
    "text no text": ("text", lambda m: m.append_to_message(WS, "m", None)),  # type: ignore[arg-type]
    "if_rev no number": ("if_rev", lambda m: m.update_session(WS, "s", title="x", if_rev="1")),  # type: ignore[arg-type]
    "nowhere to move": ("to_workspace", lambda m: m.move_session(WS, "s")),
    "unknown setting": ("colour", lambda m: m.configure_workspace(WS, colour="red")),
    "bad setting": ("fold", lambda m: m.configure_workspace(WS, fold="never")),
    "bad retention": ("retention", lambda m: m.configure_workspace(WS, retention={"bytes": "many"})),
    "sha256 no text": ("sha256", lambda m: m.read_attachment(WS, None)),  # type: ignore[arg-type]
    "path no path": ("path", lambda m: m.workspace_for(5)),  # type: ignore[arg-type]
    "path with NUL": ("path", lambda m: m.workspace_for("a\0b")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_value_that_cannot_be_stored_is_refused_by_its_name(m: NativeSessionManager, name: str) -> None:
    field, call = BAD[name]
    before, seq = whole(m), m.status(WS).seq
    with pytest.raises(InvalidInputError) as caught:
        call(m)
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert (whole(m), m.status(WS).seq) == (before, seq)
    m.add_message(WS, "s", role="user", content="goes on")
    assert len(whole(m)[0][1]) == 2


@pytest.mark.parametrize("identifier", [None, 5, b"s", ["s"], {}])
def test_an_id_that_is_no_str_is_refused_by_its_name(m: NativeSessionManager, identifier: Any) -> None:
    calls: list[Call] = [
        lambda m: m.get_session(WS, identifier),
        lambda m: m.update_session(WS, identifier, title="x"),
        lambda m: m.get_session_messages(WS, identifier),
        lambda m: m.add_message(WS, identifier, role="user"),
        lambda m: m.get_message(WS, identifier),
        lambda m: m.update_message(WS, identifier, content="x"),
        lambda m: m.delete_message(WS, identifier),
        lambda m: m.fork_session(WS, identifier),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError) as caught:
            call(m)
        assert caught.value.field in ("session_id", "message_id")


@pytest.mark.parametrize("identifier", ["nobody", "", "\0", "x" * 10_000, "\ud83d", "s\n", "../s"])
def test_ids_that_nothing_has_are_not_found_by_name(m: NativeSessionManager, identifier: str) -> None:
    m.checkpoint(WS)
    before = whole(m)
    assert m.get_session(WS, identifier) is None
    assert m.get_message(WS, identifier) is None
    assert not m.get_session_messages(WS, identifier)
    calls: list[Call] = [
        lambda m: m.update_session(WS, identifier, title="x"),
        lambda m: m.delete_session(WS, identifier),
        lambda m: m.add_message(WS, identifier, role="user"),
        lambda m: m.revert(WS, identifier),
        lambda m: m.move_session(WS, identifier, to_workspace="other"),
        lambda m: m.update_message(WS, identifier, content="x"),
        lambda m: m.delete_message(WS, identifier),
        lambda m: m.append_to_message(WS, identifier, "x"),
        lambda m: m.fork_session(WS, "s", message_id=identifier),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            call(m)
        assert caught.value.id == identifier
        assert "\n" not in str(caught.value)
    assert whole(m) == before


def test_odd_but_possible_ids_work(m: NativeSessionManager) -> None:
    odd = ["a/b", "..", "x\ny", "\0", "😀", '"', "\u2028", " ", "é" * 500]
    for each in odd:
        m.create_session(WS, id=each)
        m.add_message(WS, each, id=f"m{each}"[:512], role="user", content=each)
    for _ in range(2):
        other = NativeSessionManager(m.data_dir)
        assert {each.id for each in other.list_sessions(WS)} == {"s", *odd}
        for each in odd:
            assert other.get_session_messages(WS, each)[0].content == each
            assert there(other.get_message(WS, f"m{each}"[:512])).content == each
        m.checkpoint(WS)
    assert m.check(WS).ok


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="durability"):
        NativeSessionManager(tmp_path, durability="sometimes")  # type: ignore[arg-type]
