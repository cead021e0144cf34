"""Several processes on one workspace: order, completeness, readers that never go back in time."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from tests.processes.children import Child
from tests.processes.node import contents, sound
from tests.support.together import together

pytestmark = pytest.mark.processes


def prepare(data_dir: Path) -> int:
    """Two sessions; the seq that the next change gets."""
    with NativeSessionManager(data_dir) as manager:
        manager.create_session("ws", id="shared")
        manager.create_session("ws", id="pairs")
        return manager.status("ws").seq + 1


def run_writers(data_dir: Path, writers: int, count: int, every: int) -> list[list[tuple[int, str]]]:
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(Child("add", data_dir, f"writer{number}", count, every)) for number in range(writers)
        ]
        for child in children:
            child.go()
        return [[(seq, identifier) for seq, identifier in child.hear()] for child in children]


def test_processes_that_do_all_sorts_of_things_keep_what_each_was_told(tmp_path: Path) -> None:
    prepare(tmp_path)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child("mix", tmp_path, f"writer{number}", 150)) for number in range(4)]
        for child in children:
            child.go()
        acked: list[list[str]] = [child.hear() for child in children]
    manager = sound(tmp_path)
    found = contents(manager, "shared")
    for name, theirs in enumerate(acked):
        assert [text for text in found if text.startswith(f"writer{name} ")] == theirs
    assert len(found) == sum(map(len, acked)) >= 600
    manager.close()


@pytest.mark.slow
def test_4_processes_adding_250_each_keep_all_1000_with_contiguous_seq(tmp_path: Path) -> None:
    first = prepare(tmp_path)
    acked = run_writers(tmp_path, writers=4, count=250, every=0)
    manager = sound(tmp_path)
    messages = manager.get_session_messages("ws", "shared")
    assert messages.total == 1_000
    assert sorted(seq for each in acked for seq, _ in each) == list(range(first, first + 1_000))
    assert [message.rev for message in messages] == list(range(first, first + 1_000))
    by_id = {message.id: message.rev for message in messages}
    assert all(by_id[identifier] == seq for each in acked for seq, identifier in each)
    assert [message.id for message in messages] == sorted(by_id), "ids never run backwards, in any process"
    manager.close()


@pytest.mark.slow
def test_4_writers_and_4_readers_while_checkpoints_go_on(tmp_path: Path) -> None:
    first = prepare(tmp_path)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Child("read", tmp_path)) for _ in range(4)]
        pairs = stack.enter_context(Child("pair", tmp_path, 60))
        pairs.go()
        acked = run_writers(tmp_path, writers=4, count=500, every=40)
        assert pairs.hear() == 60
        for reader in readers:
            reader.go()
        said = [reader.hear() for reader in readers]
    assert all(polls > 20 for polls, _, _ in said), f"the readers hardly ran: {said}"
    manager = sound(tmp_path)
    texts = contents(manager, "shared")
    assert len(texts) == 2_000
    for number in range(4):
        own = [text for text in texts if text.startswith(f"writer{number} ")]
        assert own == [f"writer{number} {n}" for n in range(500)], "each process's own order is kept"
        assert [seq for seq, _ in acked[number]] == sorted(seq for seq, _ in acked[number])
    assert manager.status("ws").seq == first + 2_000 + 120 - 1, "no seq is skipped or used twice"
    assert len(contents(manager, "pairs")) == 120
    manager.close()


def test_a_reader_finds_what_another_process_wrote_without_any_notice(tmp_path: Path) -> None:
    prepare(tmp_path)
    with NativeSessionManager(tmp_path) as reader, Child("add", tmp_path, "writer", 50, 7) as writer:
        assert contents(reader, "shared") == []
        writer.go()
        deadline = time.monotonic() + 10
        while len(contents(reader, "shared")) < 50:
            assert time.monotonic() < deadline
        assert contents(reader, "shared") == [f"writer {number}" for number in range(50)]


def test_threads_of_one_manager_and_a_second_process_share_a_session(tmp_path: Path) -> None:
    prepare(tmp_path)
    with NativeSessionManager(tmp_path) as manager, Child("add", tmp_path, "other", 100, 25) as other:
        other.go()

        def work(name: str) -> None:
            for number in range(50):
                manager.add_message("ws", "shared", role="user", content=f"{name} {number}")

        together(*(partial(work, f"thread{n}") for n in range(4)))
        other.hear()
        texts = contents(manager, "shared")
    assert len(texts) == len(set(texts)) == 300
    for name in ("thread0", "thread1", "thread2", "thread3"):
        assert [text for text in texts if text.startswith(f"{name} ")] == [f"{name} {number}" for number in range(50)]
    sound(tmp_path).close()
