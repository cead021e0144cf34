"""A child that was forked while other threads held every lock of the package does not wait for them: they are not in
it. Promise 23."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nomad_sessions
from nomad_sessions import NativeSessionManager

ROOT = Path(nomad_sessions.__file__).parent

# Every lock, and what makes it anew in a forked child (or sees to it that no other thread holds it at that moment).
LOCKS = {
    ("aio.py", "ThreadPoolExecutor"): "AsyncSessionManager._after_fork",
    ("aio.py", "_one_at_a_time"): "AsyncMessageStream._after_fork",
    ("connections/connection.py", "_condition"): "Connection.after_fork",
    ("events/cursors.py", "_mutex"): "Cursor.after_fork",
    ("events/delivery.py", "Event"): "no lock: the type of what happened",
    ("events/delivery.py", "done"): "of one turn, by a thread that is not in the child",
    ("events/feed.py", "_mutex"): "NativeSessionManager._after_fork lets go of the hub with its feeds",
    ("events/hub.py", "_called"): "the same",
    ("events/hub.py", "_mutex"): "Hub.after_fork",
    ("events/subscription.py", "_condition"): "Subscription.after_fork",
    ("events/subscription.py", "_taking"): "Subscription.after_fork",
    ("formats/garbage.py", "_guard"): "_Setting.after_fork",
    ("formats/keeping.py", "pool"): "of one import, which goes on in the parent alone",
    ("formats/workers.py", "Event"): "of an import, by processes that are spawned",
    ("formats/workers.py", "_guard"): "the same: no other thread imports in a child",
    ("manager.py", "_mutex"): "NativeSessionManager._after_fork",
    ("search/index.py", "mutex"): "Searcher._after_fork opens new indexes",
    ("search/searcher.py", "_mutex"): "Searcher._after_fork",
    ("shared.py", "mutex"): "_Default.after_fork",
    ("storage/_os_windows.py", "_seek"): "there is no fork",
    ("storage/group_sync.py", "_changed"): "Reader._forget makes a new GroupSync",
    ("storage/lock.py", "fork_guard"): "taken before the fork, by the thread that forks",
    ("sync/chroma_connection.py", "_busy"): "_leave_to_parent makes a new one",
    ("sync/courier.py", "_busy"): "Courier.after_fork",
    ("sync/courier.py", "_called"): "Courier.after_fork",
    ("sync/two_way/memory_place.py", "_told"): "MemoryPlace._turn makes a new one",
    ("forking.py", "_lock"): "Mutex.after_fork",
    ("sources/capture.py", "_stopped"): "of a capture, whose thread is not in the child",
    ("sources/opencode_source.py", "_stopped"): "of a follower, whose thread is not in the child",
    ("task_monitor.py", "_closing"): "TaskMonitor.after_fork",
    ("task_monitor.py", "_mutex"): "TaskMonitor.after_fork",
    ("workspace/combining.py", "turn"): "a waiter in a Combiner",
    ("workspace/combining.py", "_complete"): "a waiter in a Combiner",
    ("workspace/combining.py", "complete"): "the same",
    ("workspace/combining.py", "_guard"): "Workspace._forget makes a new Combiner",
    ("workspace/displaced.py", "_guard"): "Folding.after_fork makes a new Displaced; _Watchlist.forget",
    ("workspace/holder.py", "_writing"): "Holder._forget",
    ("workspace/reader.py", "_mutex"): "Reader._forget",
    ("workspace/resting.py", "_guard"): "Awake.forget",
}
KINDS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier", "Event", "ThreadPoolExecutor"}


def locks_of(path: Path) -> set[str]:
    """The names that locks and pools of threads have in a module."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Return | ast.Assign | ast.AnnAssign) and node.value is not None:
            for call in ast.walk(node.value):
                kind = _called(call)
                if kind not in KINDS:
                    continue
                targets = getattr(node, "targets", [getattr(node, "target", None)])
                names = [getattr(each, "attr", getattr(each, "id", None)) for each in targets]
                found |= {each or kind for each in names}
    return found


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def test_each_lock_of_the_package_is_known_to_survive_a_fork() -> None:
    found = {(path.relative_to(ROOT).as_posix(), name) for path in ROOT.rglob("*.py") for name in locks_of(path)}
    assert found == set(LOCKS)


