"""Streams: what arrived is kept, however it ends; a message says `streaming` only while its writer lives."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    AlreadyExistsError,
    AsyncSessionManager,
    InvalidInputError,
    Message,
    MessageNotFoundError,
    NativeSessionManager,
    SessionNotFoundError,
    TransactionError,
)
from nomad_sessions.models import dump
from tests.support.there import there
from tests.support.together import together

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session(WS, id="s")
        yield manager


def read(m: NativeSessionManager, message_id: str) -> Message:
    """As another handle reads it, before and after a checkpoint."""
    with NativeSessionManager(m.data_dir) as other:
        found = other.get_message(WS, message_id)
        other.checkpoint(WS)
        assert found is not None
        assert other.get_message(WS, message_id) == found == m.get_message(WS, message_id)
    return found


def test_a_stream_becomes_a_complete_message(m: NativeSessionManager) -> None:
    with m.stream_message(WS, "s", model={"provider_id": "p", "model_id": "x"}, agent="build") as s:
        assert read(m, s.message.id).status == "streaming"
        s.thinking("let me ")
        s.thinking("see")
        s.text("Hel")
        s.text("lo")
        assert read(m, s.message.id).content == "Hello"
        s.usage(input=3)
        s.usage({"cacheRead": 1}, output=4)
    found = read(m, s.message.id)
    assert found == s.message
    assert (found.role, found.status, found.content, found.error) == ("assistant", "completed", "Hello", None)
    assert [dump(part) for part in found.parts] == [
        {"type": "thinking", "content": "let me see"},
        {"type": "text", "content": "Hello"},
    ]
    assert dump(found)["usage"] == {"input": 3, "cacheRead": 1, "output": 4}
    assert "writer" not in dump(found)
    assert not any((Path(m.data_dir) / WS / "streams").iterdir())


def test_interleaved_tool_calls_and_text_keep_their_places(m: NativeSessionManager) -> None:
    with m.stream_message(WS, "s") as s:
        s.text("a")
        s.tool_call("c1", "bash", '{"x"')
        s.tool_call("c2", "edit")
        s.tool_call("c1", "bash", ":1}")
        s.text("b")
        s.tool_call("c2", "edit", "{}")
        s.text("c")
    found = read(m, s.message.id)
    assert [part.type for part in found.parts] == ["text", "tool_call", "tool_call", "text"]
    assert found.content == "abc"
    assert [(call.id, call.function.name, call.function.arguments) for call in found.tool_calls] == [
        ("c1", "bash", '{"x":1}'),
        ("c2", "edit", "{}"),
    ]


def test_what_the_message_began_with_is_kept(m: NativeSessionManager) -> None:
    with m.stream_message(WS, "s", content="so far, ") as s:
        s.text("so good")
    assert read(m, s.message.id).content == "so far, so good"
    with m.stream_message(WS, "s", parts=[{"type": "text", "content": "one"}]) as s:
        s.text("two")
        s.tool_call("c", "x")
    assert read(m, s.message.id).content == "onetwo"


@pytest.mark.parametrize("where", ["text", "thinking", "tool_call"])
def test_a_surrogate_pair_may_be_split_between_two_deltas(m: NativeSessionManager, where: str) -> None:
    with m.stream_message(WS, "s") as s:
        for delta in ("a\ud83d", "\ude00b", "\ud83d", "", "\ud83d", "\ude00"):
            s.tool_call("c", "x", delta) if where == "tool_call" else getattr(s, where)(delta)
    part = read(m, s.message.id).parts[0]
    found = part.tool_call.function.arguments if part.tool_call is not None else part.content
    assert found == "a😀b\ud83d😀"


def test_an_exception_keeps_the_text_and_goes_on(m: NativeSessionManager) -> None:
    with pytest.raises(ConnectionError), m.stream_message(WS, "s") as s:  # noqa: PT012
        s.text("so far")
        raise ConnectionError("reset by peer")
    found = read(m, s.message.id)
    assert (found.status, found.content) == ("error", "so far")
    assert dump(found)["error"] == {"name": "ConnectionError", "message": "reset by peer"}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_cancellation_and_ctrl_c_say_aborted(m: NativeSessionManager, kind: type[BaseException]) -> None:
    with pytest.raises(kind), m.stream_message(WS, "s") as s:  # noqa: PT012
        s.text("so far")
        raise kind
    found = read(m, s.message.id)
    assert (found.status, found.content) == ("error", "so far")
    assert dump(found)["error"] == {"name": "aborted", "message": kind.__name__}


def test_abort_says_aborted(m: NativeSessionManager) -> None:
    with m.stream_message(WS, "s") as s:
        s.text("so far")
        s.abort("the user pressed stop")
    found = read(m, s.message.id)
    assert (found.status, found.content) == ("error", "so far")
    assert dump(found)["error"] == {"name": "aborted", "message": "the user pressed stop"}


def test_a_real_ctrl_c_in_the_middle_leaves_a_whole_message(tmp_path: Path) -> None:
    code = """
        import sys, time
        from nomad_sessions import NativeSessionManager
        with NativeSessionManager(sys.argv[1]) as m:
            m.create_session("ws", id="s")
            with m.stream_message("ws", "s", id="m1") as s:
                for n in range(100_000):
                    s.text(f"{n} ")
                    if n == 50:
                        print("ready", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    with NativeSessionManager(tmp_path) as m:
        found = m.get_message(WS, "m1")
        assert found is not None
        assert (found.status, found.error and found.error.name) == ("error", "aborted")
        numbers = [int(each) for each in found.content.split()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 50
        assert m.check(WS).ok


def test_a_killed_writer_leaves_a_prefix_that_is_found_as_interrupted(tmp_path: Path) -> None:
    code = """
        import sys, time
        from nomad_sessions import NativeSessionManager
        m = NativeSessionManager(sys.argv[1])
        m.create_session("ws", id="s")
        s = m.stream_message("ws", "s", id="m1").__enter__()
        for n in range(200):
            s.text(f"{n} ")
        m.flush()
        print("ready", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with NativeSessionManager(tmp_path) as m:
            assert m.interrupted_messages(WS) == []
            child.kill()
            child.wait()
            (found,) = m.interrupted_messages(WS)
            assert (found.id, found.status) == ("m1", "streaming")
            assert found.content == "".join(f"{n} " for n in range(200))
            m.update_message(WS, "m1", status="error", writer=None)
            assert m.interrupted_messages(WS) == []
    assert child.returncode == -signal.SIGKILL


def test_a_stream_that_lives_is_not_interrupted_and_a_foreign_one_is(m: NativeSessionManager) -> None:
    m.add_message(WS, "s", id="old", role="assistant", status="streaming", writer="../../etc/passwd")
    with m.stream_message(WS, "s"):
        assert [each.id for each in m.interrupted_messages(WS)] == ["old"]


def test_a_stream_is_used_once_and_only_as_a_context(m: NativeSessionManager) -> None:
    stream = m.stream_message(WS, "s")
    with pytest.raises(TransactionError):
        stream.text("too early")
    with stream, pytest.raises(TransactionError):
        stream.__enter__()
    with pytest.raises(TransactionError), stream:
        pass


def test_a_stream_into_nothing_or_over_something_raises_and_leaves_no_lock(m: NativeSessionManager) -> None:
    m.add_message(WS, "s", id="taken", role="assistant", content="done")
    with pytest.raises(SessionNotFoundError), m.stream_message(WS, "nobody"):
        pass
    with pytest.raises(SessionNotFoundError), m.stream_message("nowhere", "s"):
        pass
    with pytest.raises(AlreadyExistsError), m.stream_message(WS, "s", id="taken"):
        pass
    with pytest.raises(InvalidInputError), m.stream_message(WS, "s", role="boss"):
        pass
    assert m.list_workspaces() == [WS]
    assert read(m, "taken").content == "done"
    assert not any((Path(m.data_dir) / WS / "streams").iterdir())


def test_what_is_no_text_or_no_usage_is_refused_at_once_and_costs_nothing(m: NativeSessionManager) -> None:
    with m.stream_message(WS, "s") as s:
        s.text("a")
        bad: list[tuple[Callable[..., None], object]] = [
            (s.text, 5),
            (s.thinking, None),
            (s.usage, 5),
            (s.usage, {"input": "many"}),
        ]
        for call, value in bad:
            with pytest.raises(InvalidInputError):
                call(value)
        s.text("b")
    assert read(m, s.message.id).content == "ab"
    assert read(m, s.message.id).usage is None


def test_a_message_that_is_deleted_under_a_stream_ends_it(m: NativeSessionManager) -> None:
    with pytest.raises(MessageNotFoundError), m.stream_message(WS, "s") as s:  # noqa: PT012
        s.text("a")
        m.delete_message(WS, s.message.id)
        s.text("b")
    assert not any((Path(m.data_dir) / WS / "streams").iterdir())


def test_streams_of_several_threads_do_not_mix(m: NativeSessionManager) -> None:
    found: dict[int, str] = {}

    def write(number: int) -> None:
        with m.stream_message(WS, "s") as s:
            for each in range(100):
                s.text(f"{number}:{each} ")
        found[number] = s.message.id

    together(*(partial(write, n) for n in range(4)))
    for number, message_id in found.items():
        assert read(m, message_id).content == "".join(f"{number}:{each} " for each in range(100))


def test_a_stream_costs_about_its_text_and_few_syncs(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        with m.stream_message(WS, "s") as s:
            for number in range(2000):
                s.text(f"{number:020d}")
        assert m.status(WS).journal_bytes + m.status(WS).snapshot_bytes <= 5 * len(s.message.content)


# asyncio


def run(tmp_path: Path, body: Any) -> Message:
    async def main() -> str:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            message_id: str = await body(m)
            return message_id

    message_id = asyncio.run(main())
    with NativeSessionManager(tmp_path) as m:
        assert m.interrupted_messages(WS) == []
        return read(m, message_id)


def test_an_async_stream_becomes_a_complete_message(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> str:
        async with m.stream_message(WS, "s", agent="a") as s:
            await s.thinking("hm")
            await s.text("a")
            await s.tool_call("c", "bash", "{}")
            s.usage(output=1)
        return s.message.id

    found = run(tmp_path, body)
    assert (found.status, found.content, found.agent, len(found.parts)) == ("completed", "a", "a", 3)


@pytest.mark.parametrize("how", ["exception", "abort", "cancel"])
def test_an_async_stream_keeps_its_text_however_it_ends(tmp_path: Path, how: str) -> None:
    async def body(m: AsyncSessionManager) -> str:
        streaming: list[str] = []

        async def write() -> None:
            async with m.stream_message(WS, "s") as s:
                streaming.append(s.message.id)
                await s.text("so far")
                if how == "abort":
                    s.abort("stop")
                elif how == "exception":
                    raise ValueError("bad")
                else:
                    await asyncio.sleep(60)

        task = asyncio.create_task(write())
        await asyncio.wait([task], timeout=0.3)
        if how == "cancel":
            assert task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        expected: dict[str, type] = {"exception": ValueError, "abort": type(None), "cancel": asyncio.CancelledError}
        assert isinstance(result, expected[how])
        return streaming[0]

    found = run(tmp_path, body)
    assert (found.status, found.content) == ("error", "so far")
    assert found.error is not None
    assert found.error.name == ("ValueError" if how == "exception" else "aborted")


def test_cancelling_at_any_moment_leaves_no_message_streaming(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> str:
        async def write() -> None:
            async with m.stream_message(WS, "s") as s:
                for number in range(20):
                    await s.text(f"{number} ")

        for step in range(40):
            task = asyncio.create_task(write())
            await asyncio.sleep(step * 0.0002)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for message in await m.get_session_messages(WS, "s"):
            assert message.status in ("completed", "error")
            numbers = [int(each) for each in message.content.split()]
            assert numbers == list(range(len(numbers)))
        return (await m.add_message(WS, "s", role="user")).id

    run(tmp_path, body)
    assert not any((tmp_path / WS / "streams").iterdir())


@pytest.mark.parametrize("when", ["begin", "end"])
def test_a_task_cancelled_while_its_stream_begins_or_ends_leaves_an_ended_message(tmp_path: Path, when: str) -> None:
    async def body(m: AsyncSessionManager) -> str:
        at_end = asyncio.Event()

        async def write() -> None:
            async with m.stream_message(WS, "s") as s:
                await s.text("all")
                at_end.set()
                await asyncio.sleep(0.05 if when == "end" else 60)

        if when == "end":
            task = asyncio.create_task(write())
            await at_end.wait()
        with m._manager.workspace(WS).locked():  # Holds up the thread that adds the message, or ends it.
            if when == "begin":
                task = asyncio.create_task(write())
            for _ in range(2):
                await asyncio.sleep(0.1)
                task.cancel()
            await asyncio.sleep(0.05)
            assert not task.done()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)
        (message,) = await m.get_session_messages(WS, "s")
        return message.id

    found = run(tmp_path, body)
    expected = ("completed", "all") if when == "end" else ("error", "")
    assert (found.status, found.content) == expected


def test_a_stream_that_has_ended_takes_no_more(m: NativeSessionManager) -> None:
    m.create_session("ended", id="e")
    with m.stream_message("ended", "e") as stream:
        stream.text("done")
    with pytest.raises(TransactionError, match="ended"):
        stream.text("late")
    with m.stream_message("ended", "e") as stream:
        stream.text("half")
        stream.abort()
        with pytest.raises(TransactionError, match="ended"):
            stream.thinking("late")
    assert [message.content for message in m.get_session_messages("ended", "e")] == ["done", "half"]


def test_halves_of_a_pair_that_meet_between_two_parts_read_the_same_before_and_after_a_checkpoint(
    m: NativeSessionManager,
) -> None:
    with m.stream_message(WS, "s") as streaming:
        streaming.text("one \ud83d")
        streaming.thinking("hm")
        streaming.text("\ude00 two")
        assert there(m.get_message(WS, streaming.message.id)).content == "one \U0001f600 two"
    before = there(m.get_message(WS, streaming.message.id))
    m.checkpoint(WS)
    m.clear_workspace(WS)
    assert there(m.get_message(WS, streaming.message.id)) == before
    assert [part.content for part in before.parts] == ["one \ud83d", "hm", "\ude00 two"]


@pytest.mark.parametrize("text", ["", "hello"])
@pytest.mark.parametrize(
    "change", [{"parts": []}, {"content": "edited"}, {"parts": [{"type": "text", "content": "new"}]}]
)
def test_an_edit_of_what_was_streamed_comes_to_the_same_whether_a_fold_came_between(
    m: NativeSessionManager, change: dict[str, Any], text: str
) -> None:
    found = []
    for fold in (False, True):
        with m.stream_message(WS, "s") as s:
            s.text(text)
            s.thinking("hm")
            s.tool_call("c", "bash", "{}")
        if fold:
            m.checkpoint(WS)
        m.update_message(WS, s.message.id, change)
        body = dump(read(m, s.message.id))
        found.append({key: value for key, value in body.items() if key not in ("id", "rev", "createdAt", "updatedAt")})
    assert found[0] == found[1]
