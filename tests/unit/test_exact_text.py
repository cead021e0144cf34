"""Text is stored exactly: read back equal at once, after a reopen, after a checkpoint, and in a fork."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage.codec import encode
from tests.support.there import there

WS = "ws"
MB = 1024 * 1024


def nested(levels: int) -> dict[str, Any]:
    value: Any = ["bottom \ud83d", None, 1.5]
    for level in range(levels):
        value = {"in": value} if level % 2 else [value]
    return {"top": value}


TEXTS = {
    "empty": "",
    "10 MB": "zehn Megabyte 😀 " * (10 * MB // 16),
    "NUL": "a\0b\0",
    "CR": "a\rb\r\nc\n\r",
    "line separators": "a\u2028b\u2029c\x85d\x0be",
    "lone surrogates": "\ud83d a \ude00 b \udfff\ud800",
    "a pair in two halves of one text, the wrong way round": "\ude00\ud83d",
    "byte order marks and the last characters": "\ufeff\ufffe\uffff\U0010ffff",
    "combining": "e\u0301 \u202e olleh",
    "JSON inside": '{"crc":"00000000","seq":1}\n"}}],\\u0000\\',
    "NaN": "NaN Infinity -Infinity",
    "our trailer": '"trailer":"nomad1 0000000000000000 0000000000000000 00000000 0000000000000000"}}\n',
}


def everywhere(folder: Path, message_id: str, forked: str) -> list[Any]:
    """The message and its copy in a fork: from the journal, from the snapshot, from a journal above a snapshot."""
    found: list[Any] = []
    for _ in range(3):
        with NativeSessionManager(folder) as m:
            for each in (message_id, m.get_session_messages(WS, forked)[-1].id):
                message = m.get_message(WS, each)
                assert message is not None
                found.append(message)
            m.update_session(WS, forked, description=f"pass {len(found)}")
            m.checkpoint(WS)
            assert m.check(WS).ok
    return found


def store(folder: Path, **fields: Any) -> tuple[Any, list[Any]]:
    manager = NativeSessionManager(folder)
    manager.create_session(WS, id="s")
    message = manager.add_message(WS, "s", role="user", **fields)
    forked = manager.fork_session(WS, "s").id
    manager.flush()  # And not closed: the journal alone has it.
    found = everywhere(folder, message.id, forked)
    manager.close()
    return message, found


@pytest.mark.parametrize("name", TEXTS)
def test_content_is_read_back_exactly(tmp_path: Path, name: str) -> None:
    text = TEXTS[name]
    message, found = store(tmp_path, content=text)
    assert [each.content == text for each in (message, *found)] == [True] * 7


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "10 MB"])
def test_text_is_exact_wherever_it_stands(tmp_path: Path, name: str) -> None:
    text = TEXTS[name]
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    parts = [
        {"type": "text", "content": text},
        {"type": "thinking", "content": text},
        {"type": "tool_call", "toolCall": call, "state": {"output": text}},
        {"type": "tool_result", "toolResult": {"toolCallId": "c", "content": text}},
    ]
    metadata = {"key " + text: [text], "plain": text}
    message, found = store(tmp_path, parts=parts, metadata=metadata, extra={"deep": [text]}, agent=text)
    for each in (message, *found):
        assert (each.content, each.agent, each.metadata) == (text, text, metadata)
        assert (each.parts[0].content, each.parts[1].content, each.parts[2].state) == (text, text, {"output": text})
        assert each.tool_calls[0].function.arguments == each.parts[3].tool_result.content == text
        assert each.model_extra == {"extra": {"deep": [text]}}
    with NativeSessionManager(tmp_path) as m:
        m.update_session(WS, "s", title=text, description=text, metadata=metadata, mine=text)
        m.update_message(WS, message.id, metadata={"again": text})
        m.append_to_message(WS, message.id, text)
        m.checkpoint(WS)
    with NativeSessionManager(tmp_path) as m:
        session = m.get_session(WS, "s")
        assert session is not None
        assert (session.title, session.description, session.metadata) == (text, text, metadata)
        assert there(m.get_message(WS, message.id)).metadata == {"again": text}


@pytest.mark.parametrize("levels", [199, 201, 1000])
def test_nesting_is_kept_in_metadata_and_unknown_fields(tmp_path: Path, levels: int) -> None:
    deep = nested(levels)
    message, found = store(tmp_path, content="x", metadata=deep, unknown=deep, parts=[{"type": "odd", "content": deep}])
    for each in (message, *found):
        for value in (each.metadata, each.model_extra["unknown"], each.parts[0].content):
            assert encode(value) == encode(deep)
    with NativeSessionManager(tmp_path) as m:
        m.update_session(WS, "s", metadata=deep, unknown=deep)
        rev = m.update_session(WS, "s", metadata=nested(levels)).rev
        assert m.update_session(WS, "s", metadata=nested(levels), title="New Session").rev == rev
        changed = m.update_message(WS, message.id, metadata=nested(levels), agent="a")
        assert encode(changed.metadata) == encode(deep)
        with m.transaction(WS) as tx:
            tx.create_session(WS, id="deep", metadata=deep)
            tx.update_session(WS, "deep", title="t")
        m.checkpoint(WS)
    with NativeSessionManager(tmp_path) as m:
        for name in ("s", "deep"):
            session = m.get_session(WS, name)
            assert session is not None
            assert encode(session.metadata) == encode(deep)
        m.move_session(WS, "deep", to_workspace="other")
        assert encode(there(m.get_session("other", "deep")).metadata) == encode(deep)


@pytest.mark.parametrize(
    "value", [0, -1, 2**53 + 1, 2**63, -(2**64), 10**300, 0.1, -0.0, 1e-320, 1.7976931348623157e308, 1e22, True, None]
)
def test_numbers_are_read_back_as_they_were(tmp_path: Path, value: Any) -> None:
    message, found = store(tmp_path, metadata={"v": value, "l": [value]})
    for each in (message, *found):
        for back in (each.metadata["v"], each.metadata["l"][0]):
            assert (type(back), repr(back)) == (type(value), repr(value))


def test_a_20_mb_image_comes_back_as_a_file_part_also_through_a_fork_and_a_move(tmp_path: Path) -> None:
    image = random.Random(1).randbytes(20 * MB)
    part = {"type": "file", "file": {"mime": "image/png", "name": "big.png", "data": image}}
    message, found = store(tmp_path, parts=[part])
    with NativeSessionManager(tmp_path) as m:
        for each in (message, *found):
            file = each.parts[0].file
            assert (file.mime, file.name, file.size) == ("image/png", "big.png", 20 * MB)
            assert m.read_attachment(WS, file.sha256) == image
        assert m.stats(WS).bytes_attachments == 20 * MB, "the fork shares it"
        assert m.stats(WS).bytes_journal < 20_000
        m.move_session(WS, "s", to_workspace="other")
        assert m.read_attachment("other", message.parts[0].file.sha256) == image