PARENT = """
import asyncio, os, signal, sys, threading
from nomad_sessions import AsyncSessionManager, NativeSessionManager, init_session_manager, shared
from nomad_sessions.search import Searcher
from nomad_sessions.sync import MemoryTarget, Synchronizer
from nomad_sessions.workspace.displaced import _WATCHLIST
from nomad_sessions.workspace.resting import AWAKE

folder = sys.argv[1]
manager = init_session_manager(folder)
manager.create_session("w", title="t", id="s")
aio = AsyncSessionManager(manager=manager)

async def busy():
    await asyncio.gather(*[aio.add_message("w", "s", role="user", content=f"parent {n}") for n in range(20)])
    return aio.stream_message("w", "s")

stream = asyncio.run(busy())
workspace = manager.workspace("w")
manager.configure_workspace("w", fold="always")
manager.checkpoint("w")
searcher = Searcher(manager)
searcher.find("parent")
subscription = manager.subscribe("w", cursor="c")
sync = Synchronizer(manager, [MemoryTarget()])
sync.push()
monitor = manager.monitor_tasks("w")
connection = manager.open_session("w", "s", exclusive=True)
held = [
    manager._mutex,
    manager._hub._mutex,
    manager._hub.feed("w")._mutex,
    subscription._condition,
    subscription._taking,
    subscription._cursor._mutex,
    sync._couriers["memory"]._busy,
    monitor._mutex,
    connection._condition,
    searcher._mutex,
    searcher._indexes["w"].mutex,
    shared._default.mutex,
    workspace.guarded(),
    workspace.locked(),
    workspace._sync._changed,
    workspace._commits._guard,
    workspace._folding.displaced._guard,
    AWAKE._guard,
    _WATCHLIST._guard,
    stream._one_at_a_time,
]
entered = threading.Barrier(len(held) + 1)
left = threading.Event()

def hold(lock):
    with lock:
        entered.wait(20)
        left.wait(30)

threads = [threading.Thread(target=hold, args=(lock,)) for lock in held]
for thread in threads:
    thread.start()
entered.wait(20)

ready, go = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    signal.alarm(30)
    status = 1
    try:
        from nomad_sessions import LockTimeoutError, get_session_manager
        assert get_session_manager() is manager
        assert len(manager.get_session_messages("w", "s")) == 20
        manager.workspace("another")
        assert searcher.find("parent").total == 20
        NativeSessionManager(folder).create_session("new", title="of a new manager")
        manager.create_session("another", title="of the inherited one")
        async def child():
            assert (await aio.get_session("w", "s")).title == "t"
            await aio.create_session("third", title="of the inherited one, with await")
        asyncio.run(child())
        assert subscription.closed and subscription.next() is None
        subscription.close()
        sync.start()
        assert sync.verify("w", target="memory") == []
        sync.close()
        assert monitor.closed and monitor.look() == []
        assert connection.state == "closed"
        connection.close()
        assert len(manager.connections("w")) == 1, "the parent's"
        with manager.subscribe("third", since=0) as own:
            assert own.next(5).properties["info"]["title"].endswith("with await")
        os.write(ready[1], b"x")
        os.read(go[0], 1)  # The parent has given its lock back.
        async def streaming():
            async with stream:
                await stream.text("from the child")
        manager.add_message("w", "s", role="user", content="child")
        asyncio.run(streaming())
        status = 0
    finally:
        os._exit(status)

os.close(ready[1])
os.read(ready[0], 1)
left.set()
for thread in threads:
    thread.join()
os.write(go[1], b"x")
_, status = os.waitpid(pid, 0)
assert subscription.next(20).properties["info"]["content"] == "child"
subscription.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_while_other_threads_hold_every_lock_reads_and_writes(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    command = [sys.executable, "-c", PARENT, str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with NativeSessionManager(data_dir) as manager:
        texts = [each.content for each in manager.get_session_messages("w", "s")]
        assert sorted(texts[:20]) == sorted(f"parent {number}" for number in range(20))
        assert texts[20:] == ["child", "from the child"]
        assert manager.list_workspaces() == ["another", "new", "third", "w"]
        assert all(manager.check(each).ok for each in manager.list_workspaces())


FORKING = """
import os, signal, sys, threading, time
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock, held
from nomad_sessions.workspace.living import Living

folder, which, when = sys.argv[1:]
reading, writing = os.pipe()


class Forking(type(REAL)):
    # Forks in another thread as a file is opened, or closed.

    thread = None

    def __init__(self, when):
        self.when = when

    def open(self, path, flags, mode=0o600, /):
        fd = super().open(path, flags, mode)
        self.at("open")
        return fd

    def close(self, fd, /):
        self.at("close")
        super().close(fd)

    def at(self, when):
        if when == self.when and self.thread is None:
            Forking.thread = threading.Thread(target=fork)
            self.thread.start()
            self.thread.join(0.2)  # It forks now, or waits until it may.


def fork():
    if not os.fork():
        os.write(writing, str(os.getpid()).encode())
        time.sleep(30)
        os._exit(0)


def living():
    one = Living(Forking(when), folder)
    if when == "open":
        Forking.thread.join()
    one.forget()
    Forking.thread.join()
    return f"{folder}/streams/{one.name}"


def locked():
    one = StoreLock(Forking(when), f"{folder}/lock")
    one.acquire()
    if when == "open":
        Forking.thread.join()
    one.close()
    Forking.thread.join()
    return one.path


def asked():
    path = f"{folder}/somebody"
    os.close(REAL.open(path, os.O_RDWR | os.O_CREAT))
    held(Forking(when), [path])
    Forking.thread.join()
    return path


path = globals()[which]()
child = int(os.read(reading, 20))
try:
    assert os.path.exists(path)
    assert not held(REAL, [path]), "the child has it"
finally:
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("when", ["open", "close"])
@pytest.mark.parametrize("which", ["living", "locked", "asked"])
def test_a_child_forked_while_another_thread_opens_or_closes_a_locks_file_does_not_keep_the_lock(
    tmp_path: Path, which: str, when: str
) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING, str(tmp_path), which, when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
