"""Parts in the shape of other tools are kept; where they give no text, the message's own is read. Traps are refused."""

from __future__ import annotations

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager
from nomad_sessions.formats.exporting import EXPORTS, export_session
from nomad_sessions.formats.model_messages import messages_for_model
from nomad_sessions.search import Searcher

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
USE = {"type": "tool_use", "id": "t", "name": "read", "input": {}}


@pytest.mark.parametrize("part", [IMAGE, USE], ids=["image_url", "tool_use"])
def test_the_text_of_such_a_message_is_found_and_exported(m: NativeSessionManager, part: dict[str, object]) -> None:
    m.create_session("ws", id="s")
    message = m.add_message("ws", "s", role="user", content="see picture", parts=[part])
    assert message.content == "see picture"
    with Searcher(m) as searcher:
        assert searcher.find("picture").total == 1
    for form in EXPORTS:
        assert b"see picture" in export_session(m, "ws", "s", form), form
    assert messages_for_model(m, "ws", "s") == [{"role": "user", "content": "see picture"}]


@pytest.mark.parametrize("kind", ["text", "thinking", "code"])
def test_text_under_another_key_is_refused_and_the_key_named(m: NativeSessionManager, kind: str) -> None:
    m.create_session("ws", id="s")
    with pytest.raises(InvalidInputError, match="`content`"):
        m.add_message("ws", "s", role="user", parts=[{"type": kind, "text": "hello"}])
    assert m.get_session_messages("ws", "s").total == 0


def test_a_call_in_another_shape_is_refused(m: NativeSessionManager) -> None:
    m.create_session("ws", id="s")
    with pytest.raises(InvalidInputError, match="`function`"):
        m.add_message("ws", "s", role="assistant", tool_calls=[{"id": "1", "name": "f", "args": {}}])
