"""An id is one id however its characters are spelt: as one each, or as the two halves that JavaScript's strings have.

JSON knows no difference, so that the store cannot keep one; whoever asks with either spelling finds the same.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import AsyncSessionManager, NativeSessionManager
from tests.support.there import there

WS = "ws"
SPLIT, WHOLE = "x\ud83d\ude00", "x\U0001f600"


@pytest.fixture(params=[(SPLIT, WHOLE), (WHOLE, SPLIT), (SPLIT, SPLIT)], ids=["split", "whole", "both"])
def ids(request: pytest.FixtureRequest) -> tuple[str, str]:
    """How something is named when it is made, and when it is asked for."""
    found: tuple[str, str] = request.param
    return found


def same_when_reopened(m: NativeSessionManager) -> None:
    """What is in memory is what is on the disk, before and after it was folded."""

    def state(manager: NativeSessionManager) -> Any:
        sessions = list(manager.list_sessions(WS))
        messages = [manager.get_session_messages(WS, each.id, include_reverted=True) for each in sessions]
        return sessions, messages, list(manager.list_tasks(WS))

    before = state(m)
    for _ in range(2):
        with NativeSessionManager(m.data_dir) as other:
            assert state(other) == before
            assert other.check(WS).ok
        m.checkpoint(WS)


def test_sessions(m: NativeSessionManager, ids: tuple[str, str]) -> None:
    made, asked = ids
    assert m.create_session(WS, id=made).id == WHOLE
    assert m.create_session(WS, id=asked).id == WHOLE
    child = m.create_session(WS, parent_id=made)
    assert m.children(WS, asked) == [child]
    assert there(m.get_session(WS, asked)).id == WHOLE
    assert m.update_session(WS, asked, title=asked).title == WHOLE
    m.add_message(WS, asked, id="m", role="user", content="1", sessionId=made)
    m.add_messages(WS, asked, [{"role": "user", "content": "2"}])
    fork = m.fork_session(WS, asked, title=asked)
    assert (fork.title, there(fork.forked_from).session_id) == (WHOLE, WHOLE)
    m.revert(WS, asked, "m", reason=asked)
    assert m.unrevert(WS, asked).id == WHOLE
    m.compact_session(WS, asked, asked, before="m")
    page = m.get_session_messages(WS, asked, limit=1)
    assert m.get_session_messages(WS, asked, cursor=page.next_cursor).total == 3
    assert there(m.session_info(WS, asked)).message_count == 3
    for call in (m.close_session, m.reopen_session, m.archive_session, m.unarchive_session):
        assert call(WS, asked).id == WHOLE
    same_when_reopened(m)
    assert m.move_session(WS, asked, to_workspace="to").id == WHOLE
    assert m.get_session_messages("to", made).total == 3
    assert m.delete_session("to", asked) == [WHOLE]


def test_messages(m: NativeSessionManager, ids: tuple[str, str]) -> None:
    made, asked = ids
    m.create_session(WS, id="s")
    assert m.add_message(WS, "s", id=made, role="user", content="1").id == WHOLE
    assert m.add_message(WS, "s", id=asked, role="user", content="again").content == "1"
    m.add_message(WS, "s", role="user", content="2")
    assert there(m.get_message(WS, asked)).id == WHOLE
    assert m.update_message(WS, asked, content="3").content == "3"
    m.append_to_message(WS, asked, asked)
    assert there(m.get_message(WS, made)).content == f"3{WHOLE}"
    assert m.fork_session(WS, "s", message_id=asked).message_ids != []
    assert m.revert(WS, "s", asked).message_ids == [WHOLE]
    m.unrevert(WS, "s")
    m.compact_session(WS, "s", "summary", before=asked)
    same_when_reopened(m)
    m.delete_message(WS, asked)
    assert m.get_message(WS, made) is None


def test_tasks(m: NativeSessionManager, ids: tuple[str, str]) -> None:
    made, asked = ids
    m.create_session(WS, id=made)
    task = m.create_task(WS, made, id=made, agent_id=made, task_type=made, sessionId=made)
    assert (task.id, task.session_id, task.agent_id) == (WHOLE, WHOLE, WHOLE)
    assert m.create_task(WS, asked, id=asked, sessionId=asked) == task
    assert m.get_task(WS, asked) == task
    wanted: list[dict[str, Any]] = [{"session_id": asked}, {"agent_id": asked}, {"task_type": asked}]
    for filters in wanted:
        assert m.list_tasks(WS, **filters) == [task]
    m.start_task(WS, asked)
    m.touch_task(WS, asked)
    m.progress_task(WS, asked, 5)
    assert m.update_task(WS, asked, agent_id=asked).progress == 5
    assert there(m.session_info(WS, asked)).agent_task_status == "running"
    assert m.fail_task(WS, asked, asked).error_message == WHOLE
    same_when_reopened(m)
    m.move_session(WS, asked, to_workspace="to")
    assert m.list_tasks("to", session_id=made).total == 1
    m.delete_task("to", asked)
    assert m.list_tasks("to") == []


def test_clients_and_streams(m: NativeSessionManager, ids: tuple[str, str]) -> None:
    made, asked = ids
    m.create_session(WS, id=made)
    with m.open_session(WS, asked, client=asked, exclusive=True) as connection:
        assert connection.session_id == WHOLE
        for each in (made, asked):
            assert [found.id for found in m.connections(WS, each)] == [connection.info.id]
        assert [each._replace(heartbeat_age=0.0) for each in m.connections(WS)] == [connection.info]
        following = connection.follow()
        assert there(following.next(5)).properties["session"]["id"] == WHOLE
        with m.stream_message(WS, asked) as stream:
            stream.text("a")
            assert there(m.session_info(WS, made)).activity_status == "active"
        assert there(following.next(5)).session_id == WHOLE
    m.close_session(WS, asked)
    m.resume_session(WS, asked).close()
    with m.follow_session(WS, asked) as alone:
        m.update_session(WS, made, title="changed")
        kinds = [there(alone.next(5)).type for _ in range(2)]
    assert kinds == ["session.snapshot", "session.updated"]


async def streamed(folder: Path, made: str, asked: str) -> str:
    async with AsyncSessionManager(folder) as m:
        await m.create_session(WS, id=made)
        async with m.stream_message(WS, asked) as stream:
            await stream.text("a")
        return there(await m.get_session(WS, asked)).id


def test_the_async_twin_has_it_from_the_sync_one(tmp_path: Path, ids: tuple[str, str]) -> None:
    assert asyncio.run(streamed(tmp_path, *ids)) == WHOLE


def test_a_half_that_stands_alone_names_nothing_that_is_there(m: NativeSessionManager) -> None:
    m.create_session(WS, id=WHOLE)
    for half in ("x\ud83d", "x\ude00"):
        assert m.get_session(WS, half) is None
        assert m.get_message(WS, half) is None
        assert m.get_task(WS, half) is None
