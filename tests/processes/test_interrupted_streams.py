"""A process that dies while it streams a message: the text that had arrived stays, and the message says so."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from tests.processes.children import Child
from tests.processes.node import sound

pytestmark = pytest.mark.processes


def text_of(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


def test_a_killed_stream_keeps_what_had_arrived_and_is_listed_as_interrupted(data_dir: Path) -> None:
    with NativeSessionManager(data_dir) as manager, Child("stream", data_dir) as child:
        for expected in range(200):
            assert child.hear() == expected
        assert manager.interrupted_messages("ws") == [], "its writer lives"
        said = child.kill()
        heard = 200 + len(said.splitlines())
        (message,) = manager.interrupted_messages("ws")
        assert (message.id, message.status) == (child.first, "streaming")
        assert message.content in (text_of(heard), text_of(heard + 1)), "what was taken, and at most the one in flight"
        assert [part.content for part in message.parts] == [message.content]
        manager.checkpoint("ws")
        assert [each.id for each in manager.interrupted_messages("ws")] == [message.id]
        manager.update_message("ws", message.id, status="error")
        assert manager.interrupted_messages("ws") == []
    sound(data_dir).close()


def test_of_a_dead_and_a_live_stream_only_the_dead_one_is_listed(data_dir: Path) -> None:
    with Child("stream", data_dir) as one, Child("stream", data_dir) as two, NativeSessionManager(data_dir) as manager:
        one.kill()
        for _ in range(5):
            assert [each.id for each in manager.interrupted_messages("ws")] == [one.first]
        with manager.stream_message("ws", "shared") as own:
            own.text("live")
            assert [each.id for each in manager.interrupted_messages("ws")] == [one.first]
        two.kill()
        assert [each.id for each in manager.interrupted_messages("ws")] == [one.first, two.first]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_that_outlives_its_streaming_parent_does_not_keep_the_stream_alive(data_dir: Path) -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        manager = NativeSessionManager(data_dir)
        with manager.stream_message("ws", "shared") as streaming:
            streaming.text("from the parent")
            manager.flush()
            if not os.fork():
                # Only it can say so: until it runs, and has given up what it inherited, it keeps its parent's lock.
                os.write(writing, str(os.getpid()).encode())
                time.sleep(30)
                os._exit(0)
            time.sleep(30)
            os._exit(0)
    orphan = int(os.read(reading, 20))
    os.kill(parent, signal.SIGKILL)
    _, status = os.waitpid(parent, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    os.close(reading)
    os.close(writing)
    try:
        os.kill(orphan, 0)
        with NativeSessionManager(data_dir) as manager:
            (message,) = manager.interrupted_messages("ws")
            assert message.content == "from the parent"
    finally:
        os.kill(orphan, signal.SIGKILL)
