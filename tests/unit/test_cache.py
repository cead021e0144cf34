"""Messages that lie in pieces are put together once, never shown as they were, and take no more room than allowed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.storage.counters import Counters
from nomad_sessions.streaming import MessageStream
from nomad_sessions.workspace.cache import BodyCache
from nomad_sessions.workspace.state import Ref
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    manager = NativeSessionManager(tmp_path / "data", durability="os")
    manager.create_session(WS, id="s")
    return manager


def streamed(m: NativeSessionManager, words: int = 20) -> str:
    with m.stream_message(WS, "s") as stream:
        for number in range(words):
            stream.text(f"{number} ")
    return stream.message.id


def counters(m: NativeSessionManager) -> Counters:
    return m.metrics().workspaces[WS].counters


def test_a_stream_is_put_together_once(m: NativeSessionManager) -> None:
    first, other = streamed(m), streamed(m)
    begun = counters(m)
    for _ in range(3):
        assert [each.id for each in m.get_session_messages(WS, "s")] == [first, other]
    assert there(m.get_message(WS, first)).content.startswith("0 1 2 ")
    found = counters(m)
    assert (found.body_misses - begun.body_misses, found.body_hits - begun.body_hits) == (2, 5)
    assert m.metrics().workspaces[WS].hit_rate == found.body_hits / (found.body_hits + found.body_misses)


def test_every_change_is_seen_at_once_from_wherever_it_comes(m: NativeSessionManager) -> None:
    message = streamed(m)
    with NativeSessionManager(m.data_dir, durability="os") as other:
        for number in range(5):
            for writer in (m, other):
                writer.append_to_message(WS, message, f"+{number}")
                writer.update_message(WS, message, metadata={"n": number})
                for reader in (m, other):
                    found = there(reader.get_message(WS, message))
                    assert found.content.endswith(f"+{number}")
                    assert found.metadata == {"n": number}
                    assert reader.get_session_messages(WS, "s")[0] == found
        m.delete_message(WS, message)
        assert other.get_message(WS, message) is None
        assert len(other.get_session_messages(WS, "s")) == 0


def test_what_a_caller_does_to_a_message_changes_nothing(m: NativeSessionManager) -> None:
    message = streamed(m)
    for _ in range(2):
        found = there(m.get_message(WS, message))
        found.parts.clear()
        found.content = "mine"
    assert there(m.get_message(WS, message)).content.startswith("0 1")


def test_a_fold_and_a_rewrite_leave_nothing_behind(m: NativeSessionManager) -> None:
    message = streamed(m)
    before = there(m.get_message(WS, message))
    assert m.metrics().workspaces[WS].cached_bytes > 0
    m.checkpoint(WS)
    assert there(m.get_message(WS, message)) == before
    assert m.metrics().workspaces[WS].cached_bytes == 0, "it lies somewhere whole now"


def test_it_keeps_to_its_limit(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BodyCache.__init__, "__defaults__", (3_000,))
    m.clear_workspace(WS)
    ids = [streamed(m) for _ in range(20)]
    for _ in range(2):
        assert len(m.get_session_messages(WS, "s")) == 20
        assert m.metrics().workspaces[WS].cached_bytes <= 3_000
    assert counters(m).body_evictions > 20
    hits = counters(m).body_hits
    m.get_message(WS, ids[-1])
    assert counters(m).body_hits == hits + 1, "the newest stayed"


def test_warming_puts_together_what_will_be_asked_for(m: NativeSessionManager) -> None:
    streamed(m)
    m.add_message(WS, "s", role="user", content="whole")
    with NativeSessionManager(m.data_dir) as fresh:
        assert fresh.warm(WS) == 2
        assert counters(fresh).body_misses == 1
        fresh.get_session_messages(WS, "s")
        assert (counters(fresh).body_misses, counters(fresh).body_hits) == (1, 1)
        assert fresh.warm("nowhere") == 0
        with pytest.raises(InvalidInputError, match="sessions"):
            fresh.warm(WS, sessions=0)


def test_while_a_message_grows_only_what_is_new_is_read(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = 0
    load = Ref.load

    def counted(ref: Ref) -> dict[str, Any]:
        nonlocal loaded
        loaded += 1
        return load(ref)

    message = m.add_message(WS, "s", role="assistant", content="").id
    monkeypatch.setattr(Ref, "load", counted)
    for number in range(200):
        m.append_to_message(WS, message, f"{number} ")
        assert there(m.get_message(WS, message)).content.endswith(f" {number} " if number else "0 ")
    assert loaded < 1000
    monkeypatch.undo()
    with NativeSessionManager(m.data_dir) as other:
        assert other.get_message(WS, message) == m.get_message(WS, message)


def grow(m: NativeSessionManager, stream: MessageStream, message: str, chance: random.Random) -> None:
    text = chance.choice(["x", "two words ", "\ud83d", "\ude00", "é"])
    parts = len(there(m.get_message(WS, message)).parts or ())
    match chance.randrange(6):
        case 0:
            stream.text(text)
        case 1:
            stream.thinking(text)
        case 2:
            m.append_to_message(WS, message, text)
        case 3:
            m.append_to_message(WS, message, text, part=chance.randrange(parts))
        case 4:
            m.update_message(WS, message, metadata={"n": chance.random()})
        case _:
            m.checkpoint(WS)


@pytest.mark.parametrize("seed", range(8))
def test_what_grows_under_ones_eyes_is_what_one_who_comes_later_reads(m: NativeSessionManager, seed: int) -> None:
    chance = random.Random(seed)
    with m.stream_message(WS, "s") as stream:
        stream.text("begin")
        message = stream.message.id
        for _ in range(60):
            grow(m, stream, message, chance)
            if chance.random() < 0.7:
                seen = m.get_message(WS, message)
                with NativeSessionManager(m.data_dir) as other:
                    assert other.get_message(WS, message) == seen
