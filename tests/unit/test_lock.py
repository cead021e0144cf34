"""The workspace lock: between processes that live, stop, die, fork, and use filelock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import filelock
import pytest

import nomad_sessions
from nomad_sessions.errors import LockTimeoutError
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")

HOLDER = """
import sys
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock
lock = StoreLock(REAL, sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.readline()
lock.release()
print("free", flush=True)
sys.stdin.readline()
"""


class Holder:
    """Another process that holds the lock until told otherwise."""

    def __init__(self, path: str) -> None:
        root = Path(nomad_sessions.__file__).parent.parent
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
        )
        self.expect("held")

    def expect(self, line: str) -> None:
        assert self._pipe(self.process.stdout).readline().strip() == line

    def let_go(self) -> None:
        stdin = self._pipe(self.process.stdin)
        stdin.write("\n")
        stdin.flush()
        self.expect("free")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def hold(path: str) -> Iterator[Callable[[], Holder]]:
    holders: list[Holder] = []

    def start() -> Holder:
        holders.append(Holder(path))
        return holders[-1]

    yield start
    for holder in holders:
        holder.end()


@pytest.fixture
def lock(path: str) -> Iterator[StoreLock]:
    made = StoreLock(REAL, path, timeout=5.0)
    yield made
    made.close()


def is_free(path: str) -> bool:
    """Asked by a third descriptor of the kernel, so it holds within one process too."""
    fd = os.open(path, os.O_RDWR)
    try:
        return REAL.lock(fd)
    finally:
        os.close(fd)


def test_acquire_holds_and_release_frees_and_the_descriptor_stays_open(path: str, lock: StoreLock) -> None:
    for _ in range(3):
        lock.acquire()
        assert (lock.held, lock.verify(), is_free(path)) == (True, True, False)
        lock.release()
        assert (lock.held, lock.verify(), is_free(path)) == (False, False, True)


def test_the_lock_file_is_permanent_empty_and_private(path: str, lock: StoreLock) -> None:
    with lock:
        pass
    lock.close()
    found = REAL.stat(path)
    assert found is not None
    assert (found.size, found.mode & 0o777) == (0, 0o600)


def test_what_lies_in_the_lock_file_is_left_alone(path: str, lock: StoreLock) -> None:
    Path(path).write_bytes(b"someone's")
    with lock:
        assert Path(path).read_bytes() == b"someone's"


def test_acquiring_twice_is_a_mistake_and_releasing_twice_is_not(path: str, lock: StoreLock) -> None:
    lock.acquire()
    with pytest.raises(RuntimeError, match="not reentrant"):
        lock.acquire()
    assert lock.held
    lock.release()
    lock.release()
    lock.close()
    lock.close()
    lock.acquire()
    assert not is_free(path)


def test_a_held_lock_times_out_with_its_path_and_the_time_waited(path: str, lock: StoreLock) -> None:
    other = StoreLock(REAL, path)
    with other:
        for timeout in (0.0, 0.05):
            start = time.monotonic()
            with pytest.raises(LockTimeoutError) as caught:
                lock.acquire(timeout)
            assert caught.value.path == path
            assert timeout <= caught.value.waited < timeout + 0.5
            assert time.monotonic() - start < timeout + 0.5
        assert other.verify()
    lock.acquire(0)
    other.close()


@pytest.mark.processes
def test_a_waiter_gets_the_lock_soon_after_another_process_frees_it(
    hold: Callable[[], Holder], lock: StoreLock
) -> None:
    holder = hold()
    with pytest.raises(LockTimeoutError):
        lock.acquire(0.01)
    holder.let_go()
    lock.acquire(0.5)


@pytest.mark.processes
def test_killing_the_holder_frees_the_lock_at_once(hold: Callable[[], Holder], lock: StoreLock) -> None:
    holder = hold()
    with pytest.raises(LockTimeoutError):
        lock.acquire(0)
    holder.process.send_signal(signal.SIGKILL)
    assert holder.process.wait() == -signal.SIGKILL
    lock.acquire(0)


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the platform cannot stop a process")
def test_a_stopped_holder_is_never_robbed(hold: Callable[[], Holder], path: str, lock: StoreLock) -> None:
    holder = hold()
    holder.process.send_signal(signal.SIGSTOP)
    with pytest.raises(LockTimeoutError) as caught:
        lock.acquire(0.2)
    assert caught.value.waited >= 0.2
    assert not is_free(path)
    holder.process.send_signal(signal.SIGCONT)
    holder.let_go()
    lock.acquire(1.0)


@pytest.mark.processes
def test_filelock_and_this_lock_exclude_each_other(hold: Callable[[], Holder], path: str, lock: StoreLock) -> None:
    theirs = filelock.FileLock(path, timeout=0, fallback_to_soft=False)
    holder = hold()
    with pytest.raises(filelock.Timeout):
        theirs.acquire()
    holder.end()
    with theirs:
        with pytest.raises(LockTimeoutError):
            lock.acquire(0.02)
        assert not lock.held
    with lock, pytest.raises(filelock.Timeout):
        theirs.acquire()


@needs_fork
@pytest.mark.processes
@pytest.mark.parametrize("act", ["release", "close", "nothing"])
def test_a_forked_child_never_unlocks_the_parents_lock(path: str, lock: StoreLock, act: str) -> None:
    lock.acquire()
    fd = lock._fd

    def child() -> bool:
        forgotten = not lock.held and not lock.verify() and lock._fd == -1 and not is_descriptor(fd)
        if act != "nothing":
            getattr(lock, act)()
        return forgotten

    assert in_child(child)
    assert lock.verify()
    assert not is_free(path)
    lock.release()
    assert is_free(path)


@needs_fork
@pytest.mark.processes
def test_a_forked_child_waits_for_its_parent_like_everybody_and_then_has_a_lock_of_its_own(
    path: str, lock: StoreLock
) -> None:
    lock.acquire()

    def refused() -> bool:
        try:
            lock.acquire(0.02)
        except LockTimeoutError:
            return True
        return False

    assert in_child(refused)
    lock.release()

    def works() -> bool:
        lock.acquire(0)
        return lock.verify() and not is_free(path)

    assert in_child(works)
    lock.acquire(0)


@needs_fork
@pytest.mark.processes
def test_a_child_that_outlives_a_killed_parent_does_not_keep_its_lock(path: str, lock: StoreLock) -> None:
    script = """
import os, signal, sys, time
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock
lock = StoreLock(REAL, sys.argv[1])
lock.acquire()
if os.fork() == 0:
    print("child", flush=True)
    sys.stdin.readline()
    os._exit(0)
time.sleep(30)
"""
    root = Path(nomad_sessions.__file__).parent.parent
    parent = subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "child\n"
    with pytest.raises(LockTimeoutError):
        lock.acquire(0)
    parent.kill()
    parent.wait()
    lock.acquire(0)
    parent.communicate("\n")


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_file_deleted_or_replaced_while_held_is_noticed(path: str, lock: StoreLock, replaced: bool) -> None:
    lock.acquire()
    os.unlink(path)
    if replaced:
        Path(path).touch()
    assert lock.held
    assert not lock.verify()
    other = StoreLock(REAL, path)
    with other:
        lock.release()
        with pytest.raises(LockTimeoutError):
            lock.acquire(0.02)
        assert other.verify()
    other.close()
    lock.acquire(0)
    assert lock.verify()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
def test_a_lock_file_deleted_between_acquisitions_is_made_anew(path: str, lock: StoreLock) -> None:
    with lock:
        pass
    os.unlink(path)
    with lock:
        assert lock.verify()
        assert not is_free(path)


def test_a_missing_folder_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StoreLock(REAL, str(tmp_path / "no" / "lock")).acquire()


@pytest.mark.processes
def test_four_processes_counting_in_one_file_lose_no_step(path: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    script = """
import sys
from pathlib import Path
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock
lock, counter = StoreLock(REAL, sys.argv[1], timeout=60), Path(sys.argv[2])
for _ in range(100):
    with lock:
        counter.write_text(str(int(counter.read_text()) + 1))
"""
    root = Path(nomad_sessions.__file__).parent.parent
    running = [subprocess.Popen([sys.executable, "-c", script, path, str(counter)], cwd=root) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert counter.read_text() == "400"


def is_descriptor(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def in_child(question: Callable[[], bool]) -> bool:
    """Ask it in a forked child."""
    pid = os.fork()
    if pid == 0:
        answer = False
        try:
            answer = question()
        finally:
            os._exit(0 if answer else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
