"""Writers that die, stop, fork, or lose the lock file."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager, get_session_manager, init_session_manager, shared
from nomad_sessions.errors import LockTimeoutError
from nomad_sessions.operations import messages
from tests.processes.children import Child
from tests.processes.node import contents, sound

pytestmark = pytest.mark.processes
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
needs_stop = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the platform cannot stop a process")


@pytest.fixture
def data_dir(data_dir: Path) -> Path:
    with NativeSessionManager(data_dir) as manager:
        manager.add_message("ws", "shared", role="user", content="first")
    return data_dir


def test_a_holder_killed_with_9_delays_nobody_by_more_than_100_ms(data_dir: Path) -> None:
    lock = data_dir / "ws" / "lock"
    waits = []
    with NativeSessionManager(data_dir) as manager:
        manager.add_message("ws", "shared", role="user", content="warm")
        for number in range(5):
            with Child("hold", lock) as holder:
                done: list[float] = []

                def add(text: str = f"waited {number}", done: list[float] = done) -> None:
                    manager.add_message("ws", "shared", role="user", content=text)
                    done.append(time.monotonic())

                waiting = threading.Thread(target=add)
                waiting.start()
                time.sleep(0.05)
                assert not done, "the lock was held"
                os.kill(holder.process.pid, signal.SIGKILL)
                holder.process.wait()
                killed = time.monotonic()
                waiting.join()
                waits.append(done[0] - killed)
    # The median: two cores are shared, and one late wake-up is not the lock's doing.
    assert sorted(waits)[2] < 0.1, waits
    with NativeSessionManager(data_dir) as manager:
        assert contents(manager, "shared")[-5:] == [f"waited {number}" for number in range(5)]


@needs_stop
def test_a_stopped_holder_makes_others_time_out_and_is_never_robbed(data_dir: Path) -> None:
    with Child("hold", data_dir / "ws" / "lock") as holder, NativeSessionManager(data_dir, lock_timeout=0.3) as manager:
        holder.signal(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(LockTimeoutError) as caught:
            manager.add_message("ws", "shared", role="user", content="never")
        assert 0.3 <= time.monotonic() - start < 2
        assert caught.value.path.endswith("ws/lock")
        assert caught.value.waited >= 0.3
        with pytest.raises(LockTimeoutError):
            manager.checkpoint("ws")
        assert contents(manager, "shared") == ["first"], "reading takes no lock"
        holder.signal(signal.SIGCONT)
        with pytest.raises(LockTimeoutError):
            manager.add_message("ws", "shared", role="user", content="never")
        holder.kill()
        manager.add_message("ws", "shared", role="user", content="at last")
    assert contents(sound(data_dir), "shared") == ["first", "at last"]


def test_a_writer_killed_at_any_moment_leaves_what_it_acknowledged(data_dir: Path) -> None:
    with Child("stream", data_dir) as child:
        for _ in range(30):
            child.hear()
        child.kill()
    with NativeSessionManager(data_dir) as manager:
        start = time.monotonic()
        manager.add_message("ws", "shared", role="user", content="after")
        assert time.monotonic() - start < 1
    sound(data_dir).close()


def test_a_lock_file_deleted_between_commits_is_made_again(data_dir: Path) -> None:
    lock = data_dir / "ws" / "lock"
    with NativeSessionManager(data_dir) as one, NativeSessionManager(data_dir) as two:
        for number in range(10):
            one.add_message("ws", "shared", role="user", content=f"one {number}")
            lock.unlink()
            two.add_message("ws", "shared", role="user", content=f"two {number}")
        expected = ["first", *[f"{who} {number}" for number in range(10) for who in ("one", "two")]]
        assert contents(one, "shared") == expected
        assert lock.exists()
    assert contents(sound(data_dir), "shared") == expected


def test_a_lock_file_deleted_while_held_is_noticed_before_the_commit(data_dir: Path) -> None:
    lock = data_dir / "ws" / "lock"
    with NativeSessionManager(data_dir) as one, NativeSessionManager(data_dir) as two:
        one.add_message("ws", "shared", role="user", content="warm")
        add = messages.add("shared", [{"role": "user", "content": "one"}])
        decided: list[int] = []

        def operation(view: Any, stamp: Any) -> Any:
            decision = add(view, stamp)
            decided.append(view.seq)
            if len(decided) == 1:
                lock.unlink()
                two.add_message("ws", "shared", role="user", content="two")
            return decision

        one.workspace("ws").commit(operation)
        assert len(decided) == 2, "decided again, after what the other holder had written"
        expected = ["first", "warm", "two", "one"]
        assert contents(one, "shared") == contents(two, "shared") == expected
    manager = sound(data_dir)
    assert [message.rev for message in manager.get_session_messages("ws", "shared")] == [2, 3, 4, 5]
    manager.close()


def in_child(work: Callable[[], object]) -> None:
    """Runs `work` in a forked child; fails when it does."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except (
            BaseException
        ) as error:  # Nothing may leave the child, whatever it is: it would go on as a second pytest.
            sys.stderr.write(f"{type(error).__name__}: {error}\\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@needs_fork
def test_a_forked_child_writes_through_the_manager_that_it_inherited(data_dir: Path) -> None:
    with NativeSessionManager(data_dir) as manager:
        manager.add_message("ws", "shared", role="user", content="parent 0")
        for number in range(1, 4):
            in_child(partial(manager.add_message, "ws", "shared", role="user", content=f"child {number}"))
            manager.add_message("ws", "shared", role="user", content=f"parent {number}")
        expected = ["first", "parent 0", *[f"{who} {n}" for n in range(1, 4) for who in ("child", "parent")]]
        assert contents(manager, "shared") == expected
        in_child(lambda: manager.checkpoint("ws"))
        in_child(manager.close)
        assert contents(manager, "shared") == expected
        manager.add_message("ws", "shared", role="user", content="last")
    assert contents(sound(data_dir), "shared") == [*expected, "last"]


@needs_fork
def test_a_child_forked_while_the_lock_is_held_frees_it_for_nobody(data_dir: Path) -> None:
    with NativeSessionManager(data_dir, lock_timeout=0.2) as manager:
        workspace = manager.workspace("ws")

        def child() -> None:
            with NativeSessionManager(data_dir, lock_timeout=0.1) as fresh, pytest.raises(LockTimeoutError):
                fresh.add_message("ws", "shared", role="user", content="never")
            with pytest.raises(LockTimeoutError):
                manager.add_message("ws", "shared", role="user", content="never")

        with workspace.locked():
            in_child(child)
        manager.add_message("ws", "shared", role="user", content="parent")
        assert contents(manager, "shared") == ["first", "parent"]


@needs_fork
def test_a_child_forked_while_another_thread_opens_a_workspace_does_not_wait_for_it(data_dir: Path) -> None:
    before = init_session_manager(data_dir)
    with NativeSessionManager(data_dir) as manager:
        entered, left = threading.Event(), threading.Event()

        def hold() -> None:
            with manager._mutex, shared._default.mutex:
                entered.set()
                left.wait(20)

        holder = threading.Thread(target=hold)
        holder.start()
        assert entered.wait(20)

        def child() -> None:
            signal.alarm(20)
            manager.create_session("opened in the child", title="t")
            assert get_session_manager() is before

        in_child(child)
        left.set()
        holder.join()
        assert len(manager.list_sessions("opened in the child")) == 1
    before.close()


@needs_fork
def test_children_forked_while_threads_write_do_not_hang(data_dir: Path) -> None:
    with NativeSessionManager(data_dir) as manager:
        stopped = threading.Event()

        def work(name: str) -> None:
            number = 0
            while not stopped.is_set():
                manager.add_message("ws", "shared", role="user", content=f"{name} {number}")
                number += 1

        threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(2)]
        for thread in threads:
            thread.start()
        for number in range(8):
            in_child(partial(manager.add_message, "ws", "shared", role="user", content=f"child {number}"))
        stopped.set()
        for thread in threads:
            thread.join()
        texts = contents(manager, "shared")
        assert {f"child {number}" for number in range(8)} <= set(texts)
        assert len(texts) == len(set(texts))
    sound(data_dir).close()
