"""Messages as a caller sees them: adding, changing, appending, deleting; parts and content; files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    AlreadyExistsError,
    AttachmentMissingError,
    ConflictError,
    InvalidInputError,
    ManualClock,
    MessageNotFoundError,
    NativeSessionManager,
    ProtectedFieldError,
    SessionNotFoundError,
)
from nomad_sessions.models import dump
from tests.support.stored import stored_message
from tests.support.there import there

from .conftest import START

WS = "ws"
CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}


@pytest.fixture
def m(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def test_a_new_message_has_the_shape_that_nomadarch_gives_it(m: NativeSessionManager) -> None:
    message = m.add_message(WS, "s", {"role": "user", "content": "hi"})
    assert dump(message) == {
        "id": message.id,
        "sessionId": "s",
        "role": "user",
        "content": "hi",
        "createdAt": START,
        "updatedAt": START,
        "status": "completed",
        "rev": 2,
    }
    assert stored_message(m, message.id) == message
    assert there(m.get_session(WS, "s")).message_ids == [message.id]


def test_times_of_imported_messages_are_kept(m: NativeSessionManager) -> None:
    one = m.add_message(WS, "s", role="user", content="old", created_at=5)
    two = m.add_message(WS, "s", role="user", content="old", created_at=5, updated_at=9)
    found = [stored_message(m, each.id) for each in (one, two)]
    assert [(each.created_at, each.updated_at) for each in found] == [(5, 5), (5, 9)]


def test_a_given_id_makes_adding_idempotent_and_belongs_to_one_session(m: NativeSessionManager) -> None:
    m.create_session(WS, id="other")
    first = m.add_message(WS, "s", id="msg_1", role="user", content="one")
    seq = m.status(WS).seq
    assert m.add_message(WS, "s", id="msg_1", role="user", content="two") == first
    assert m.add_messages(WS, "s", [{"id": "msg_1", "role": "user"}] * 2) == [first, first]
    assert m.status(WS).seq == seq
    with pytest.raises(AlreadyExistsError) as caught:
        m.add_message(WS, "other", id="msg_1", role="user", content="two")
    assert caught.value.current == first
    m.delete_message(WS, "msg_1")
    assert m.add_message(WS, "other", id="msg_1", role="user", content="two").session_id == "other"
    m.checkpoint(WS)
    assert stored_message(m, "msg_1").content == "two"


def test_several_are_added_as_one_group_or_not_at_all(m: NativeSessionManager) -> None:
    added = m.add_messages(WS, "s", ({"role": "user", "content": str(n)} for n in range(3)))
    assert [each.content for each in m.get_session_messages(WS, "s")] == ["0", "1", "2"]
    assert [each.id for each in added] == sorted(each.id for each in added)
    with pytest.raises(InvalidInputError):
        m.add_messages(WS, "s", [{"role": "user"}, {"role": "boss"}])
    assert m.get_session_messages(WS, "s").total == 3
    assert m.add_messages(WS, "s", []) == []
    with pytest.raises(SessionNotFoundError):
        m.add_messages(WS, "nobody", [])


def test_where_there_are_parts_they_are_the_content_and_the_calls(m: NativeSessionManager) -> None:
    parts = [text("a"), {"type": "tool_call", "toolCall": CALL, "state": {"status": "running"}}, text("b")]
    message = m.add_message(WS, "s", role="assistant", content="something else", parts=parts)
    assert (message.content, [dump(each) for each in message.tool_calls]) == ("ab", [CALL])
    assert stored_message(m, message.id) == message
    beside = m.add_message(WS, "s", role="tool", content="beside", parts=[{"type": "tool_result"}])
    assert stored_message(m, beside.id).content == "beside"


def test_new_content_is_that_of_the_one_text_part(m: NativeSessionManager) -> None:
    parts = [{"type": "thinking", "content": "hm"}, {**text("a"), "mine": 1}, {"type": "tool_call", "toolCall": CALL}]
    message = m.add_message(WS, "s", role="assistant", parts=parts)
    changed = m.update_message(WS, message.id, content="b")
    assert changed.content == "b"
    assert [dump(part) for part in changed.parts] == [parts[0], {**text("b"), "mine": 1}, parts[2]]
    assert changed.tool_calls == message.tool_calls
    assert stored_message(m, message.id) == changed
    assert stored_message(m, m.update_message(WS, message.id, content=None).id).content == ""


def test_new_content_of_several_text_parts_is_refused_as_ambiguous(m: NativeSessionManager) -> None:
    message = m.add_message(WS, "s", role="assistant", parts=[text("a"), text("b")])
    with pytest.raises(InvalidInputError, match="2 text parts") as caught:
        m.update_message(WS, message.id, content="c", status="error")
    assert caught.value.field == "content"
    assert stored_message(m, message.id) == message
    assert m.update_message(WS, message.id, content="ab") == message


def test_new_content_beside_parts_that_hold_no_text_is_just_that(m: NativeSessionManager) -> None:
    message = m.add_message(WS, "s", role="tool", content="a", parts=[{"type": "tool_result"}])
    assert m.update_message(WS, message.id, content="b").content == "b"
    assert stored_message(m, message.id).content == "b"


def test_new_parts_bring_their_content_and_calls_along(m: NativeSessionManager) -> None:
    message = m.add_message(WS, "s", role="assistant", parts=[text("a"), {"type": "tool_call", "toolCall": CALL}])
    assert m.update_message(WS, message.id, parts=[text("b"), text("c")]).content == "bc"
    assert stored_message(m, message.id).tool_calls == []
    assert m.update_message(WS, message.id, parts=[]).content == ""
    m.update_message(WS, message.id, content="plain")
    assert m.update_message(WS, message.id, parts=[{"type": "code", "content": "x"}]).content == "plain"
    assert stored_message(m, m.update_message(WS, message.id, parts=None).id).parts == []


def test_calls_that_parts_hold_are_changed_there(m: NativeSessionManager) -> None:
    message = m.add_message(WS, "s", role="assistant", parts=[{"type": "tool_call", "toolCall": CALL}])
    with pytest.raises(InvalidInputError, match="tool_call parts"):
        m.update_message(WS, message.id, tool_calls=[])
    plain = m.add_message(WS, "s", role="assistant", tool_calls=[CALL])
    assert m.update_message(WS, plain.id, tool_calls=None).tool_calls == []


def test_an_update_removes_with_none_and_keeps_what_it_does_not_name(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    message = m.add_message(WS, "s", role="assistant", content="x", agent="a", metadata={"k": [1]}, extra={"deep": [1]})
    clock.advance(3)
    changed = m.update_message(WS, message.id, {"agent": None, "usage": {"cache_read": 3}}, status="error")
    assert "agent" not in dump(changed)
    assert (changed.status, changed.updated_at, changed.created_at) == ("error", START + 3, START)
    assert dump(changed)["usage"] == {"cacheRead": 3}
    assert (changed.metadata, changed.model_extra) == ({"k": [1]}, {"extra": {"deep": [1]}})
    assert stored_message(m, message.id) == changed
    assert m.update_message(WS, message.id, status="error") == changed


def test_a_message_of_another_tool_can_be_changed_though_we_would_not_write_its_role(tmp_path: Path) -> None:
    folder = tmp_path / WS
    folder.mkdir()
    foreign = (
        '{"sessions":{"s":{"id":"s","messageIds":["m"]}},"messages":{"m":{"id":"m","sessionId":"s","role":"developer",'
        '"status":"odd","content":"x","parts":[{"type":"text","content":{"no":"text"}}]}}}'
    )
    (folder / "sessions.json").write_text(foreign)
    with NativeSessionManager(tmp_path) as m:
        assert m.update_message(WS, "m", agent="a").role == "developer"
        m.append_to_message(WS, "m", " y")
        assert stored_message(m, "m").content == "x y"
        with pytest.raises(InvalidInputError):
            m.append_to_message(WS, "m", "z", part=0)
        m.move_session(WS, "s", to_workspace="other")
        assert there(m.get_message("other", "m")).role == "developer"
        with pytest.raises(InvalidInputError):
            m.update_message("other", "m", role="boss")


@pytest.mark.parametrize("field", ["id", "sessionId", "session_id", "createdAt", "rev"])
def test_protected_fields_cannot_be_changed(m: NativeSessionManager, field: str) -> None:
    message = m.add_message(WS, "s", role="user", content="x")
    with pytest.raises(ProtectedFieldError):
        m.update_message(WS, message.id, {field: "y"})
    assert stored_message(m, message.id) == message


def test_a_stale_rev_is_a_conflict_that_holds_the_current_message(m: NativeSessionManager) -> None:
    message = m.add_message(WS, "s", role="user", content="x")
    m.append_to_message(WS, message.id, "y")
    with pytest.raises(ConflictError) as caught:
        m.update_message(WS, message.id, content="z", if_rev=message.rev)
    assert caught.value.current == stored_message(m, message.id)
    assert caught.value.expected_rev == message.rev


def test_a_returned_model_and_what_was_passed_in_are_the_callers_own(m: NativeSessionManager) -> None:
    given: dict[str, Any] = {"role": "user", "parts": [{**text("a"), "x": [1]}], "metadata": {"l": [1]}, "extra": [[1]]}
    message = m.add_message(WS, "s", given)
    given["parts"][0]["x"].append(2)
    given["metadata"]["l"].append(2)
    assert message.metadata == {"l": [1]}
    message.metadata["l"].append(3)
    message.parts[0].content = "changed"
    message.parts.clear()
    found = stored_message(m, message.id)
    assert dump(found)["parts"] == [{**text("a"), "x": [1]}]
    assert found.metadata == {"l": [1]}
    changes: dict[str, Any] = {"metadata": {"l": [5]}}
    m.update_message(WS, message.id, changes).metadata["l"].append(6)
    changes["metadata"]["l"].append(7)
    assert stored_message(m, message.id).metadata == {"l": [5]}
    for each in m.get_session_messages(WS, "s"):
        each.metadata["l"].clear()
    assert stored_message(m, message.id).metadata == {"l": [5]}


def test_appending_goes_to_the_content_or_to_a_part(m: NativeSessionManager) -> None:
    plain = m.add_message(WS, "s", role="user", content="a")
    m.append_to_message(WS, plain.id, "b")
    m.append_to_message(WS, plain.id, "")
    parts = [text("a"), {"type": "thinking"}, {"type": "tool_call", "toolCall": CALL}, {"type": "tool_result"}]
    rich = m.add_message(WS, "s", role="assistant", parts=parts)
    m.append_to_message(WS, rich.id, "b")
    m.append_to_message(WS, rich.id, "hm", part=1)
    m.append_to_message(WS, rich.id, "[]", part=2)
    assert stored_message(m, plain.id).content == "ab"
    found = stored_message(m, rich.id)
    assert (found.content, found.parts[1].content, found.tool_calls[0].function.arguments) == ("ab", "hm", "{}[]")
    beside = m.add_message(WS, "s", role="tool", content="a", parts=[{"type": "tool_result"}])
    m.append_to_message(WS, beside.id, "b")
    assert stored_message(m, beside.id).content == "ab"
    for part in (-1, 3, 4, "0", True):
        with pytest.raises(InvalidInputError) as caught:
            m.append_to_message(WS, rich.id, "x", part=part)  # type: ignore[arg-type]
        assert caught.value.field == "part"
    assert stored_message(m, rich.id) == found


def test_two_thousand_appends_cost_at_most_five_times_the_message(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        message = m.add_message(WS, "s", role="assistant", status="streaming", content="")
        for number in range(2000):
            m.append_to_message(WS, message.id, f"{number:020d}", sync=number % 100 == 0)
        found = stored_message(m, message.id)
        assert found.content == "".join(f"{number:020d}" for number in range(2000))
        assert m.status(WS).journal_bytes + m.status(WS).snapshot_bytes <= 5 * len(found.content)


def test_deleting_a_message_leaves_the_others(m: NativeSessionManager) -> None:
    ids = [each.id for each in m.add_messages(WS, "s", [{"role": "user", "content": str(n)} for n in range(3)])]
    m.delete_message(WS, ids[1])
    assert there(m.get_session(WS, "s")).message_ids == [ids[0], ids[2]]
    assert m.get_message(WS, ids[1]) is None
    calls: list[Callable[[str], object]] = [
        lambda each: m.delete_message(WS, each),
        lambda each: m.update_message(WS, each, content="x"),
        lambda each: m.append_to_message(WS, each, "x"),
    ]
    for call in calls:
        for each in (ids[1], "nobody", ""):
            with pytest.raises(MessageNotFoundError):
                call(each)


@pytest.mark.parametrize("size", [10, 64 * 1024, 64 * 1024 + 1])
def test_bytes_of_a_file_part_come_back_inline_or_as_an_attachment(m: NativeSessionManager, size: int) -> None:
    data = bytes(n * 7 % 256 for n in range(size))
    part: dict[str, Any] = {"type": "file", "file": {"mime": "image/png", "name": "x.png", "data": data}}
    added = m.add_message(WS, "s", role="user", parts=[part])
    changed = m.update_message(WS, m.add_message(WS, "s", role="user").id, parts=[part])
    assert part["file"]["data"] is data, "the caller's own dict is not touched"
    for message in (added, changed):
        file = stored_message(m, message.id).parts[0].file
        assert file is not None
        assert file.size == size
        if size <= 64 * 1024:
            assert file.url == "data:image/png;base64," + base64.b64encode(data).decode()
        else:
            assert (file.url, file.sha256) == (None, hashlib.sha256(data).hexdigest())
            assert m.read_attachment(WS, there(file.sha256)) == data


def test_a_large_data_url_becomes_an_attachment_and_a_bad_one_is_refused(m: NativeSessionManager) -> None:
    data = bytes(70_000)
    url = "data:image/gif;base64," + base64.b64encode(data).decode()
    file = m.add_message(WS, "s", role="user", parts=[{"type": "file", "file": {"url": url}}]).parts[0].file
    assert file is not None
    assert (file.mime, file.size, file.url) == ("image/gif", 70_000, None)
    assert m.read_attachment(WS, str(file.sha256)) == data
    for bad in ({"url": url + "!"}, {"data": "text"}):
        with pytest.raises(InvalidInputError, match="file"):
            m.add_message(WS, "s", role="user", parts=[{"type": "file", "file": bad}])
    for digest in ("0" * 64, "../lock", ""):
        with pytest.raises(AttachmentMissingError):
            m.read_attachment(WS, digest)
